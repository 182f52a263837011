import CISAL
import Testing

/// The generator matrix and the recovery of shards.
@Suite struct ReedSolomonTests {
  /// Product in GF(2^8) with polynomial 0x11D, bit by bit.
  static func multiply(_ left: UInt8, _ right: UInt8) -> UInt8 {
    var (a, b, sum) = (UInt16(left), right, UInt16(0))
    while b != 0 {
      if b & 1 == 1 { sum ^= a }
      a <<= 1
      if a & 0x100 != 0 { a ^= 0x11D }
      b >>= 1
    }
    return UInt8(sum)
  }

  @Test(arguments: 2...8) func parityRowsAreInverseSums(dataCount: Int) {
    let data = (0..<dataCount).map { UInt8($0) }
    let parity = (dataCount..<255).map { UInt8($0) }
    var coefficients = [UInt8](repeating: 0, count: parity.count * dataCount)
    #expect(
      sfm_rs_coefficients(dataCount, data, parity.count, parity, &coefficients) == 1)
    for (row, shard) in parity.enumerated() {
      for d in data {
        let coefficient = coefficients[row * dataCount + Int(d)]
        #expect(Self.multiply(coefficient, shard ^ d) == 1, "shard \(shard), data shard \(d)")
      }
    }
  }

  @Test func equalShardsHaveNoInverse() {
    var coefficients = [UInt8](repeating: 0, count: 3)
    #expect(sfm_rs_coefficients(3, [0, 4, 4], 1, [1], &coefficients) == 0)
    #expect(sfm_rs_coefficients(0, [0], 1, [1], &coefficients) == 0)
  }

  @Test func everyShardFollowsFromAnyOthers() {
    let seed: UInt64 = 31
    let entropy = SeededEntropy(seed: seed)
    let (dataCount, byteCount) = (4, 5003)
    let data = (0..<dataCount).map { _ in entropy.bytes(byteCount) }
    func shards(_ wanted: [Int], from available: [Int], _ sources: [[UInt8]]) -> [[UInt8]] {
      var coefficients = [UInt8](repeating: 0, count: wanted.count * dataCount)
      let regular = sfm_rs_coefficients(
        dataCount, available.map { UInt8($0) }, wanted.count, wanted.map { UInt8($0) },
        &coefficients)
      #expect(regular == 1)
      var tables = [UInt8](repeating: 0, count: coefficients.count * 32)
      sfm_rs_prepare(dataCount, wanted.count, coefficients, &tables)
      let outputs = wanted.map { _ in UnsafeMutablePointer<UInt8>.allocate(capacity: byteCount) }
      defer { for output in outputs { output.deallocate() } }
      withPointers(sources) {
        sfm_rs_apply(dataCount, wanted.count, tables, byteCount, $0, outputs)
      }
      return outputs.map { Array(UnsafeBufferPointer(start: $0, count: byteCount)) }
    }
    let all = shards(Array(0..<9), from: Array(0..<4), data)
    #expect(Array(all[0..<4]) == data)
    for chosen in combinations(Array(0..<9), dataCount) {
      let again = shards(Array(0..<9), from: chosen, chosen.map { all[$0] })
      #expect(again == all, "seed \(seed), from \(chosen)")
    }
  }
}
