/// Probability that a secret cannot be rebuilt while every holder fails independently.
///
/// With q the probability that a holder is down, fewer than r of s are up with probability
/// sum over i < r of C(s, i) (1 - q)^i q^(s - i). The paper's Theorem 4 has q and 1 - q the other
/// way round. Computed as this sum, since one minus the availability would lose the digits that
/// matter.
public func unavailability(
  threshold: Int, shadowCount: Int, failureProbability: Double
) -> Double {
  precondition(
    threshold >= 1 && threshold <= shadowCount, "threshold \(threshold) of \(shadowCount)")
  precondition((0...1).contains(failureProbability), "probability \(failureProbability)")
  return (0..<threshold).reduce(0.0) { sum, up in
    var term = 1.0
    for k in 0..<up {
      term *= Double(shadowCount - k) / Double(k + 1) * (1 - failureProbability)
    }
    for _ in up..<shadowCount { term *= failureProbability }
    return sum + term
  }
}

/// Probability that at least r of the s holders are up.
public func availability(
  threshold: Int, shadowCount: Int, failureProbability: Double
) -> Double {
  1
    - unavailability(
      threshold: threshold, shadowCount: shadowCount, failureProbability: failureProbability)
}
