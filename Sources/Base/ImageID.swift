/// The name of a stored image: 16 bytes made by its owner, so that an upload may be repeated safely.
public struct ImageID: Hashable, Sendable, Comparable, CustomStringConvertible {
  public static let byteCount = 16
  private let high: UInt64
  private let low: UInt64

  /// Nil where there are not exactly 16 bytes.
  public init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount, let high = UInt64(bigEndian: bytes, at: 0),
      let low = UInt64(bigEndian: bytes, at: 8)
    else { return nil }
    self.high = high
    self.low = low
  }

  /// Nil where the text is not 32 hexadecimal digits.
  public init?(hex: String) {
    guard let bytes = [UInt8](hex: hex) else { return nil }
    self.init(bytes)
  }

  public var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.byteCount)
    bytes.append(bigEndian: high)
    bytes.append(bigEndian: low)
    return bytes
  }

  public var description: String { bytes.hex }

  public static func < (left: ImageID, right: ImageID) -> Bool {
    (left.high, left.low) < (right.high, right.low)
  }
}
