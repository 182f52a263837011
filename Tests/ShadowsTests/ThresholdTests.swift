import Base
import Shadows
import Testing

/// The draw of (r, s), the encrypted threshold, and what a choice is worth.
@Suite struct ThresholdTests {
  @Test func allowedSharings() {
    let five = ThresholdPolicy(liveSlaveCount: 5).allowed
    #expect(
      Set(five) == [
        Sharing(threshold: 2, shadowCount: 3), Sharing(threshold: 2, shadowCount: 4),
        Sharing(threshold: 3, shadowCount: 4),
      ])
    let all = ThresholdPolicy(liveSlaveCount: 5, spareSlaves: 0).allowed
    #expect(all.count == 6 && all.contains(Sharing(threshold: 4, shadowCount: 5)))
    let tolerant = ThresholdPolicy(minimumTolerance: 4, liveSlaveCount: 10, spareSlaves: 0)
    #expect(tolerant.allowed.count == 5 + 4 + 3 + 2 + 1)
    #expect(tolerant.allowed.contains(Sharing(threshold: 6, shadowCount: 10)))
    let large = ThresholdPolicy(maximumThreshold: 100, liveSlaveCount: 1000).allowed
    #expect(large.allSatisfy { $0.threshold <= 8 && $0.shadowCount <= 255 })
    #expect(large.contains(Sharing(threshold: 8, shadowCount: 255)))
    #expect(large.count == (3...255).reduce(0) { $0 + min(7, $1 - 2) })
    #expect(Set(large).count == large.count)
  }

  @Test func emptySets() {
    for policy in [
      ThresholdPolicy(liveSlaveCount: 0), ThresholdPolicy(liveSlaveCount: 3),
      ThresholdPolicy(liveSlaveCount: -7), ThresholdPolicy(maximumThreshold: 1, liveSlaveCount: 9),
      ThresholdPolicy(minimumTolerance: 5, liveSlaveCount: 7),
      ThresholdPolicy(minimumTolerance: Int.max, liveSlaveCount: 7),
    ] {
      #expect(throws: NoSharingAllowed(policy: policy)) {
        try policy.draw(entropy: SystemEntropy())
      }
    }
    #expect(throws: Never.self) {
      try ThresholdPolicy(liveSlaveCount: 3, spareSlaves: 0).draw(entropy: SystemEntropy())
    }
  }

  @Test func drawsAreUniform() throws {
    let seed: UInt64 = 2_026
    let entropy = SeededEntropy(seed: seed)
    let policy = ThresholdPolicy(liveSlaveCount: 10, spareSlaves: 0)
    var counts: [Sharing: Int] = [:]
    let draws = 36_000
    for _ in 0..<draws { counts[try policy.draw(entropy: entropy), default: 0] += 1 }
    let expected = Double(draws) / Double(policy.allowed.count)
    #expect(Set(counts.keys) == Set(policy.allowed))
    let chiSquare = counts.values.reduce(0.0) {
      $0 + (Double($1) - expected) * (Double($1) - expected) / expected
    }
    // 35 sharings: 99.9 % of all seeds stay below 65.2.
    #expect(policy.allowed.count == 35 && chiSquare < 65.2, "seed \(seed), \(chiSquare)")
  }

  @Test func encryptedThresholds() throws {
    let key = SecretBytes(Array(0..<32))
    let other = SecretBytes(Array(1...32))
    func seal(_ threshold: Int) -> EncryptedThreshold {
      EncryptedThreshold(
        threshold: threshold, key: key, keyVersion: 0x0102_0304, imageID: sequentialID, epoch: 9,
        entropy: SystemEntropy())
    }
    for threshold in [2, 3, 8, 255] {
      let sealed = seal(threshold)
      #expect(sealed.bytes.count == 48 && Array(sealed.bytes[0..<4]) == [1, 2, 3, 4])
      let again = try EncryptedThreshold(parsing: sealed.bytes)
      #expect(again == sealed && again.keyVersion == 0x0102_0304)
      #expect(try again.open(key: key, imageID: sequentialID, epoch: 9) == threshold)
    }
    #expect(seal(3) != seal(3))
    let sealed = seal(6)
    let refusal = EncryptedThresholdError.notAuthentic(keyVersion: 0x0102_0304)
    #expect(throws: refusal) { try sealed.open(key: other, imageID: sequentialID, epoch: 9) }
    #expect(throws: refusal) { try sealed.open(key: key, imageID: sequentialID, epoch: 8) }
    #expect(throws: refusal) {
      try sealed.open(key: key, imageID: ImageID(Array(1...16))!, epoch: 9)
    }
    for position in 4..<48 {
      var bytes = sealed.bytes
      bytes[position] ^= 1
      let altered = try EncryptedThreshold(parsing: bytes)
      #expect(throws: refusal, "byte \(position)") {
        try altered.open(key: key, imageID: sequentialID, epoch: 9)
      }
    }
    for count in [0, 47, 49] {
      #expect(throws: EncryptedThresholdError.wrongLength(byteCount: count)) {
        try EncryptedThreshold(parsing: [UInt8](repeating: 0, count: count))
      }
    }
  }

  /// Authentic, but not of the form: sealed here by hand.
  @Test func unknownForms() throws {
    let key = [UInt8](0..<32)
    let nonce = [UInt8](repeating: 5, count: 12)
    for plain in [[1] + [UInt8](repeating: 0, count: 15), [3] + [UInt8](repeating: 1, count: 15)] {
      let sealed = AES256GCM.seal(
        plain, key: key, nonce: nonce, authenticating: sequentialID.bytes + [0, 0, 0, 9])
      let threshold = try EncryptedThreshold(parsing: [0, 0, 0, 1] + nonce + sealed)
      #expect(throws: EncryptedThresholdError.unknownForm) {
        try threshold.open(key: SecretBytes(key), imageID: sequentialID, epoch: 9)
      }
    }
  }

  @Test func lossProbabilities() {
    let failures = [0.01, 0.05, 0.1, 0.2]
    let listed: [(Int, Int, [Double])] = [
      (2, 3, [2.980e-4, 7.250e-3, 2.800e-2, 1.040e-1]),
      (3, 5, [9.851e-6, 1.158e-3, 8.560e-3, 5.792e-2]),
      (6, 10, [2.417e-8, 6.369e-5, 1.635e-3, 3.279e-2]),
    ]
    for (threshold, shadowCount, expected) in listed {
      for (failure, value) in zip(failures, expected) {
        let loss = unavailability(
          threshold: threshold, shadowCount: shadowCount, failureProbability: failure)
        #expect(abs(loss / value - 1) < 6e-4, "(\(threshold), \(shadowCount)) at \(failure)")
        let available = availability(
          threshold: threshold, shadowCount: shadowCount, failureProbability: failure)
        #expect(abs(available + value - 1) < 1e-4)
      }
    }
    #expect(availability(threshold: 3, shadowCount: 5, failureProbability: 0) == 1)
    #expect(unavailability(threshold: 3, shadowCount: 5, failureProbability: 1) == 1)
  }
}
