import Base
import CKernels
import ImageCipher
import Testing

/// The two maps and the layer against numbers of an independent program.
struct ChaosLayerTests {
  struct QuantumCase: Sendable {
    let steps: Int
    let x: UInt64
    let y: UInt64
    let z: UInt64
    let w: UInt64
  }

  @Test(arguments: [
    QuantumCase(
      steps: 1, x: 0xD69A_C435_6320_B6AF, y: 0x0000_9C17_F333_3334, z: 0x009A_B392_9999_999A,
      w: 0x9E37_79B9_7F4A_7C15),
    QuantumCase(
      steps: 2, x: 0x8A86_C7C0_067F_1376, y: 0x0002_061F_CA09_6025, z: 0x01AC_C4AF_137A_F48F,
      w: 0x3C6E_F372_FE94_F82A),
    QuantumCase(
      steps: 1000, x: 0x721D_BBC0_E6F9_F68A, y: 0x0001_0CC4_3D35_518B,
      z: 0x0048_3669_ADF6_4828, w: 0x08B3_7C99_3AF4_B208),
  ])
  func quantumMapStepsAsPublished(_ expected: QuantumCase) {
    var x = [UInt64](repeating: 0x4CCC_CCCC_CCCC_CCCD, count: 16)
    var y = [UInt64](repeating: 0x0000_FFFF_FFFF_FFFF, count: 16)
    var z = [UInt64](repeating: 0x0080_0000_0000_0000, count: 16)
    var w = [UInt64](repeating: 0, count: 16)
    sfm_qms1_quantum_advance(&x, &y, &z, &w, expected.steps)
    #expect(x == [UInt64](repeating: expected.x, count: 16))
    #expect(y == [UInt64](repeating: expected.y, count: 16))
    #expect(z == [UInt64](repeating: expected.z, count: 16))
    #expect(w == [UInt64](repeating: expected.w, count: 16))
  }

  @Test(
    arguments: [
      (1, 0xD147_BB27_BD35_8594), (2, 0x9336_2220_4640_8E12), (1000, 0x3F93_D7B1_FDA8_93A1),
    ] as [(Int, UInt64)])
  func hybridMapStepsAsPublished(steps: Int, expected: UInt64) {
    var x = [UInt64](repeating: 0x4CCC_CCCC_CCCC_CCCD, count: 16)
    let r = [UInt64](repeating: 0xE800_0000_0000_0000, count: 16)
    var w = [UInt64](repeating: 0, count: 16)
    sfm_qms1_hybrid_advance(&x, r, &w, steps)
    #expect(x == [UInt64](repeating: expected, count: 16))
  }

  /// The kernel multiplies out of 32-bit halves; every carry must come out as in a 128-bit product.
  @Test func lanesAreIndependentAndExactAtTheEdges() {
    let seed: UInt64 = 20_250_117
    let entropy = SeededEntropy(seed: seed)
    let edges: [UInt64] = [
      0, 1, 0xFFFF_FFFF, 0x1_0000_0000, 1 << 63, (1 << 63) - 1, .max - 1, .max,
    ]
    for round in 0..<200 {
      let start = (0..<4).map { _ in
        (0..<16).map { _ in
          round.isMultiple(of: 2)
            ? edges[entropy.below(edges.count)] : entropy.uniform(below: .max)
        }
      }
      var (quantumX, y, z, quantumW) = (start[0], start[1], start[2], start[3])
      sfm_qms1_quantum_advance(&quantumX, &y, &z, &quantumW, 1)
      for lane in 0..<16 {
        #expect(
          [quantumX[lane], y[lane], z[lane], quantumW[lane]]
            == Self.quantumStep(start[0][lane], start[1][lane], start[2][lane], start[3][lane]),
          "seed \(seed), round \(round), lane \(lane)")
      }
      var x = (0..<16).map { _ in edges[entropy.below(edges.count)] }
      let r = (0..<16).map { _ in entropy.uniform(below: .max) }
      var w = (0..<16).map { _ in entropy.uniform(below: .max) }
      let hybrid = (0..<16).map { Self.hybridStep(x[$0], r[$0], w[$0]) }
      sfm_qms1_hybrid_advance(&x, r, &w, 1)
      #expect(x == hybrid, "seed \(seed), round \(round)")
    }
  }

  @Test func keysAndSeedsAsPublished() {
    let keys = ImageKeys(dataKey: Vector.key, nonce: Vector.nonce)
    keys.withSealingKey { key, nonce in
      #expect(
        key.hex == "052d6efb2ee50e4b678b97f526b2c1dcd7bb23a2672297cc9ccaf0178a5d481a")
      #expect(nonce.hex == "0d39bb6d5dadc4edd745d2a7")
    }
    keys.chaosKey.withBytes {
      #expect($0.hex == "5d852175338f26bf674bd6f2fa5ebcc2e7fa66a81b6314e7297de19e12b706b1")
    }
    let seeds = ChaosLayer(key: keys.chaosKey).seeds(segment: 0)
    #expect(
      sha256(seeds).hex == "da5b77079761b898a803f2be503aa1d64c62fd10096c8f19b71b28f351b2884a")
    var quantum = [UInt64](repeating: 0, count: 8)
    var hybrid = quantum
    sfm_qms1_first_words(seeds, &quantum, &hybrid)
    #expect(
      quantum.prefix(3) == [0xE0A6_BDC5_3202_388B, 0x5DEB_9161_B400_55CD, 0x40BA_DF3F_47E7_A9CE])
    #expect(
      hybrid.prefix(3) == [0x47EE_32C4_3C23_2322, 0xCD60_A0CD_F883_7781, 0x5475_3733_86F1_8A2C])
  }

  @Test(arguments: 0...ChaosLayer.bestBuild)
  func everyBuildGivesThePublishedBytes(build: Int) {
    let layer = ChaosLayer(key: Vector.chaosKey, build: build)
    let short = layer.encrypt(Vector.everyByte)
    #expect(Array(short.prefix(16)).hex == "66ccecb4812563f12d0b1b3a9abd0963")
    #expect(
      sha256(short).hex == "6b61ed4c6ae02124309d71d5e13ce7d20ed7189ff5412b6dbe0813b62a7a27a1")
    let long = layer.encrypt(Vector.parabola(150_001))
    #expect(long.count == 150_016)
    #expect(
      sha256(long).hex == "7ad4be824af8c3f438638c66d02865ac6df0e11de784e389db6bbd06f671d157")
    #expect(sha256(Array(layer.decrypt(long).prefix(150_001))) == sha256(Vector.parabola(150_001)))
  }

  /// Segments whose last group of eight blocks is complete or not, and more than one segment.
  @Test(arguments: 0...ChaosLayer.bestBuild)
  func everyNumberOfBlocksAsReference(build: Int) {
    let layer = ChaosLayer(key: Vector.chaosKey, build: build)
    let source = Vector.parabola(1025 * 64)
    var hasher = SHA256Hasher()
    for blocks in Array(1...20) + [1023, 1024, 1025] {
      let text = Array(source.prefix(blocks * 64))
      let encrypted = layer.encrypt(text)
      hasher.update(encrypted)
      #expect(sha256(layer.decrypt(encrypted)) == sha256(text), "\(blocks) blocks")
    }
    #expect(
      hasher.finalize().hex == "8fe19e15bcdd231d641be90095e9b8835c77313a886dd5b503de8a08c50be96f"
    )
    #expect(
      layer.encrypt(Array(source.prefix(64))).hex
        == "feb0bb4f8693f86e7c6708c0d0e44ab0c099234a4db29517cfb8f29e413a75c6"
        + "8f293e4312b2aa237d7ceba2f0f07de98f94807fa9311fcf950898b3ba269737")
  }

  @Test func parallelEqualsSerial() {
    let layer = ChaosLayer(key: Vector.chaosKey)
    let text = Vector.parabola(9 * ChaosLayer.segmentBytes + 640)
    let serial = layer.encrypt(text, cores: 1)
    for cores in [2, 3, 8, 64] {
      // Whole megabytes are compared by their digests, so that a failure prints two lines.
      #expect(sha256(layer.encrypt(text, cores: cores)) == sha256(serial), "\(cores) cores")
      #expect(sha256(layer.decrypt(serial, cores: cores)) == sha256(text), "\(cores) cores")
    }
  }

  // The maps once more, with the processor's 128-bit products.

  private static func high(_ a: UInt64, _ b: UInt64) -> UInt64 { a.multipliedFullWidth(by: b).high }

  private static func quantumStep(
    _ x: UInt64, _ y: UInt64, _ z: UInt64, _ w: UInt64
  ) -> [UInt64] {
    let next = w &+ 0x9E37_79B9_7F4A_7C15
    let d = high(x, ~x) &- y
    let q = high(~x, y) &+ high(x, z)
    let v = (high(~x, z) >> 1) &+ (high(x, y) >> 1) &+ (x >> 2)
    return [
      (d << 2) &- (d >> 7) &+ (next >> 20), (q >> 6) &- (q >> 15) &- (y >> 18),
      (v >> 5) &- (v >> 14) &- (z >> 18), next,
    ]
  }

  private static func hybridStep(_ x: UInt64, _ r: UInt64, _ w: UInt64) -> UInt64 {
    let logistic = r.multipliedFullWidth(by: high(x, ~x))
    let tent = (0 &- r).multipliedFullWidth(by: min(x, ~x))
    return (logistic.high << 2 | logistic.low >> 62) &+ (tent.high << 1 | tent.low >> 63)
      &+ ((w &+ 0xD134_2543_DE82_EF95) >> 20)
  }
}
