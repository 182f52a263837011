import Base
import Shadows
import Testing

/// Bytes that no split made must end in a typed error, never in a crash or a wrong secret.
@Suite struct HostileShadowTests {
  let scheme = BaiScheme()
  let shadows: [Shadow]
  let recorded: [Int: [UInt8]]

  init() throws {
    shadows = try BaiVectorTests.published()
    recorded = digests(of: shadows)
  }

  @Test func everyAlteredByteOfABodyIsNoticed() throws {
    for position in shadows[1].body.indices {
      var body = shadows[1].body
      body[position] ^= UInt8(1 << (position % 8))
      let altered = Shadow(header: shadows[1].header, body: body)
      #expect(throws: ShadowError.corruptShadow(index: 2), "byte \(position)") {
        try scheme.join(
          shadows: [shadows[0], altered, shadows[2]], threshold: 3, expectedDigests: recorded)
      }
      #expect(throws: ShadowError.corruptShadow(index: 2), "byte \(position)") {
        try scheme.repair(
          lost: 5, shadows: [shadows[0], altered, shadows[2]], threshold: 3,
          expectedDigests: recorded)
      }
    }
  }

  @Test func everyAlteredByteOfAHeaderIsNoticed() throws {
    for position in 0..<ShadowHeader.byteCount {
      var bytes = shadows[1].bytes
      bytes[position] ^= 0x80
      #expect(throws: ShadowError.self, "byte \(position)") {
        let altered = try Shadow(parsing: bytes)
        _ = try scheme.join(
          shadows: [shadows[0], altered, shadows[2]], threshold: 3, expectedDigests: recorded)
      }
    }
  }

  @Test func headers() throws {
    let bytes = shadows[3].header.bytes
    #expect(bytes.count == 36)
    #expect(
      bytes.hex == "42414931" + "01100400" + "00000001"
        + "000102030405060708090a0b0c0d0e0f" + "00000000000005dc")
    #expect(try ShadowHeader(parsing: bytes + [1, 2]) == shadows[3].header)
    func fault(_ position: Int, _ value: UInt8) -> ShadowError? {
      var altered = bytes
      altered[position] = value
      return #expect(throws: ShadowError.self) { try ShadowHeader(parsing: altered) }
    }
    #expect(fault(3, 0x32) == .malformedShadow(.unknownFormat))
    #expect(fault(4, 2) == .malformedShadow(.unsupportedVersion(2)))
    #expect(fault(5, 8) == .malformedShadow(.unsupportedBlockOrder(8)))
    #expect(fault(6, 0) == .malformedShadow(.indexZero))
    #expect(fault(7, 1) == .malformedShadow(.reservedByteInUse(1)))
    #expect(
      fault(28, 0xFF) == .secretTooLarge(byteCount: 0xFF << 56 | 1500, maximum: 1 << 30))
    #expect(
      fault(28, 0x7F) == .secretTooLarge(byteCount: 0x7F << 56 | 1500, maximum: 1 << 30))
    for count in 0..<36 {
      #expect(throws: ShadowError.malformedShadow(.truncatedHeader(byteCount: count))) {
        try ShadowHeader(parsing: Array(bytes.prefix(count)))
      }
    }
    #expect(throws: ShadowError.indexOutOfRange(256)) {
      try ShadowHeader(index: 256, epoch: 1, imageID: sequentialID, secretByteCount: 1)
    }
  }

  /// Even with a digest recorded for it.
  @Test func wrongLengths() throws {
    for count in [0, 1, 36, 96, 607, 609, 100_000] {
      let body = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
      var set = shadows
      set[2] = Shadow(header: shadows[2].header, body: body)
      #expect(
        throws: ShadowError.malformedShadow(.wrongBodyLength(byteCount: count, expected: 608))
      ) {
        try scheme.join(
          shadows: Array(set.prefix(3)), threshold: 3, expectedDigests: digests(of: set))
      }
    }
    // A gigabyte is claimed in three headers: refused before anything is allocated for it.
    let claims = try (1...3).map {
      Shadow(
        header: try ShadowHeader(
          index: $0, epoch: 1, imageID: sequentialID, secretByteCount: 1 << 30), body: [1])
    }
    let expected = try scheme.bodyByteCount(secretByteCount: 1 << 30, threshold: 3)
    #expect(
      throws: ShadowError.malformedShadow(.wrongBodyLength(byteCount: 1, expected: expected))
    ) { try scheme.join(shadows: claims, threshold: 3, expectedDigests: digests(of: claims)) }
  }

  @Test func mixedSets() throws {
    func other(_ imageID: ImageID, _ epoch: UInt32, _ byteCount: Int) throws -> Shadow {
      Shadow(
        header: try ShadowHeader(
          index: 2, epoch: epoch, imageID: imageID, secretByteCount: byteCount),
        body: shadows[1].body)
    }
    let strangers = [
      try other(ImageID(Array(1...16))!, 1, 1500), try other(sequentialID, 2, 1500),
      try other(sequentialID, 1, 1499),
    ]
    for stranger in strangers {
      let set = [shadows[0], stranger, shadows[2]]
      #expect(throws: ShadowError.inconsistentShadows(index: 2)) {
        try scheme.join(shadows: set, threshold: 3, expectedDigests: digests(of: set))
      }
    }
    var partial = recorded
    partial[3] = nil
    #expect(throws: ShadowError.missingDigest(index: 3)) {
      try scheme.join(shadows: Array(shadows[0..<3]), threshold: 3, expectedDigests: partial)
    }
    #expect(throws: ShadowError.missingDigest(index: 3)) {
      try scheme.repair(
        lost: 3, shadows: Array(shadows[0..<2] + [shadows[4]]), threshold: 3,
        expectedDigests: partial)
    }
    #expect(throws: ShadowError.indexOutOfRange(0)) {
      try scheme.repair(lost: 0, shadows: shadows, threshold: 3, expectedDigests: recorded)
    }
    #expect(throws: ShadowError.impossibleThreshold(threshold: 9, shadowCount: 5)) {
      try scheme.join(shadows: shadows, threshold: 9, expectedDigests: recorded)
    }
  }

  @Test func inventedSets() throws {
    let seed: UInt64 = 555
    let entropy = SeededEntropy(seed: seed)
    let length = try scheme.bodyByteCount(secretByteCount: 100_000, threshold: 3)
    func invented(_ body: (Int) -> [UInt8]) throws -> [Shadow] {
      try (1...3).map {
        Shadow(
          header: try ShadowHeader(
            index: $0, epoch: 1, imageID: sequentialID, secretByteCount: 100_000), body: body($0))
      }
    }
    // Vectors that span nothing, or less than r dimensions.
    for fill: UInt8 in [0, 7] {
      let set = try invented { _ in [UInt8](repeating: fill, count: length) }
      #expect(throws: ShadowError.contradictoryShadows) {
        try scheme.join(shadows: set, threshold: 3, expectedDigests: digests(of: set))
      }
    }
    var contradictions = 0
    for _ in 0..<12 {
      let set = try invented { _ in entropy.bytes(length) }
      do {
        let joined = try scheme.join(
          shadows: set, threshold: 3, expectedDigests: digests(of: set))
        #expect(joined.count == 100_000)
      } catch {
        #expect(error == .contradictoryShadows, "seed \(seed)")
        contradictions += 1
      }
    }
    // Half of all sets of this length have a sum of 65536 somewhere.
    #expect(contradictions > 0, "seed \(seed)")
    // An invented shadow that a repair gives must not pass for the recorded one.
    #expect(throws: ShadowError.contradictoryShadows) {
      let set = try invented { _ in [UInt8](repeating: 1, count: length) }
      var known = digests(of: set)
      known[4] = [UInt8](repeating: 0, count: 32)
      _ = try scheme.repair(lost: 4, shadows: set, threshold: 3, expectedDigests: known)
    }
  }
}
