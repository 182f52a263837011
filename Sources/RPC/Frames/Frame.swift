import Base

/// What a frame carries; the numbers stand in docs/formats/wire.md.
public enum FrameType: UInt8, Sendable {
  case hello = 0
  case header = 1
  case message = 2
  case bulk = 3
  case trailer = 4
  case cancel = 5
  case window = 6
  case ping = 7
  case pong = 8
  case goAway = 9
}

/// The twelve bytes before each payload.
public struct FrameHeader: Equatable, Sendable {
  public static let byteCount = 12
  /// The sender of this frame sends nothing more on this stream (header, message, bulk).
  public static let endFlag: UInt8 = 1

  public var payloadBytes: Int
  public var type: FrameType
  public var flags: UInt8
  /// 0 for the connection itself.
  public var stream: UInt32

  public var ends: Bool { flags & Self.endFlag != 0 }

  init(payloadBytes: Int, type: FrameType, flags: UInt8, stream: UInt32) {
    self.payloadBytes = payloadBytes
    self.type = type
    self.flags = flags
    self.stream = stream
  }

  /// Puts the twelve bytes at the beginning of `room`.
  func write(to room: UnsafeMutableRawBufferPointer) {
    room.storeBytes(of: UInt32(payloadBytes).bigEndian, toByteOffset: 0, as: UInt32.self)
    room.storeBytes(
      of: (UInt32(type.rawValue) << 24 | UInt32(flags) << 16).bigEndian, toByteOffset: 4,
      as: UInt32.self)
    room.storeBytes(of: stream.bigEndian, toByteOffset: 8, as: UInt32.self)
  }

  /// Reads twelve bytes.
  init(
    reading bytes: UnsafeRawBufferPointer, maximumPayloadBytes: Int
  ) throws(ProtocolViolation) {
    let length = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
    let reserved = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self))
    guard let type = FrameType(rawValue: bytes[4]) else {
      throw ProtocolViolation("unknown frame type \(bytes[4])")
    }
    guard reserved == 0 else { throw ProtocolViolation("reserved bytes are \(reserved)") }
    guard bytes[5] & ~Self.endFlag == 0 else {
      throw ProtocolViolation("unknown flags \(bytes[5])")
    }
    guard length <= maximumPayloadBytes else {
      throw ProtocolViolation("a frame of \(length) bytes, at most \(maximumPayloadBytes)")
    }
    self.init(
      payloadBytes: Int(length), type: type, flags: bytes[5],
      stream: UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self)))
  }
}

/// The other side broke the protocol; the connection is closed with this sentence.
public struct ProtocolViolation: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}
