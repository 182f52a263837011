import Base
import Foundation
import Synchronization
import Testing

@testable import Shadows

/// A split, join and repair piece by piece: the same bytes as at once, in constant memory.
@Suite struct StreamingTests {
  static let names = ShadowSchemes.names
  /// Around blocks, batches of blocks, pieces of bodies and of the secret.
  static let sizes = [
    0, 1, 15, 16, 17, 511, 512, 513, 1023, 1024, 1025, 131_071, 131_072, 131_073, 393_216,
    524_287, 524_288, 524_289, 1_048_576, 1_048_577, 2_500_001,
  ]

  func scheme(_ name: String, cores: Int = 1) throws -> any ShadowScheme {
    try #require(ShadowSchemes.named(name, coreCount: cores))
  }

  /// All bodies, and the digests.
  func collect(_ splitter: ShadowSplitter) throws -> ([Shadow], [Int: [UInt8]]) {
    var bodies = splitter.headers.map { _ in [UInt8]() }
    while let pieces = try splitter.next() {
      #expect(Set(pieces.map(\.count)).count == 1)
      for (place, piece) in pieces.enumerated() { bodies[place] += piece }
    }
    #expect(splitter.position == splitter.bodyByteCount)
    let shadows = zip(splitter.headers, bodies).map { Shadow(header: $0, body: $1) }
    let digests = splitter.finish()
    return (shadows, Dictionary(uniqueKeysWithValues: zip(shadows.map(\.index), digests)))
  }

  func join(_ joiner: ShadowJoiner) throws -> [UInt8] {
    var secret: [UInt8] = []
    while let piece = try joiner.next() { secret += piece }
    return secret
  }

  func stored(_ shadows: some Sequence<Shadow>, inMemory: Bool) -> [StoredShadow] {
    shadows.map {
      StoredShadow(
        header: $0.header, body: inMemory ? MemoryBytes(copying: $0.body) : ArrayBytes($0.body),
        bodyByteCount: $0.body.count)
    }
  }

  /// Bai's form draws the same matrices in the same order, Krawczyk's the same key, from equal seeds.
  @Test(arguments: names, sizes) func equalsTheArrays(name: String, byteCount: Int) throws {
    let scheme = try scheme(name)
    let secret = SeededEntropy(seed: 31).bytes(byteCount)
    for (threshold, shadowCount) in [(2, 3), (3, 5), (6, 10)] {
      let expected = try scheme.split(
        secret: secret, threshold: threshold, shadowCount: shadowCount, imageID: sequentialID,
        epoch: 3, entropy: SeededEntropy(seed: 7))
      let scratchBytes = try scheme.scratchByteCount(
        secretByteCount: byteCount, threshold: threshold)
      // Where the secret lies, and elsewhere; lent, and copied.
      let inPlace = MemoryBytes(copying: secret, byteCount: scratchBytes)
      let forms: [(any RandomAccessBytes, any RandomAccessScratch)] = [
        (inPlace, inPlace), (ArrayBytes(secret), MemoryBytes(byteCount: scratchBytes)),
      ]
      for (bytes, scratch) in forms {
        let (shadows, digests) = try collect(
          scheme.splitter(
            secret: bytes, secretByteCount: byteCount, scratch: scratch, threshold: threshold,
            shadowCount: shadowCount, imageID: sequentialID, epoch: 3,
            entropy: SeededEntropy(seed: 7)))
        #expect(shadows == expected, "\(byteCount) bytes, (\(threshold), \(shadowCount))")
        for shadow in shadows { #expect(shadow.digest() == digests[shadow.index]) }
        #expect(digests == ShadowsTests.digests(of: expected))
      }
    }
  }

  @Test(arguments: names, sizes) func joinsPieceByPiece(name: String, byteCount: Int) throws {
    let scheme = try scheme(name)
    let entropy = SeededEntropy(seed: 41 + UInt64(byteCount))
    let secret = entropy.bytes(byteCount)
    let shadows = try scheme.split(
      secret: secret, threshold: 3, shadowCount: 5, imageID: sequentialID, epoch: 3,
      entropy: entropy)
    let recorded = digests(of: shadows)
    for chosen in [[0, 1, 2], [4, 3, 2], [2, 4, 0]] {
      for inMemory in [true, false] {
        let joiner = try scheme.joiner(
          shadows: stored(chosen.map { shadows[$0] }, inMemory: inMemory), threshold: 3,
          expectedDigests: recorded)
        #expect(joiner.secretByteCount == byteCount)
        #expect(try join(joiner) == secret, "\(byteCount) bytes, \(chosen)")
      }
    }
  }

  @Test(arguments: names, sizes) func repairsPieceByPiece(name: String, byteCount: Int) throws {
    let scheme = try scheme(name)
    let entropy = SeededEntropy(seed: 51 + UInt64(byteCount))
    let shadows = try scheme.split(
      secret: entropy.bytes(byteCount), threshold: 3, shadowCount: 5, imageID: sequentialID,
      epoch: 3, entropy: entropy)
    let recorded = digests(of: shadows)
    for lost in 1...5 {
      let repairer = try scheme.repairer(
        lost: lost, headers: shadows.reversed().map(\.header), threshold: 3,
        expectedDigests: recorded)
      #expect(!repairer.indices.contains(lost))
      var body: [UInt8] = []
      while repairer.nextByteCount > 0 {
        let range = repairer.position..<repairer.position + repairer.nextByteCount
        body += repairer.next(repairer.indices.map { Array(shadows[$0 - 1].body[range]) })
      }
      try repairer.finish()
      #expect(Shadow(header: repairer.header, body: body) == shadows[lost - 1], "lost \(lost)")
    }
  }

  @Test(arguments: names) func randomSizesOnSeveralCores(name: String) throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    let entropy = SeededEntropy(seed: seed)
    for _ in 0..<12 {
      let scheme = try scheme(name, cores: 1 + entropy.below(5))
      let threshold = 2 + entropy.below(7)
      let shadowCount = threshold + 1 + entropy.below(5)
      let secret = entropy.bytes(entropy.below(3_000_000))
      let scratch = MemoryBytes(
        byteCount: try scheme.scratchByteCount(
          secretByteCount: secret.count, threshold: threshold))
      let (shadows, digests) = try collect(
        scheme.splitter(
          secret: ArrayBytes(secret), secretByteCount: secret.count, scratch: scratch,
          threshold: threshold, shadowCount: shadowCount, imageID: sequentialID, epoch: 3,
          entropy: entropy))
      let chosen = entropy.subset(of: Array(0..<shadowCount), count: threshold)
        .map { shadows[$0] }
      let comment: Comment = "seed \(seed), \(secret.count) bytes, (\(threshold), \(shadowCount))"
      #expect(
        try scheme.join(shadows: chosen, threshold: threshold, expectedDigests: digests) == secret,
        comment)
      let joiner = try scheme.joiner(
        shadows: stored(chosen, inMemory: false), threshold: threshold, expectedDigests: digests)
      #expect(try join(joiner) == secret, comment)
    }
  }

  @Test(arguments: names) func alteredBodiesAreRefused(name: String) throws {
    let scheme = try scheme(name)
    let entropy = SeededEntropy(seed: 61)
    let shadows = try scheme.split(
      secret: entropy.bytes(200_000), threshold: 3, shadowCount: 5, imageID: sequentialID,
      epoch: 3, entropy: entropy)
    let recorded = digests(of: shadows)
    for place in [0, 40, shadows[0].body.count / 2, shadows[0].body.count - 1] {
      var body = shadows[1].body
      body[place] ^= 1
      let altered = [shadows[0], Shadow(header: shadows[1].header, body: body), shadows[2]]
      #expect(throws: ShadowError.corruptShadow(index: 2)) {
        try scheme.joiner(
          shadows: stored(altered, inMemory: true), threshold: 3, expectedDigests: recorded)
      }
      let repairer = try scheme.repairer(
        lost: 5, headers: altered.map(\.header), threshold: 3, expectedDigests: recorded)
      while repairer.nextByteCount > 0 {
        let range = repairer.position..<repairer.position + repairer.nextByteCount
        _ = repairer.next(altered.map { Array($0.body[range]) })
      }
      #expect(throws: ShadowError.corruptShadow(index: 2)) { try repairer.finish() }
    }
    // Good bodies, and a record of the lost one that no split made.
    var wrong = recorded
    wrong[5] = [UInt8](repeating: 0, count: 32)
    let repairer = try scheme.repairer(
      lost: 5, headers: shadows.map(\.header), threshold: 3, expectedDigests: wrong)
    while repairer.nextByteCount > 0 {
      let range = repairer.position..<repairer.position + repairer.nextByteCount
      _ = repairer.next(shadows.prefix(3).map { Array($0.body[range]) })
    }
    #expect(throws: ShadowError.contradictoryShadows) { try repairer.finish() }
  }

  @Test(arguments: names) func whatARepairNeedsIsCheckedFirst(name: String) throws {
    let scheme = try scheme(name)
    let entropy = SeededEntropy(seed: 71)
    func headers(epoch: UInt32) throws -> [Shadow] {
      try scheme.split(
        secret: entropy.bytes(2000), threshold: 3, shadowCount: 5, imageID: sequentialID,
        epoch: epoch, entropy: entropy)
    }
    let shadows = try headers(epoch: 3)
    let recorded = digests(of: shadows)
    func repairer(_ lost: Int, _ headers: [ShadowHeader], _ digests: [Int: [UInt8]]) throws {
      _ = try scheme.repairer(
        lost: lost, headers: headers, threshold: 3, expectedDigests: digests)
    }
    let all = shadows.map(\.header)
    #expect(throws: ShadowError.indexOutOfRange(0)) { try repairer(0, all, recorded) }
    #expect(throws: ShadowError.notEnoughShadows(have: 2, need: 3)) {
      try repairer(1, Array(all.prefix(3)), recorded)
    }
    #expect(throws: ShadowError.missingDigest(index: 1)) {
      try repairer(1, all, recorded.filter { $0.key != 1 })
    }
    #expect(throws: ShadowError.inconsistentShadows(index: 3)) {
      try repairer(1, [all[1], try headers(epoch: 4)[2].header, all[3]], recorded)
    }
  }

  /// Bytes that are made when they are read, and may be lost from some place on.
  struct Pattern: RandomAccessBytes {
    var byteCount: Int
    var lostFrom = Int.max

    func read(
      into buffer: UnsafeMutableRawBufferPointer, at offset: Int
    ) throws(ShadowError) {
      precondition(offset >= 0 && offset + buffer.count <= byteCount)
      if offset + buffer.count > lostFrom { throw .storageEnded(offset: lostFrom) }
      // Different in each page of the secret; a byte at a time would take most of the test.
      var start = 0
      while start < buffer.count {
        let (page, inside) = (offset + start).quotientAndRemainder(dividingBy: 4096)
        let end = min(start + 4096 - inside, buffer.count)
        UnsafeMutableRawBufferPointer(rebasing: buffer[start..<end])
          .initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: page &* 97))
        start = end
      }
    }
  }

  @Test(arguments: names, [1, 3]) func aLostSourceEndsTheSplit(name: String, cores: Int) throws {
    let scheme = try scheme(name, cores: cores)
    for lostFrom in [0, 100_000, 3_999_999] {
      let byteCount = 4_000_000
      let splitter = try scheme.splitter(
        secret: Pattern(byteCount: byteCount, lostFrom: lostFrom), secretByteCount: byteCount,
        scratch: MemoryBytes(byteCount: byteCount + 512), threshold: 3, shadowCount: 5,
        imageID: sequentialID, epoch: 3, entropy: SystemEntropy())
      for _ in 0..<2 {
        #expect(throws: ShadowError.storageEnded(offset: lostFrom)) {
          while try splitter.next() != nil {}
        }
      }
      #expect(splitter.position < splitter.bodyByteCount)
    }
  }

  /// A secret of many windows' size, made as it is read, through files: no piece is ever larger than the window has room for.
  /// `sfmedir bench shadows --stream` measures the memory of a whole process.
  @Test(arguments: names) func constantMemory(name: String) throws {
    let scheme = try scheme(name)
    let byteCount = 12 << 20 | 5
    let folder = FileManager.default.temporaryDirectory.path + "/stream-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let disk = SystemDisk()
    func file(_ name: String) throws -> FileBytes {
      FileBytes(try disk.open("\(folder)/\(name)", mode: .createNew))
    }
    let splitter = try scheme.splitter(
      secret: Pattern(byteCount: byteCount), secretByteCount: byteCount,
      scratch: try file("scratch"), threshold: 3, shadowCount: 5, imageID: sequentialID, epoch: 3,
      entropy: SystemEntropy())
    #expect(splitter.heldByteCount == 5 * ShadowSplitter.pieceBytes)
    let bodies = try (1...5).map { try file("body-\($0)") }
    var largest = 0
    while true {
      let position = splitter.position
      guard let pieces = try splitter.next() else { break }
      for (body, piece) in zip(bodies, pieces) {
        try piece.withUnsafeBytes { try body.write($0, at: position) }
      }
      largest = max(largest, pieces.reduce(0) { $0 + $1.count })
    }
    #expect(largest <= splitter.heldByteCount)
    let digests = Dictionary(uniqueKeysWithValues: zip(1...5, splitter.finish()))
    let shadows = zip(splitter.headers, bodies).map {
      StoredShadow(header: $0, body: $1, bodyByteCount: splitter.bodyByteCount)
    }
    let joiner = try scheme.joiner(
      shadows: Array(shadows.suffix(3)), threshold: 3, expectedDigests: digests)
    var expected = [UInt8](repeating: 0, count: ShadowJoiner.pieceBytes)
    while true {
      let position = joiner.position
      guard let piece = try joiner.next() else { break }
      #expect(piece.count <= ShadowJoiner.pieceBytes)
      try expected.withUnsafeMutableBytes {
        try Pattern(byteCount: byteCount).read(
          into: UnsafeMutableRawBufferPointer(rebasing: $0[..<piece.count]), at: position)
      }
      let isRight = piece == Array(expected[..<piece.count])
      #expect(isRight, "at \(position)")
    }
    #expect(joiner.position == byteCount)
    let repairer = try scheme.repairer(
      lost: 1, headers: splitter.headers, threshold: 3, expectedDigests: digests)
    while repairer.nextByteCount > 0 {
      let count = repairer.nextByteCount
      #expect(count <= ShadowRepairer.pieceBytes)
      let pieces = try repairer.indices.map { index in
        var piece = [UInt8](repeating: 0, count: count)
        try piece.withUnsafeMutableBytes {
          try bodies[index - 1].read(into: $0, at: repairer.position)
        }
        return piece
      }
      _ = repairer.next(pieces)
    }
    try repairer.finish()
  }
}

/// SHA-256 of several shadows piece by piece, beside that of each as a whole.
@Suite struct DigestTests {
  @Test func piecesHaveTheDigestOfTheWhole() throws {
    let entropy = SeededEntropy(seed: 81)
    for byteCount in Array(0...130) + [4095, 4096, 4097, 100_000] {
      for count in [1, 2, 3, 5] {
        let shadows = try (1...count).map {
          Shadow(
            header: try ShadowHeader(
              index: $0, epoch: 1, imageID: sequentialID, secretByteCount: byteCount),
            body: entropy.bytes(byteCount))
        }
        let expected = shadows.map { sha256($0.bytes) }
        #expect(digestsFromBytes(of: shadows, coreCount: 1) == expected, "\(byteCount) bytes")
        let digests = ShadowDigests(shadows.map(\.header))
        var position = 0
        while position < byteCount {
          let step = min(1 + entropy.below(200), byteCount - position)
          withBodies(shadows) { bodies in
            digests.update(
              bodies.map { $0 + position }, byteCount: step, coreCount: 1 + entropy.below(3))
          }
          position += step
        }
        #expect(digests.finalize() == expected, "\(byteCount) bytes, \(count) messages")
      }
    }
  }
}
