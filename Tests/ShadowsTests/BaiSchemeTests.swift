import Base
import Shadows
import Testing

/// What must hold for every secret, threshold and choice of shadows.
@Suite struct BaiSchemeTests {
  let scheme = BaiScheme()

  func split(
    _ secret: [UInt8], _ threshold: Int, _ shadowCount: Int, _ entropy: some Entropy
  ) throws -> [Shadow] {
    try scheme.split(
      secret: secret, threshold: threshold, shadowCount: shadowCount, imageID: sequentialID,
      epoch: 3, entropy: entropy)
  }

  @Test(arguments: 2...8) func randomSubsetsRebuild(threshold: Int) throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    let entropy = SeededEntropy(seed: seed)
    var rebuilt = 0
    for shadowCount in (threshold + 1)...max(10, threshold + 2) {
      for _ in 0..<8 {
        let secret = entropy.bytes(entropy.below(20_000))
        let shadows = try split(secret, threshold, shadowCount, entropy)
        let recorded = digests(of: shadows)
        for _ in 0..<6 {
          let chosen = entropy.subset(of: Array(0..<shadowCount), count: threshold)
          let joined = try scheme.join(
            shadows: chosen.map { shadows[$0] }, threshold: threshold, expectedDigests: recorded)
          #expect(
            joined == secret,
            "seed \(seed), \(secret.count) bytes, (\(threshold), \(shadowCount)), \(chosen)")
          rebuilt += 1
        }
      }
    }
    #expect(rebuilt >= 96)
  }

  @Test(arguments: [0, 1, 2, 511, 512, 513, 1023, 1024, 1025, 20_000, 131_072, 1 << 20 | 1])
  func everyLength(byteCount: Int) throws {
    let seed = UInt64(byteCount) + 17
    let entropy = SeededEntropy(seed: seed)
    let secret = entropy.bytes(byteCount)
    for (threshold, shadowCount) in [(2, 3), (3, 5), (7, 9)] {
      let shadows = try split(secret, threshold, shadowCount, entropy)
      let expected = try scheme.bodyByteCount(secretByteCount: byteCount, threshold: threshold)
      #expect(shadows.allSatisfy { $0.body.count == expected })
      let joined = try scheme.join(
        shadows: shadows.suffix(threshold), threshold: threshold,
        expectedDigests: digests(of: shadows))
      #expect(joined == secret, "seed \(seed), (\(threshold), \(shadowCount))")
    }
  }

  /// A secret of one block gets a second, random one; one of none gets two.
  @Test func shortSecretsAreLengthened() throws {
    for byteCount in [0, 1, 512, 513, 1024] {
      #expect(try scheme.bodyByteCount(secretByteCount: byteCount, threshold: 4) == 2 * 32 + 256)
    }
    #expect(try scheme.bodyByteCount(secretByteCount: 1025, threshold: 4) == 3 * 32 + 384)
  }

  @Test func storedBytes() throws {
    let entropy = SeededEntropy(seed: 8)
    let shadows = try split(entropy.bytes(20_000), 6, 10, entropy)
    let expansion = Double(shadows.reduce(0) { $0 + $1.byteCount }) / 20_000
    #expect((expansion * 1000).rounded() == 2365)
  }

  @Test func sharingsOfOneSecretDiffer() throws {
    let secret = [UInt8](repeating: 9, count: 4096)
    let first = try split(secret, 3, 5, SystemEntropy())
    let second = try split(secret, 3, 5, SystemEntropy())
    for (left, right) in zip(first, second) {
      let equal = zip(left.body, right.body).count { $0 == $1 }
      // One byte in 256 agrees by chance.
      #expect(equal < left.body.count / 32)
    }
  }

  @Test func moreCoresGiveWhatOneGives() throws {
    let seed: UInt64 = 4711
    let entropy = SeededEntropy(seed: seed)
    let parallel = BaiScheme(coreCount: 3)
    for byteCount in [700, 131_072, 1_000_003] {
      let secret = entropy.bytes(byteCount)
      let shadows = try parallel.split(
        secret: secret, threshold: 4, shadowCount: 7, imageID: sequentialID, epoch: 3,
        entropy: entropy)
      let kept = [shadows[5], shadows[0], shadows[6], shadows[3]]
      for scheme in [scheme, parallel] {
        let joined = try scheme.join(
          shadows: kept, threshold: 4, expectedDigests: digests(of: shadows))
        #expect(joined == secret, "seed \(seed), \(byteCount) bytes, \(scheme.coreCount) cores")
      }
    }
  }

  @Test func lostShadowsUpToTheTolerance() throws {
    let entropy = SeededEntropy(seed: 12)
    let secret = entropy.bytes(3000)
    let shadows = try split(secret, 6, 10, entropy)
    let recorded = digests(of: shadows)
    for lost in 0...10 {
      let kept = entropy.subset(of: Array(0..<10), count: 10 - lost).map { shadows[$0] }
      if lost <= 4 {
        let joined = try scheme.join(shadows: kept, threshold: 6, expectedDigests: recorded)
        #expect(joined == secret, "\(lost) lost")
      } else {
        #expect(throws: ShadowError.notEnoughShadows(have: 10 - lost, need: 6)) {
          try scheme.join(shadows: kept, threshold: 6, expectedDigests: recorded)
        }
      }
    }
  }

  @Test func oneIndexCountsOnce() throws {
    let entropy = SeededEntropy(seed: 13)
    let secret = entropy.bytes(3000)
    let shadows = try split(secret, 3, 5, entropy)
    let recorded = digests(of: shadows)
    let twice = [shadows[0], shadows[0], shadows[4], shadows[4]]
    #expect(throws: ShadowError.notEnoughShadows(have: 2, need: 3)) {
      try scheme.join(shadows: twice, threshold: 3, expectedDigests: recorded)
    }
    let joined = try scheme.join(
      shadows: twice + [shadows[2]], threshold: 3, expectedDigests: recorded)
    #expect(joined == secret)
  }

  @Test func repairGivesTheSameBytes() throws {
    let seed: UInt64 = 99
    let entropy = SeededEntropy(seed: seed)
    for (threshold, shadowCount, byteCount) in [
      (2, 3, 0), (2, 5, 513), (3, 5, 20_000), (6, 10, 33_333), (8, 10, 100_001),
    ] {
      let shadows = try split(entropy.bytes(byteCount), threshold, shadowCount, entropy)
      let recorded = digests(of: shadows)
      for lost in 1...shadowCount {
        let others = shadows.filter { $0.index != lost }
        let kept = entropy.subset(of: Array(others.indices), count: threshold).map { others[$0] }
        let repaired = try scheme.repair(
          lost: lost, shadows: kept, threshold: threshold, expectedDigests: recorded)
        #expect(repaired == shadows[lost - 1], "seed \(seed), lost \(lost) of \(shadowCount)")
        // What is left of the lost one does not help, and does not harm.
        let damaged = Shadow(header: shadows[lost - 1].header, body: [1, 2, 3])
        #expect(
          try scheme.repair(
            lost: lost, shadows: [damaged] + kept, threshold: threshold, expectedDigests: recorded)
            == repaired)
      }
    }
  }

  @Test func impossibleThresholds() throws {
    for (threshold, shadowCount) in [(1, 3), (0, 2), (3, 3), (4, 3), (9, 12), (-1, 4), (3, 256)] {
      #expect(
        throws: ShadowError.impossibleThreshold(threshold: threshold, shadowCount: shadowCount)
      ) {
        try split([1, 2, 3], threshold, shadowCount, SystemEntropy())
      }
      #expect(!scheme.supports(threshold: threshold, shadowCount: shadowCount))
    }
    let shadows = try split([1, 2, 3], 8, 255, SeededEntropy(seed: 1))
    #expect(
      try scheme.join(
        shadows: shadows.suffix(8), threshold: 8, expectedDigests: digests(of: shadows))
        == [1, 2, 3])
    #expect(
      throws: ShadowError.secretTooLarge(byteCount: 1 << 30 + 1, maximum: 1 << 30)
    ) { try scheme.bodyByteCount(secretByteCount: 1 << 30 + 1, threshold: 3) }
  }
}
