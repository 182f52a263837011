import Base
import Foundation
import Shadows
import Testing

/// Whole shadows against the reference implementation, byte for byte.
@Suite struct BaiVectorTests {
  static let secret = (0..<1500).map { UInt8((7 * $0 + 3) & 255) }
  static let digestsHex = [
    "cf010124ffffc13ebdb15c171753928e0c7a728335cb73f2f8d90ab83b369af5",
    "d2329e799a0e67599a73f2f662bd42da1c14918c1c744a6f7e3b694c54e1b68d",
    "d0d5344cd63acff43693f7aeec431a443c77d030c26a656dce0e3b3ba38fb4c6",
    "7cff30d4a51455b0565c16e10b46b47858decb5eb5bcca9ac4820fd730e1ca19",
    "265101cd438dd7bff5b2ac36996aa26810ddae2fd96e47a2dde32f095689d7fa",
  ]

  static func published() throws -> [Shadow] {
    try BaiScheme().split(
      secret: secret, threshold: 3, shadowCount: 5, imageID: sequentialID, epoch: 1
    ) { ShakeStream(seed: "SFMedIR-bai-test") }
  }

  @Test func publishedShadows() throws {
    let shadows = try Self.published()
    #expect(shadows.map(\.byteCount) == [644, 644, 644, 644, 644])
    #expect(shadows.map { $0.digest().hex } == Self.digestsHex)
    #expect(shadows.map { sha256($0.bytes).hex } == Self.digestsHex)
    for chosen in combinations(Array(0..<5), 3) {
      let joined = try BaiScheme().join(
        shadows: chosen.map { shadows[$0] }, threshold: 3, expectedDigests: digests(of: shadows))
      #expect(joined == Self.secret, "from \(chosen)")
    }
  }

  /// K_R of the vector: the open remainder masked with it is what the data shards hold.
  @Test func publishedKey() throws {
    let key = [UInt8](hex: "3c57d927a3d7d89ab4bb37db7122a7f4cbe435e9aedbb95a353959aac08b22cf")!
    let shadows = try Self.published()
    var remainder = shadows[0..<3].flatMap { $0.body[96...] }
    remainder.withUnsafeMutableBytes {
      AES256CTR.apply(inPlace: $0, key: key, counter: [UInt8](repeating: 0, count: 16))
    }
    var stream = ShakeStream(seed: "SFMedIR-bai-test")
    var matrix: [UInt32] = []
    while matrix.count < 48 {
      let bytes = stream.bytes(3)
      let value = UInt32(bytes[0]) | UInt32(bytes[1]) << 8 | UInt32(bytes[2] & 1) << 16
      if value <= 65536 { matrix.append(value) }
    }
    let projection = try #require(FieldTests.projection(order: 16, rank: 3, matrix))
    for word in 0..<256 {
      let secret = UInt32(Self.secret[2 * word]) | UInt32(Self.secret[2 * word + 1]) << 8
      let open = UInt32(remainder[2 * word]) | UInt32(remainder[2 * word + 1]) << 8
      #expect((projection[word] + open) % 65537 == secret, "word \(word)")
    }
  }

  /// Shadows as they were first written: a later version must still open them.
  @Test func goldenFile() throws {
    let url = try #require(
      Bundle.module.url(
        forResource: "bai1-golden", withExtension: "shadows", subdirectory: "Resources"))
    let bytes = [UInt8](try Data(contentsOf: url))
    #expect(bytes.count == 5 * 644)
    let shadows = try (0..<5).map { try Shadow(parsing: Array(bytes[644 * $0..<644 * ($0 + 1)])) }
    #expect(shadows.map { $0.digest().hex } == Self.digestsHex)
    #expect(shadows == (try Self.published()))
    let joined = try BaiScheme().join(
      shadows: [shadows[4], shadows[1], shadows[3]], threshold: 3,
      expectedDigests: digests(of: shadows))
    #expect(joined == Self.secret)
  }

  struct Reference: Sendable, CustomTestStringConvertible {
    let seed: String
    let byteCount: Int
    let threshold: Int
    let shadowCount: Int
    let digestHex: String
    var testDescription: String { seed }
  }

  /// The secret is SHAKE-256("secret" + seed), the digest that of all shadows in one piece; with
  /// the first seed the reference drew several blocks again.
  @Test(arguments: [
    Reference(
      seed: "SFMedIR-bai-retry-1", byteCount: 60_000, threshold: 6, shadowCount: 10,
      digestHex: "4eb59dd16c467d27e187c4ceefc4b393c481d435a538ea2f272015b5795dc48e"),
    Reference(
      seed: "SFMedIR-bai-retry", byteCount: 100_000, threshold: 6, shadowCount: 10,
      digestHex: "1ff7f790645c806b3f2676dd6990e4f6f85c39d5a1b250edbb2c752a17482c59"),
    Reference(
      seed: "SFMedIR-bai-eight", byteCount: 40_000, threshold: 8, shadowCount: 9,
      digestHex: "4f74381349f33cb06b3e37cdff188f191110118a6ff640d0184d5d0b544d8928"),
    Reference(
      seed: "SFMedIR-bai-two", byteCount: 5_000, threshold: 2, shadowCount: 4,
      digestHex: "d9f488d7fa9fbcf76bfe5f3f6988bca110018ea36b7e1140db020a33e38e58be"),
  ]) func referenceShadows(_ reference: Reference) throws {
    var secretStream = ShakeStream(seed: "secret" + reference.seed)
    let secret = secretStream.bytes(reference.byteCount)
    let shadows = try BaiScheme().split(
      secret: secret, threshold: reference.threshold, shadowCount: reference.shadowCount,
      imageID: ImageID(Array(16..<32))!, epoch: 7
    ) { ShakeStream(seed: reference.seed) }
    #expect(sha256(shadows.flatMap(\.bytes)).hex == reference.digestHex)
    let joined = try BaiScheme().join(
      shadows: shadows.suffix(reference.threshold), threshold: reference.threshold,
      expectedDigests: digests(of: shadows))
    #expect(joined == secret)
  }

  static func encoded(_ elements: [UInt32]) -> [UInt8] {
    elements.flatMap { [UInt8($0 & 255), UInt8($0 >> 8 & 255), UInt8($0 >> 16)] }
  }

  /// A matrix without inverse, or with a vector that does not fit 16 bits, leaves no trace.
  @Test func refusedMatricesAreDrawnAgain() throws {
    let dependent = (0..<16).flatMap { (n: UInt32) -> [UInt32] in [n + 1, n + 1, 3 * n] }
    var tooLarge = (0..<48).map { (n: UInt32) -> UInt32 in (n * n * 977 + 5) % 60_000 }
    tooLarge.replaceSubrange(27..<30, with: [65536, 0, 0])
    #expect(FieldTests.projection(order: 16, rank: 3, dependent) == nil)
    #expect(FieldTests.projection(order: 16, rank: 3, tooLarge) != nil)
    for refused in [dependent, tooLarge, dependent + tooLarge + dependent] {
      let shadows = try BaiScheme().split(
        secret: Self.secret, threshold: 3, shadowCount: 5, imageID: sequentialID, epoch: 1
      ) {
        PrefixedSource(
          prefix: Self.encoded(refused), rest: ShakeStream(seed: "SFMedIR-bai-test"))
      }
      #expect(shadows.map { $0.digest().hex } == Self.digestsHex)
    }
  }

  /// A first column with inner square 0 has no Gram-Schmidt step, but is a legal matrix.
  @Test func isotropicColumns() throws {
    var matrix = (0..<48).map { (n: UInt32) -> UInt32 in (n * n * 977 + 5) % 60_000 }
    for row in 0..<16 { matrix[3 * row] = row == 0 ? 1 : row == 1 ? 256 : 0 }
    let projection = try #require(FieldTests.projection(order: 16, rank: 3, matrix))
    let shadows = try BaiScheme().split(
      secret: Self.secret, threshold: 3, shadowCount: 5, imageID: sequentialID, epoch: 1
    ) {
      PrefixedSource(prefix: Self.encoded(matrix), rest: ShakeStream(seed: "SFMedIR-bai-test"))
    }
    for shadow in shadows {
      let words = (0..<16).map {
        UInt32(shadow.body[2 * $0]) | UInt32(shadow.body[2 * $0 + 1]) << 8
      }
      #expect(words == FieldTests.share(order: 16, rank: 3, matrix, shadow.index))
    }
    for chosen in combinations(Array(0..<5), 3) {
      let joined = try BaiScheme().join(
        shadows: chosen.map { shadows[$0] }, threshold: 3, expectedDigests: digests(of: shadows))
      #expect(joined == Self.secret, "from \(chosen), first word of P \(projection[0])")
    }
  }
}
