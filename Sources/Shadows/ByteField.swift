/// Arithmetic in GF(2^8) with the polynomial 0x11D, in time that does not depend on the values.
///
/// The same field as the Reed-Solomon shards have; no tables, since an index into one shows in a cache.
enum ByteField {
  static func multiply(_ left: UInt8, _ right: UInt8) -> UInt8 {
    var product: UInt16 = 0
    for bit in 0..<8 as Range<UInt16> {
      product ^= (UInt16(left) << bit) & (0 &- (UInt16(right) >> bit & 1))
    }
    for bit in (8...14 as ClosedRange<UInt16>).reversed() {
      product ^= (0x11D << (bit - 8)) & (0 &- (product >> bit & 1))
    }
    return UInt8(truncatingIfNeeded: product)
  }

  /// x^254, which is 1 / x; 0 for 0.
  static func inverse(_ value: UInt8) -> UInt8 {
    var power = value
    for _ in 0..<6 { power = multiply(multiply(power, power), value) }
    return multiply(power, power)
  }
}
