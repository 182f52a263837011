import Base
import Testing

@testable import Shadows

/// Gives listed bytes, in order.
private final class ListedEntropy: Entropy, @unchecked Sendable {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    precondition(rest.count >= buffer.count, "\(buffer.count) bytes of \(rest.count)")
    buffer.copyBytes(from: rest.prefix(buffer.count))
    rest = rest.dropFirst(buffer.count)
  }
}

@Suite struct KrawczykSchemeTests {
  let scheme = KrawczykScheme()
  static let secret = (0..<1500).map { UInt8(($0 * $0 + 3 * $0) & 255) }
  /// From a program in Python that shares no code with this one: tables of logarithms, and AES from another library.
  static let digestsHex = [
    "0d062840471c54a33dcf65ab36825ac278ca064a01572b0a7af42c75faa7393b",
    "857e3619b24d1f7e45923707428b62d6dc8ad928e9c8cd3baab51930fa4e329f",
    "68989dc1bf84cfa1ea3272333c9249236e369dcba5b97519bcbadf4c18e91dc2",
    "bbbe493477573f45e1c8fb0d74969a338c646de8254d2caba81f84fe688bee02",
    "092fbbbae156bfea3521c48646da9b10de316c35f27c25780a7240bea55a1d66",
  ]

  @Test func shadowsOfGivenBytes() throws {
    let coefficients = (0..<64).map { UInt8((7 * $0 + 5) & 255) }
    let shadows = try scheme.split(
      secret: Self.secret, threshold: 3, shadowCount: 5, imageID: sequentialID, epoch: 1,
      entropy: ListedEntropy(Array(100..<132) + coefficients))
    #expect(shadows.map(\.byteCount) == [580, 580, 580, 580, 580])
    #expect(shadows.map { $0.digest().hex } == Self.digestsHex)
  }

  @Test func theFieldIsAField() {
    var products: Set<UInt8> = []
    for value in UInt8.min...UInt8.max {
      #expect(ByteField.multiply(value, 1) == value)
      #expect(ByteField.multiply(value, ByteField.inverse(value)) == (value == 0 ? 0 : 1))
      products.insert(ByteField.multiply(value, 0x53))
    }
    #expect(products.count == 256)
    // x^8 = x^4 + x^3 + x^2 + 1 in this field.
    #expect(ByteField.multiply(0x80, 2) == 0x1D)
  }

  @Test func bodies() throws {
    for (byteCount, threshold, expected) in [
      (0, 2, 48), (1, 2, 48), (32, 2, 48), (33, 2, 64), (48, 3, 48), (49, 3, 64),
      (64 << 20, 6, 32 + 11_184_816),
    ] {
      #expect(
        try scheme.bodyByteCount(secretByteCount: byteCount, threshold: threshold) == expected,
        "\(byteCount) bytes, r = \(threshold)")
    }
  }

  /// With r - 1 shares every key is as likely: for each there is one polynomial through these shares and it.
  @Test func fewerSharesSayNothing() {
    let shares: [[UInt8]] = [[17], [204]]
    var third: Set<UInt8> = []
    for key in UInt8.min...UInt8.max {
      third.insert(shareAt3(key, shares))
    }
    #expect(third.count == 256)
  }

  private func shareAt3(_ key: UInt8, _ shares: [[UInt8]]) -> UInt8 {
    // The node 0 stands for the key itself: the interpolation does not care.
    KeySharing.value(at: 3, indices: [0, 1, 2], shares: [[key]] + shares)[0]
  }

  /// Its shadows are of another kind than Bai's, and neither scheme takes the other's.
  @Test func schemesDoNotMix() throws {
    let bai = try BaiScheme().split(
      secret: Self.secret, threshold: 2, shadowCount: 3, imageID: sequentialID, epoch: 1,
      entropy: SystemEntropy())
    let krawczyk = try scheme.split(
      secret: Self.secret, threshold: 2, shadowCount: 3, imageID: sequentialID, epoch: 1,
      entropy: SystemEntropy())
    #expect(throws: ShadowError.malformedShadow(.unknownFormat)) {
      try scheme.join(shadows: bai, threshold: 2, expectedDigests: digests(of: bai))
    }
    #expect(throws: ShadowError.malformedShadow(.unknownFormat)) {
      try BaiScheme().join(shadows: krawczyk, threshold: 2, expectedDigests: digests(of: krawczyk))
    }
    let mixed = [bai[0], krawczyk[1]]
    #expect(throws: ShadowError.malformedShadow(.unknownFormat)) {
      try scheme.join(shadows: mixed, threshold: 2, expectedDigests: digests(of: mixed))
    }
    #expect(try Shadow(parsing: krawczyk[1].bytes) == krawczyk[1])
  }

  @Test func everyAlteredByteIsNoticed() throws {
    let shadows = try scheme.split(
      secret: Array(Self.secret.prefix(100)), threshold: 3, shadowCount: 5, imageID: sequentialID,
      epoch: 1, entropy: SystemEntropy())
    let recorded = digests(of: shadows)
    let bytes = shadows[1].bytes
    for position in bytes.indices {
      var altered = bytes
      altered[position] ^= 1 << UInt8(position % 8)
      #expect(throws: ShadowError.self, "byte \(position)") {
        let shadow = try Shadow(parsing: altered)
        _ = try scheme.join(
          shadows: [shadows[0], shadow, shadows[2]], threshold: 3, expectedDigests: recorded)
      }
    }
    #expect(throws: ShadowError.malformedShadow(.wrongBodyLength(byteCount: 79, expected: 80))) {
      let short = Shadow(header: shadows[1].header, body: Array(shadows[1].body.dropLast()))
      let set = [shadows[0], short, shadows[2]]
      _ = try scheme.join(shadows: set, threshold: 3, expectedDigests: digests(of: set))
    }
    // A repaired shadow is checked against its record.
    #expect(throws: ShadowError.contradictoryShadows) {
      var known = recorded
      known[4] = [UInt8](repeating: 0, count: 32)
      _ = try scheme.repair(lost: 4, shadows: shadows, threshold: 3, expectedDigests: known)
    }
  }
}
