import Base
import Messages

@testable import RPC

/// One whole frame, for comparing.
struct Frame: Equatable {
  var header: FrameHeader
  var payload: [UInt8]
}

/// Keeps every frame that a decoder cuts.
final class CollectedFrames: FrameSink {
  private(set) var frames: [Frame] = []

  func collector(for header: FrameHeader) -> BulkCollector? { nil }

  func receive(_ header: FrameHeader, _ payload: FramePayload) throws(ProtocolViolation) {
    frames.append(Frame(header: header, payload: payload.array))
  }
}

extension FrameHeader {
  /// As it goes over the wire.
  var bytes: [UInt8] {
    var bytes = [UInt8](repeating: 0xff, count: Self.byteCount)
    bytes.withUnsafeMutableBytes { write(to: $0) }
    return bytes
  }
}

/// A peer without sockets: a test, or the fuzzer, plays its part.
final class ScriptedTransport: Transport {
  /// What the connection sent.
  private(set) var sent: [UInt8] = []
  private(set) var isClosed = false
  /// False: the peer reads nothing, and output stays where it is.
  var isReading = true

  func receive(_ bytes: [UInt8]) { bytes.withUnsafeBytes { owner?.transportReceived($0) } }

  /// As a socket would: directly to where they belong where the connection knows that.
  func receiveFilling(_ bytes: ArraySlice<UInt8>) {
    guard let owner, owner.transportWantsFilling else {
      receive(Array(bytes))
      return
    }
    var rest = bytes
    while !rest.isEmpty {
      guard owner.transportWantsFilling, !isClosed else {
        receive(Array(rest))
        return
      }
      owner.transportFill { room in
        let count = min(room.count, rest.count)
        room.copyBytes(from: rest.prefix(count))
        rest = rest.dropFirst(count)
        return count
      }
    }
  }

  override func start() {
    owner?.transportIsReady(Identity(cluster: "test", role: .master, node: "node-1"))
  }

  override func flush() {
    guard isReading else { return }
    while output.takeNext(limit: 1 << 20, { bytes, _ in sent.append(contentsOf: bytes) }) {}
    owner?.transportHasRoom()
  }

  override func close() {
    flush()
    isClosed = true
    owner = nil
    super.close()
  }

  /// Whole frames among what was sent.
  var frames: [Frame] {
    let sink = CollectedFrames()
    var decoder = FrameDecoder(maximumPayloadBytes: 1 << 24)
    sent.withUnsafeBytes { try? decoder.push($0, sink) }
    return sink.frames
  }
}

/// Bytes of one frame, right or wrong.
func frame(
  _ type: UInt8, stream: UInt32 = 0, flags: UInt8 = 0, _ payload: [UInt8] = [],
  length: UInt32? = nil, reserved: UInt16 = 0
) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.append(bigEndian: length ?? UInt32(payload.count))
  bytes += [type, flags]
  bytes.append(bigEndian: reserved)
  bytes.append(bigEndian: stream)
  return bytes + payload
}

func helloFrame(
  version: UInt32 = 1, streamWindow: UInt32 = 1 << 20, connectionWindow: UInt32 = 1 << 22
) -> [UInt8] {
  var hello = Hello()
  hello.protocolVersion = version
  hello.maximumFrameBytes = 1 << 20
  hello.streamWindowBytes = streamWindow
  hello.connectionWindowBytes = connectionWindow
  hello.maximumStreams = 16
  return frame(FrameType.hello.rawValue, hello.encoded())
}

func headerFrame(_ method: String, stream: UInt32, ends: Bool = false) -> [UInt8] {
  var header = RequestHeader()
  header.method = method
  header.timeoutMicroseconds = 60_000_000
  return frame(
    FrameType.header.rawValue, stream: stream, flags: ends ? 1 : 0, header.encoded())
}
