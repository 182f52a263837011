import Glibc

/// Reproducible numbers from a seed (splitmix64, Steele, Lea and Flood 2014): for jitter, simulations and tests;
/// never for anything that has to be secret.
public struct SplitMix64: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

extension SplitMix64 {
  /// Of the standard normal distribution (Box and Muller, 1958).
  public mutating func normal() -> Double {
    // Never 0, of which there is no logarithm.
    let first = (Double(next() >> 11) + 0.5) / Double(1 << 53)
    let second = Double(next() >> 11) / Double(1 << 53)
    return (-2 * log(first)).squareRoot() * cos(2 * .pi * second)
  }
}
