import Base
import Shadows
import Testing

/// What must hold for every scheme, secret, threshold and choice of shadows.
@Suite struct ShadowSchemeTests {
  static let names = ShadowSchemes.names

  func scheme(_ name: String, cores: Int = 1) throws -> any ShadowScheme {
    try #require(ShadowSchemes.named(name, coreCount: cores))
  }

  func split(
    _ scheme: any ShadowScheme, _ secret: [UInt8], _ threshold: Int, _ shadowCount: Int,
    _ entropy: some Entropy
  ) throws -> [Shadow] {
    try scheme.split(
      secret: secret, threshold: threshold, shadowCount: shadowCount, imageID: sequentialID,
      epoch: 3, entropy: entropy)
  }

  @Test(arguments: names, 2...8) func randomSubsetsRebuild(name: String, threshold: Int) throws {
    let scheme = try scheme(name)
    let seed = UInt64.random(in: 0...UInt64.max)
    let entropy = SeededEntropy(seed: seed)
    var rebuilt = 0
    for shadowCount in (threshold + 1)...max(10, threshold + 2) {
      for _ in 0..<8 {
        let secret = entropy.bytes(entropy.below(20_000))
        let shadows = try split(scheme, secret, threshold, shadowCount, entropy)
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

  @Test(
    arguments: names,
    [0, 1, 2, 15, 16, 17, 511, 512, 513, 1023, 1024, 1025, 20_000, 131_072, 1 << 20 | 1])
  func everyLength(name: String, byteCount: Int) throws {
    let scheme = try scheme(name)
    let seed = UInt64(byteCount) + 17
    let entropy = SeededEntropy(seed: seed)
    let secret = entropy.bytes(byteCount)
    for (threshold, shadowCount) in [(2, 3), (3, 5), (7, 9)] {
      let shadows = try split(scheme, secret, threshold, shadowCount, entropy)
      let expected = try scheme.bodyByteCount(secretByteCount: byteCount, threshold: threshold)
      #expect(shadows.allSatisfy { $0.body.count == expected })
      let joined = try scheme.join(
        shadows: shadows.suffix(threshold), threshold: threshold,
        expectedDigests: digests(of: shadows))
      #expect(joined == secret, "seed \(seed), (\(threshold), \(shadowCount))")
    }
  }

  @Test(arguments: names) func sharingsOfOneSecretDiffer(name: String) throws {
    let scheme = try scheme(name)
    let secret = [UInt8](repeating: 9, count: 4096)
    let first = try split(scheme, secret, 3, 5, SystemEntropy())
    let second = try split(scheme, secret, 3, 5, SystemEntropy())
    for (left, right) in zip(first, second) {
      let equal = zip(left.body, right.body).count { $0 == $1 }
      // One byte in 256 agrees by chance.
      #expect(equal < left.body.count / 32)
    }
  }

  @Test(arguments: names) func moreCoresGiveWhatOneGives(name: String) throws {
    let scheme = try scheme(name)
    let seed: UInt64 = 4711
    let entropy = SeededEntropy(seed: seed)
    let parallel = try self.scheme(name, cores: 3)
    for byteCount in [700, 131_072, 1_000_003] {
      let secret = entropy.bytes(byteCount)
      let shadows = try parallel.split(
        secret: secret, threshold: 4, shadowCount: 7, imageID: sequentialID, epoch: 3,
        entropy: entropy)
      let kept = [shadows[5], shadows[0], shadows[6], shadows[3]]
      for (cores, scheme) in [(1, scheme), (3, parallel)] {
        let joined = try scheme.join(
          shadows: kept, threshold: 4, expectedDigests: digests(of: shadows))
        #expect(joined == secret, "seed \(seed), \(byteCount) bytes, \(cores) cores")
      }
    }
  }

  @Test(arguments: names) func lostShadowsUpToTheTolerance(name: String) throws {
    let scheme = try scheme(name)
    let entropy = SeededEntropy(seed: 12)
    let secret = entropy.bytes(3000)
    let shadows = try split(scheme, secret, 6, 10, entropy)
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

  @Test(arguments: names) func oneIndexCountsOnce(name: String) throws {
    let scheme = try scheme(name)
    let entropy = SeededEntropy(seed: 13)
    let secret = entropy.bytes(3000)
    let shadows = try split(scheme, secret, 3, 5, entropy)
    let recorded = digests(of: shadows)
    let twice = [shadows[0], shadows[0], shadows[4], shadows[4]]
    #expect(throws: ShadowError.notEnoughShadows(have: 2, need: 3)) {
      try scheme.join(shadows: twice, threshold: 3, expectedDigests: recorded)
    }
    let joined = try scheme.join(
      shadows: twice + [shadows[2]], threshold: 3, expectedDigests: recorded)
    #expect(joined == secret)
  }

  @Test(arguments: names) func repairGivesTheSameBytes(name: String) throws {
    let scheme = try scheme(name)
    let seed: UInt64 = 99
    let entropy = SeededEntropy(seed: seed)
    for (threshold, shadowCount, byteCount) in [
      (2, 3, 0), (2, 5, 513), (3, 5, 20_000), (6, 10, 33_333), (8, 10, 100_001),
    ] {
      let shadows = try split(scheme, entropy.bytes(byteCount), threshold, shadowCount, entropy)
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

  @Test(arguments: names) func impossibleThresholds(name: String) throws {
    let scheme = try scheme(name)
    for (threshold, shadowCount) in [(1, 3), (0, 2), (3, 3), (4, 3), (9, 12), (-1, 4), (3, 256)] {
      #expect(
        throws: ShadowError.impossibleThreshold(threshold: threshold, shadowCount: shadowCount)
      ) {
        try split(scheme, [1, 2, 3], threshold, shadowCount, SystemEntropy())
      }
      #expect(!scheme.supports(threshold: threshold, shadowCount: shadowCount))
    }
    let shadows = try split(scheme, [1, 2, 3], 8, 255, SeededEntropy(seed: 1))
    #expect(
      try scheme.join(
        shadows: shadows.suffix(8), threshold: 8, expectedDigests: digests(of: shadows))
        == [1, 2, 3])
    #expect(
      throws: ShadowError.secretTooLarge(byteCount: 1 << 30 + 1, maximum: 1 << 30)
    ) { try scheme.bodyByteCount(secretByteCount: 1 << 30 + 1, threshold: 3) }
  }
}
