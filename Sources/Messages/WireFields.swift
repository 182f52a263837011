/// What stands behind one field's number on the wire.
public enum WireFieldValue: Equatable, Sendable {
  case varint(UInt64)
  case fixed64(UInt64)
  /// Where the bytes of a text, a message or packed numbers lie.
  case bytes(Range<Int>)
  case fixed32(UInt32)
}

/// One field of a message whose type need not be known.
public struct WireField: Equatable, Sendable {
  public let number: UInt32
  public let value: WireFieldValue
  /// Of the number and what follows it.
  public let range: Range<Int>
}

/// Cuts protobuf bytes into fields. Groups, which proto3 does not have, are malformed.
public struct WireFieldReader: Sendable {
  public static let largestNumber: UInt32 = (1 << 29) - 1
  private let bytes: [UInt8]
  /// Of the next byte to be read.
  public private(set) var position: Int
  private let end: Int

  public init(_ bytes: [UInt8], in range: Range<Int>? = nil) {
    self.bytes = bytes
    let range = range ?? 0..<bytes.count
    precondition(range.upperBound <= bytes.count, "\(range) of \(bytes.count) bytes")
    position = range.lowerBound
    end = range.upperBound
  }

  public var isAtEnd: Bool { position == end }

  /// Nil at the end.
  public mutating func next() throws(WireError) -> WireField? {
    if isAtEnd { return nil }
    let start = position
    let tag = try varint()
    let number = tag >> 3
    guard number > 0, number <= UInt64(Self.largestNumber) else { throw .malformed }
    let value: WireFieldValue
    switch tag & 7 {
    case 0: value = .varint(try varint())
    case 1: value = .fixed64(try fixed64())
    case 2:
      let count = try varint()
      guard count <= UInt64(end - position) else { throw .malformed }
      value = .bytes(position..<position + Int(count))
      position += Int(count)
    case 5: value = .fixed32(try fixed32())
    default: throw .malformed
    }
    return WireField(number: UInt32(number), value: value, range: start..<position)
  }

  /// At most ten bytes; bits above the 64th are dropped, as protobuf's own readers do.
  public mutating func varint() throws(WireError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 70, by: 7) {
      guard position < end else { throw .malformed }
      let byte = bytes[position]
      position += 1
      value |= UInt64(byte & 0x7f) << UInt64(shift)
      if byte < 0x80 { return value }
    }
    throw .malformed
  }

  public mutating func fixed32() throws(WireError) -> UInt32 { UInt32(try littleEndian(4)) }

  public mutating func fixed64() throws(WireError) -> UInt64 { try littleEndian(8) }

  private mutating func littleEndian(_ count: Int) throws(WireError) -> UInt64 {
    guard end - position >= count else { throw .malformed }
    var value: UInt64 = 0
    for index in 0..<count { value |= UInt64(bytes[position + index]) << UInt64(8 * index) }
    position += count
    return value
  }
}

/// Writes protobuf fields one after another.
public struct WireFieldWriter: Sendable {
  public private(set) var bytes: [UInt8] = []

  public init() {}

  public mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  public mutating func append(_ more: some Collection<UInt8>) { bytes.append(contentsOf: more) }

  public mutating func fixed32(_ value: UInt32) { littleEndian(UInt64(value), 4) }

  public mutating func fixed64(_ value: UInt64) { littleEndian(value, 8) }

  private mutating func littleEndian(_ value: UInt64, _ count: Int) {
    for index in 0..<count { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
  }

  public mutating func field(_ number: UInt32, varint value: UInt64) {
    varint(UInt64(number) << 3)
    varint(value)
  }

  public mutating func field(_ number: UInt32, fixed64 value: UInt64) {
    varint(UInt64(number) << 3 | 1)
    fixed64(value)
  }

  public mutating func field(_ number: UInt32, bytes value: some Collection<UInt8>) {
    varint(UInt64(number) << 3 | 2)
    varint(UInt64(value.count))
    bytes.append(contentsOf: value)
  }

  public mutating func field(_ number: UInt32, fixed32 value: UInt32) {
    varint(UInt64(number) << 3 | 5)
    fixed32(value)
  }
}
