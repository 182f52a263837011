import Base
import ImageCipher
import Testing

struct CodeMaskTests {
  /// A Python program's masks of 0, 1, 0123456789ABCDEF and all ones (low bits of each) under key
  /// 00 01 ..., version 3, model "knee-mri/2".
  @Test(
    arguments: [
      (8, [0x7B, 0xFB, 0xA4, 0x84]),
      (16, [0x55B7, 0x55F7, 0xAA7E, 0xAA48]),
      (32, [0x7994_120B, 0x7994_160B, 0xCE76_EECE, 0x866B_EDF4]),
      (
        64,
        [
          0x31D2_03AB_0FBC_AFCD, 0x31D2_03AB_07BC_AFCD, 0xDAF0_1217_571B_B2B8,
          0xCE2D_FC54_F043_5032,
        ]
      ),
    ] as [(Int, [UInt64])])
  func masksAsReference(codeBits: Int, expected: [UInt64]) {
    let mask = CodeMask(
      key: Vector.key, keyVersion: 3, modelVersion: "knee-mri/2", codeBits: codeBits)
    let codes: [UInt64] = [0, 1, 0x0123_4567_89AB_CDEF, .max]
    #expect(codes.map(mask.mask) == expected)
  }

  @Test(arguments: CodeMask.codeLengths)
  func distancesAreKeptAndMaskingIsUndone(codeBits: Int) {
    let seed = UInt64.random(in: 0 ... .max)
    let entropy = SeededEntropy(seed: seed)
    let space = UInt64.max >> UInt64(64 - codeBits)
    for round in 0..<60 {
      let mask = CodeMask(
        key: SecretBytes(randomCount: 32, entropy: entropy), keyVersion: UInt32(round),
        modelVersion: "model-\(round)", codeBits: codeBits)
      for _ in 0..<30 {
        let first = entropy.uniform(below: .max) & space
        let second = entropy.uniform(below: .max) & space
        #expect(mask.mask(first) <= space, "seed \(seed)")
        #expect(mask.unmask(mask.mask(first)) == first, "seed \(seed)")
        #expect(mask.mask(mask.unmask(first)) == first, "seed \(seed)")
        #expect(
          (mask.mask(first) ^ mask.mask(second)).nonzeroBitCount
            == (first ^ second).nonzeroBitCount, "seed \(seed)")
      }
    }
  }

  @Test func everyCodeOfEightBitsHasItsOwnMask() {
    let mask = CodeMask(key: Vector.key, keyVersion: 1, modelVersion: "m", codeBits: 8)
    #expect(Set((0..<256).map(mask.mask)).count == 256)
  }

  @Test func bitsAboveTheCodeAreDropped() {
    let mask = CodeMask(key: Vector.key, keyVersion: 1, modelVersion: "m", codeBits: 16)
    #expect(mask.mask(0xFFFF_0000_0000_1234) == mask.mask(0x1234))
    #expect(mask.unmask(0xFFFF_0000_0000_1234) == mask.unmask(0x1234))
  }

  @Test func keyVersionModelAndLengthGiveOtherMasks() {
    let key = Vector.key
    let masks = [
      CodeMask(key: key, keyVersion: 1, modelVersion: "a", codeBits: 64),
      CodeMask(key: key, keyVersion: 2, modelVersion: "a", codeBits: 64),
      CodeMask(key: key, keyVersion: 1, modelVersion: "b", codeBits: 64),
      CodeMask(key: key, keyVersion: 1, modelVersion: "", codeBits: 64),
      CodeMask(key: Vector.otherKey, keyVersion: 1, modelVersion: "a", codeBits: 64),
      CodeMask(key: key, keyVersion: 1, modelVersion: "a", codeBits: 32),
    ]
    #expect(Set(masks.map { $0.mask(0x1234_5678) }).count == masks.count)
    // The permutations differ as well, not the XOR masks alone.
    #expect(Set(masks.map { $0.mask(1) ^ $0.mask(0) ^ $0.mask(6) }).count == masks.count)
  }

  /// Where bit 0 of eight goes over 4000 keys: chi-square with 7 degrees of freedom, 0.1 % limit.
  @Test func permutationsAreUniform() {
    let entropy = SeededEntropy(seed: 99)
    var counts = [Int](repeating: 0, count: 8)
    for _ in 0..<4_000 {
      let mask = CodeMask(
        key: SecretBytes(randomCount: 32, entropy: entropy), keyVersion: 1, modelVersion: "m",
        codeBits: 8)
      counts[(mask.mask(1) ^ mask.mask(0)).trailingZeroBitCount] += 1
    }
    let chiSquare = counts.reduce(0.0) { $0 + (Double($1) - 500) * (Double($1) - 500) / 500 }
    #expect(chiSquare < 24.3, "seed 99: \(counts)")
  }

  @Test func nothingSecretIsPrinted() {
    let mask = CodeMask(key: Vector.key, keyVersion: 3, modelVersion: "m", codeBits: 8)
    var dumped = ""
    dump(mask, to: &dumped)
    #expect("\(mask)" == "CodeMask(codeBits: 8, table: <secret of 16 bytes>)")
    #expect(!dumped.contains("UInt8"))
  }
}
