import Messages

/// The fields of a `RequestHeader` as they lie in a frame.
///
/// Nearly every call's header is a method and a timeout, and is read here without taking memory; one with
/// metadata, or with a name that is not plain ASCII, goes through protobuf-c. What is read here protobuf-c
/// would read alike (Tests/Fuzz holds the two against each other).
struct RequestHead {
  /// ASCII without zero bytes; valid as long as the frame's bytes are.
  var method = UnsafeRawBufferPointer(start: nil, count: 0)
  var timeoutMicroseconds: UInt64 = 0

  private static let methodTag: UInt8 = 0x0a
  private static let timeoutTag: UInt8 = 0x10
  /// protobuf-c takes no longer ones.
  private static let maximumLengthBytes = 5

  /// Nil where the bytes hold anything beside the two fields, in protobuf-c's own order.
  init?(_ bytes: UnsafeRawBufferPointer) {
    var position = 0
    if position < bytes.count, bytes[position] == Self.methodTag {
      position += 1
      let lengthStart = position
      guard let count = Self.varint(bytes, &position), count > 0,
        position - lengthStart <= Self.maximumLengthBytes,
        count <= UInt64(bytes.count - position)
      else { return nil }
      method = UnsafeRawBufferPointer(rebasing: bytes[position..<position + Int(count)])
      // protobuf-c cuts a text at a zero byte, and texts of another script are checked elsewhere.
      guard method.allSatisfy({ $0 != 0 && $0 < 0x80 }) else { return nil }
      position += Int(count)
    }
    if position < bytes.count, bytes[position] == Self.timeoutTag {
      position += 1
      guard let timeout = Self.varint(bytes, &position) else { return nil }
      timeoutMicroseconds = timeout
    }
    guard position == bytes.count else { return nil }
  }

  private static func varint(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while position < bytes.count, shift < 63 {
      let byte = bytes[position]
      position += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
    return nil
  }

  /// Bytes of a header of these two fields.
  static func encodedCount(_ method: String.UTF8View, _ timeoutMicroseconds: UInt64) -> Int {
    let count = method.count
    return (count == 0 ? 0 : 1 + varintCount(UInt64(count)) + count)
      + (timeoutMicroseconds == 0 ? 0 : 1 + varintCount(timeoutMicroseconds))
  }

  /// Writes them; `room` has exactly ``encodedCount(_:_:)`` bytes.
  static func encode(
    _ method: String.UTF8View, _ timeoutMicroseconds: UInt64,
    into room: UnsafeMutableRawBufferPointer
  ) {
    var position = 0
    func put(_ byte: UInt8) {
      room[position] = byte
      position += 1
    }
    func put(varint value: UInt64) {
      var value = value
      while value >= 0x80 {
        put(UInt8(truncatingIfNeeded: value) | 0x80)
        value >>= 7
      }
      put(UInt8(value))
    }
    if !method.isEmpty {
      put(methodTag)
      put(varint: UInt64(method.count))
      let copied: Void? = method.withContiguousStorageIfAvailable { source in
        UnsafeMutableRawBufferPointer(rebasing: room[position..<position + source.count])
          .copyMemory(from: UnsafeRawBufferPointer(source))
        position += source.count
      }
      if copied == nil { for byte in method { put(byte) } }
    }
    if timeoutMicroseconds != 0 {
      put(timeoutTag)
      put(varint: timeoutMicroseconds)
    }
  }

  private static func varintCount(_ value: UInt64) -> Int {
    max(1, (UInt64.bitWidth - value.leadingZeroBitCount + 6) / 7)
  }
}
