/// Smooth noise on a lattice of hashed values: the same numbers everywhere, because only additions, multiplications
/// and integer hashes are used.
struct ValueNoise {
  private let seed: UInt64

  init(seed: UInt64) {
    self.seed = seed
  }

  private func lattice(_ x: Int, _ y: Int) -> Double {
    let place =
      UInt64(bitPattern: Int64(x)) &* 0x8DA6_B343 ^ UInt64(bitPattern: Int64(y)) &* 0xD816_3841
    return SplitMix64.unit(SplitMix64.mixed(seed ^ place))
  }

  /// 0...1, changing over distances of about one unit.
  func value(_ x: Double, _ y: Double) -> Double {
    let (floorX, floorY) = (x.rounded(.down), y.rounded(.down))
    let (left, top) = (Int(floorX), Int(floorY))
    let (u, v) = (Self.eased(x - floorX), Self.eased(y - floorY))
    let upper = lattice(left, top) * (1 - u) + lattice(left + 1, top) * u
    let lower = lattice(left, top + 1) * (1 - u) + lattice(left + 1, top + 1) * u
    return upper * (1 - v) + lower * v
  }

  /// Three octaves, 0...1.
  func fractal(_ x: Double, _ y: Double) -> Double {
    (value(x, y) * 4 + value(x * 2 + 17, y * 2 + 31) * 2 + value(x * 4 + 53, y * 4 + 71)) / 7
  }

  /// Close to a normal distribution of mean 0 and variance 1, independent from pixel to pixel.
  func grain(_ x: Int, _ y: Int, channel: UInt64) -> Double {
    var bits = SplitMix64(seed: seed ^ channel &* 0xA24B_AED4_963E_E407)
    let stream = bits.next() ^ UInt64(bitPattern: Int64(x)) << 32 ^ UInt64(bitPattern: Int64(y))
    var source = SplitMix64(seed: stream)
    // The sum of four uniform numbers has variance 1/3.
    var sum = 0.0
    for _ in 0..<4 { sum += SplitMix64.unit(source.next()) }
    return (sum - 2) * 1.7320508075688772
  }

  private static func eased(_ t: Double) -> Double { t * t * (3 - 2 * t) }
}

/// 0 up to `from`, 1 from `to` on, smooth between; `from` may be the larger.
func smoothStep(_ from: Double, _ to: Double, _ x: Double) -> Double {
  let t = min(max((x - from) / (to - from), 0), 1)
  return t * t * (3 - 2 * t)
}

func mix(_ a: Double, _ b: Double, _ t: Double) -> Double { a + (b - a) * t }
