import CKernels

/// The vectors are values of one polynomial in the index, so that the lost one is interpolated; its
/// shard is encoded from the others. Neither step learns the secret.
struct BaiRepairEngine: RepairEngine {
  private let layout: BaiLayout
  private let coefficients: [UInt32]
  private let transform: ShardTransform

  init(layout: BaiLayout, lost: Int, indices: [Int]) {
    self.layout = layout
    coefficients = lagrangeCoefficients(at: lost, nodes: indices)
    transform = ShardTransform(available: indices.map { $0 - 1 }, wanted: [lost - 1])
  }

  func repair(
    _ range: Range<Int>, from sources: [UnsafePointer<UInt8>],
    into target: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    let vectorBytes = max(0, min(range.upperBound, layout.vectorByteCount) - range.lowerBound)
    let overflow =
      vectorBytes == 0
      ? 0
      : field65537_combine(
        sources.count, coefficients, sources, vectorBytes / 2, target)
    if vectorBytes < range.count {
      transform.apply(
        sources.map { $0 + vectorBytes }, [target + vectorBytes],
        byteCount: range.count - vectorBytes)
    }
    return overflow == 0
  }
}

/// The coefficients c with f(x) = sum of c[j] f(nodes[j]) mod 65537 for every polynomial f of lower
/// degree than there are nodes.
package func lagrangeCoefficients(at x: Int, nodes: [Int]) -> [UInt32] {
  let prime = Int(FIELD65537_PRIME)
  return nodes.map { node in
    var numerator = 1
    var denominator = 1
    for other in nodes where other != node {
      numerator = numerator * (x - other + prime) % prime
      denominator = denominator * (node - other + prime) % prime
    }
    return UInt32(numerator * Int(field65537_invert(UInt32(denominator))) % prime)
  }
}
