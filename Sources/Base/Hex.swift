extension Array where Element == UInt8 {
  /// Lower-case hexadecimal, two digits a byte.
  public var hex: String {
    let digits = [UInt8]("0123456789abcdef".utf8)
    return String(unsafeUninitializedCapacity: count * 2) { buffer in
      for (index, byte) in enumerated() {
        buffer[2 * index] = digits[Int(byte >> 4)]
        buffer[2 * index + 1] = digits[Int(byte & 15)]
      }
      return count * 2
    }
  }

  /// Nil where the text is not an even number of hexadecimal digits.
  public init?(hex text: String) {
    let digits = Swift.Array(text.utf8)
    guard digits.count.isMultiple(of: 2) else { return nil }
    self.init()
    reserveCapacity(digits.count / 2)
    for index in stride(from: 0, to: digits.count, by: 2) {
      guard let high = Self.value(ofDigit: digits[index]),
        let low = Self.value(ofDigit: digits[index + 1])
      else { return nil }
      append(high << 4 | low)
    }
  }

  private static func value(ofDigit digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  /// Appends an integer in network byte order.
  public mutating func append<Integer: FixedWidthInteger>(bigEndian value: Integer) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }
}

extension FixedWidthInteger {
  /// Reads an integer in network byte order; nil where fewer bytes than its width are left.
  public init?(bigEndian bytes: [UInt8], at offset: Int) {
    let width = Self.bitWidth / 8
    guard offset >= 0, bytes.count - offset >= width else { return nil }
    self = bytes.withUnsafeBytes {
      Self(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: Self.self))
    }
  }
}
