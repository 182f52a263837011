import Base
import ImageCipher
import Testing

/// Containers that were cut, altered or made up: a typed error each, never a crash, never a byte
/// of the file.
struct HostileContainerTests {
  static let container = encrypt(
    Vector.parabola(150), entropy: FixedEntropy(source: Vector.random))

  @Test func everyFlippedBitIsDetected() {
    for bit in 0..<8 * Self.container.count {
      var altered = Self.container
      altered[bit / 8] ^= 1 << UInt8(bit % 8)
      let expected: ImageCipherError? =
        switch bit / 8 {
        case 0..<4: .notAContainer
        case 4: .unknownVersion(altered[4])
        case 5: .unknownFlags(altered[5])
        case 16..<24: nil
        default: .sealBroken
        }
      let found = failure(altered)
      #expect(found != nil, "bit \(bit)")
      if let expected { #expect(found == expected, "bit \(bit)") }
    }
  }

  /// Lengths with the same number of blocks pass the first check and must break the seal.
  @Test func aNearbyLengthBreaksTheSeal() {
    for length in UInt8(129)...192 where length != 150 {
      var altered = Self.container
      altered[23] = length
      #expect(failure(altered) == .sealBroken, "length \(length)")
    }
    for length: UInt8 in [0, 1, 64, 128, 193, 255] {
      var altered = Self.container
      altered[23] = length
      #expect(
        failure(altered)
          == .lengthMismatch(
            declaredPlaintextBytes: UInt64(length), containerBytes: altered.count))
    }
  }

  @Test func everyTruncationIsAnError() {
    for count in 0..<Self.container.count {
      let cut = Array(Self.container.prefix(count))
      let expected: ImageCipherError =
        count < 64
        ? .truncated(containerBytes: count)
        : .lengthMismatch(declaredPlaintextBytes: 150, containerBytes: count)
      #expect(failure(cut) == expected, "\(count) bytes")
    }
    for extra in [1, 16, 64, 65_536] {
      let longer = Self.container + [UInt8](repeating: 0, count: extra)
      #expect(
        failure(longer)
          == .lengthMismatch(declaredPlaintextBytes: 150, containerBytes: longer.count))
    }
  }

  static let hugeLengths: [UInt64] = [
    0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF_FFFF_FFF0, 0xFFFF_FFFF_FFFF_FFC0, 0x8000_0000_0000_0000,
    0x7FFF_FFFF_FFFF_FFFF, 0x7FFF_FFFF_FFFF_FFC0, 0x4000_0000_0000_0000, 0x0000_0100_0000_0000,
    0x0000_0010_0000_0000, 0x0000_000F_FFFF_FFC0,
  ]

  @Test(arguments: hugeLengths)
  func hugeLengthsAreRefusedBeforeAllocation(length: UInt64) {
    var altered = Self.container
    var bytes: [UInt8] = []
    bytes.append(bigEndian: length)
    altered.replaceSubrange(16..<24, with: bytes)
    #expect(
      failure(altered)
        == .lengthMismatch(declaredPlaintextBytes: length, containerBytes: altered.count))
  }

  @Test func otherVersionsAreNamed() {
    for version in UInt8(0)...255 where version != 1 {
      var altered = Self.container
      altered[4] = version
      #expect(failure(altered) == .unknownVersion(version))
      // A later version may be shorter than ours: it is still named.
      #expect(failure(Array(altered.prefix(5))) == .unknownVersion(version))
    }
  }

  @Test func otherBytesAreNoContainer() {
    #expect(failure([0x89, 0x50]) == .notAContainer)
    #expect(failure([UInt8](repeating: 0, count: 1000)) == .notAContainer)
    let seed = UInt64.random(in: 0 ... .max)
    let entropy = SeededEntropy(seed: seed)
    for _ in 0..<300 {
      let noise = Array("QMS1".utf8) + [1, 1] + entropy.bytes(entropy.below(300))
      #expect(failure(noise) != nil, "seed \(seed)")
    }
  }

  @Test func aWrongKeyGivesTheSealErrorOnly() {
    #expect(failure(Self.container, key: Vector.otherKey) == .sealBroken)
    for bit in 0..<256 {
      var bytes = Array(UInt8(0)..<32)
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(failure(Self.container, key: SecretBytes(bytes)) == .sealBroken, "key bit \(bit)")
    }
  }

  @Test func errorsReadAsOneSentence() {
    let errors: [ImageCipherError] = [
      .notAContainer, .unknownVersion(9), .unknownFlags(3), .truncated(containerBytes: 7),
      .lengthMismatch(declaredPlaintextBytes: 99, containerBytes: 64), .sealBroken,
    ]
    let texts = errors.map(\.description)
    #expect(Set(texts).count == texts.count)
    #expect(texts[1].contains("version 9"))
    #expect(texts[4].contains("99") && texts[4].contains("64"))
  }
}
