/// The payload of a frame that has come whole.
enum FramePayload {
  /// In memory that somebody else uses next.
  case borrowed(UnsafeRawBufferPointer)
  /// Gathered from several reads.
  case owned([UInt8])
  /// Bulk that went where its call collects it.
  case collected(BulkCollector)

  /// The bytes, wherever they are; none where a call has them already.
  func withBytes<Result>(
    _ body: (UnsafeRawBufferPointer) throws(ProtocolViolation) -> Result
  ) throws(ProtocolViolation) -> Result {
    switch self {
    case .borrowed(let bytes): return try body(bytes)
    case .owned(let bytes):
      let outcome = bytes.withUnsafeBytes { view in
        Swift.Result { () throws(ProtocolViolation) in try body(view) }
      }
      return try outcome.get()
    case .collected: return try body(UnsafeRawBufferPointer(start: nil, count: 0))
    }
  }

  /// The bytes as an array of their own.
  var array: [UInt8] {
    switch self {
    case .borrowed(let bytes): Array(bytes)
    case .owned(let bytes): bytes
    case .collected: []
    }
  }
}

/// Takes the frames that a ``FrameDecoder`` cuts.
protocol FrameSink: AnyObject {
  /// Where the bytes of this bulk frame go, if its call collects them; asked before they come.
  func collector(for header: FrameHeader) -> BulkCollector?
  func receive(_ header: FrameHeader, _ payload: FramePayload) throws(ProtocolViolation)
}

/// Cuts a byte stream into frames. Sizes are checked before memory is taken.
///
/// A frame that lies whole in the bytes given is handed on as it lies. Memory is taken only for one
/// that is cut, and for bulk not even then where its call has memory for it.
struct FrameDecoder {
  private let maximumPayloadBytes: Int
  private var headerBytes: [UInt8] = []
  private var current: FrameHeader?
  private var payload: [UInt8] = []
  private var collector: BulkCollector?
  /// Bytes of the current payload that have come.
  private var filled = 0

  /// Below this a copy is cheaper than a read of its own.
  private static let directBytes = 2048

  init(maximumPayloadBytes: Int) { self.maximumPayloadBytes = maximumPayloadBytes }

  /// True where a frame has begun and not ended.
  var isInsideFrame: Bool { current != nil || !headerBytes.isEmpty }

  private var remaining: Int { (current?.payloadBytes ?? 0) - filled }

  /// True where the next bytes are a known frame's, and many.
  var wantsFilling: Bool { remaining >= Self.directBytes }

  /// Lets `read` put bytes of the current frame in place; it returns how many it put.
  mutating func fill(
    _ sink: some FrameSink, _ read: (UnsafeMutableRawBufferPointer) -> Int
  ) throws(ProtocolViolation) {
    let wanted = remaining
    let count: Int
    if let collector {
      count = collector.withRoom(wanted, read)
    } else {
      count = payload.withUnsafeMutableBytes {
        read(UnsafeMutableRawBufferPointer(rebasing: $0[filled..<filled + wanted]))
      }
    }
    precondition(count <= wanted, "\(count) bytes were read where \(wanted) were wanted")
    filled += count
    try finishIfWhole(sink)
  }

  /// Takes all of `bytes` and gives each frame that became whole to `sink`.
  mutating func push(
    _ bytes: UnsafeRawBufferPointer, _ sink: some FrameSink
  ) throws(ProtocolViolation) {
    var position = 0
    while position < bytes.count {
      if current != nil {
        let take = min(remaining, bytes.count - position)
        store(UnsafeRawBufferPointer(rebasing: bytes[position..<position + take]))
        position += take
        try finishIfWhole(sink)
        continue
      }
      guard let header = try nextHeader(bytes, &position) else { return }
      if header.payloadBytes <= bytes.count - position {
        let end = position + header.payloadBytes
        try sink.receive(header, .borrowed(UnsafeRawBufferPointer(rebasing: bytes[position..<end])))
        position = end
      } else {
        begin(header, sink)
      }
    }
  }

  /// The next header; nil where it is cut.
  private mutating func nextHeader(
    _ bytes: UnsafeRawBufferPointer, _ position: inout Int
  ) throws(ProtocolViolation) -> FrameHeader? {
    let available = bytes.count - position
    if headerBytes.isEmpty && available >= FrameHeader.byteCount {
      let view = UnsafeRawBufferPointer(
        rebasing: bytes[position..<position + FrameHeader.byteCount])
      position += FrameHeader.byteCount
      return try FrameHeader(reading: view, maximumPayloadBytes: maximumPayloadBytes)
    }
    let take = min(FrameHeader.byteCount - headerBytes.count, available)
    headerBytes.append(contentsOf: bytes[position..<position + take])
    position += take
    guard headerBytes.count == FrameHeader.byteCount else { return nil }
    let whole = headerBytes
    headerBytes = []
    let header = whole.withUnsafeBytes { [maximumPayloadBytes] view in
      Result { () throws(ProtocolViolation) in
        try FrameHeader(reading: view, maximumPayloadBytes: maximumPayloadBytes)
      }
    }
    return try header.get()
  }

  private mutating func begin(_ header: FrameHeader, _ sink: some FrameSink) {
    current = header
    filled = 0
    collector = header.type == .bulk ? sink.collector(for: header) : nil
    if collector == nil {
      payload = [UInt8](unsafeUninitializedCapacity: header.payloadBytes) { _, count in
        count = header.payloadBytes
      }
    }
  }

  private mutating func store(_ bytes: UnsafeRawBufferPointer) {
    if let collector {
      _ = collector.withRoom(bytes.count) { room in
        room.copyMemory(from: bytes)
        return bytes.count
      }
    } else {
      let position = filled
      payload.withUnsafeMutableBytes {
        UnsafeMutableRawBufferPointer(rebasing: $0[position..<position + bytes.count])
          .copyMemory(from: bytes)
      }
    }
    filled += bytes.count
  }

  private mutating func finishIfWhole(_ sink: some FrameSink) throws(ProtocolViolation) {
    guard let header = current, filled == header.payloadBytes else { return }
    let whole: FramePayload = collector.map { .collected($0) } ?? .owned(payload)
    current = nil
    collector = nil
    payload = []
    filled = 0
    try sink.receive(header, whole)
  }
}
