import CKernels

/// Writes the body of the lost shadow; false where no split can have made these shadows.
///
/// The vectors are values of one polynomial in the index, so that the lost one is interpolated; its
/// shard is encoded from the others. Neither step learns the secret.
func repairBody(
  lost: Int, indices: [Int], bodies: [UnsafePointer<UInt8>], layout: BaiLayout,
  into target: UnsafeMutableBufferPointer<UInt8>
) -> Bool {
  let destination = target.baseAddress!
  let overflow = field65537_combine(
    indices.count, lagrangeCoefficients(at: lost, nodes: indices), bodies,
    layout.vectorByteCount / 2, destination)
  if overflow != 0 { return false }
  let transform = ShardTransform(available: indices.map { $0 - 1 }, wanted: [lost - 1])
  transform.apply(
    bodies.map { $0 + layout.vectorByteCount }, [destination + layout.vectorByteCount],
    byteCount: layout.shardByteCount)
  return true
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
