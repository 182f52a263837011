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

  func append(to output: inout [UInt8]) {
    output.append(bigEndian: UInt32(payloadBytes))
    output.append(type.rawValue)
    output.append(flags)
    output.append(bigEndian: UInt16(0))
    output.append(bigEndian: stream)
  }
}

/// One whole frame.
public struct Frame: Equatable, Sendable {
  public var header: FrameHeader
  public var payload: [UInt8]
}

/// The other side broke the protocol; the connection is closed with this sentence.
public struct ProtocolViolation: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}

/// Cuts a byte stream into frames. Sizes are checked before memory is taken.
public struct FrameDecoder: Sendable {
  private let maximumPayloadBytes: Int
  private var headerBytes: [UInt8] = []
  private var current: FrameHeader?
  private var payload: [UInt8] = []

  public init(maximumPayloadBytes: Int) {
    self.maximumPayloadBytes = maximumPayloadBytes
    headerBytes.reserveCapacity(FrameHeader.byteCount)
  }

  /// True where a frame has begun and not ended.
  public var isInsideFrame: Bool { current != nil || !headerBytes.isEmpty }

  /// Takes all of `bytes` and gives each frame that became whole to `body`.
  public mutating func push(
    _ bytes: UnsafeRawBufferPointer, _ body: (Frame) throws(ProtocolViolation) -> Void
  ) throws(ProtocolViolation) {
    var position = 0
    while position < bytes.count {
      if let header = current {
        let take = min(header.payloadBytes - payload.count, bytes.count - position)
        payload.append(contentsOf: bytes[position..<position + take])
        position += take
      } else {
        let take = min(FrameHeader.byteCount - headerBytes.count, bytes.count - position)
        headerBytes.append(contentsOf: bytes[position..<position + take])
        position += take
        guard headerBytes.count == FrameHeader.byteCount else { return }
        let header = try parseHeader()
        headerBytes.removeAll(keepingCapacity: true)
        current = header
        payload = []
        payload.reserveCapacity(header.payloadBytes)
      }
      if let header = current, payload.count == header.payloadBytes {
        let frame = Frame(header: header, payload: payload)
        current = nil
        payload = []
        try body(frame)
      }
    }
  }

  private func parseHeader() throws(ProtocolViolation) -> FrameHeader {
    guard let length = UInt32(bigEndian: headerBytes, at: 0),
      let reserved = UInt16(bigEndian: headerBytes, at: 6),
      let stream = UInt32(bigEndian: headerBytes, at: 8)
    else { preconditionFailure("a header has 12 bytes, not \(headerBytes.count)") }
    guard let type = FrameType(rawValue: headerBytes[4]) else {
      throw ProtocolViolation("unknown frame type \(headerBytes[4])")
    }
    guard reserved == 0 else { throw ProtocolViolation("reserved bytes are \(reserved)") }
    guard headerBytes[5] & ~FrameHeader.endFlag == 0 else {
      throw ProtocolViolation("unknown flags \(headerBytes[5])")
    }
    guard length <= maximumPayloadBytes else {
      throw ProtocolViolation("a frame of \(length) bytes, at most \(maximumPayloadBytes)")
    }
    return FrameHeader(
      payloadBytes: Int(length), type: type, flags: headerBytes[5], stream: stream)
  }
}
