/// Steele, Lea and Flood's generator (2014): small, and the same numbers everywhere. Not for secrets.
struct SplitMix64 {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Self.mixed(state)
  }

  /// Uniform in `range`, from 53 bits.
  mutating func uniform(_ range: ClosedRange<Double>) -> Double {
    range.lowerBound + (range.upperBound - range.lowerBound) * Self.unit(next())
  }

  /// The generator's finaliser: a bijection in which every input bit reaches every output bit.
  static func mixed(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }

  /// 0 ..< 1.
  static func unit(_ bits: UInt64) -> Double { Double(bits >> 11) * 0x1p-53 }
}
