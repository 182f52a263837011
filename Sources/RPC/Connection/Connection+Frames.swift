import Base
import Messages

extension Connection {
  /// Writes a frame's header and gives room for its payload, which the caller fills at once.
  func room(
    _ type: FrameType, _ flags: UInt8, _ stream: UInt32, _ payloadBytes: Int
  ) -> UnsafeMutableRawBufferPointer {
    let header = FrameHeader(
      payloadBytes: payloadBytes, type: type, flags: flags, stream: stream)
    let room = transport.output.reserve(FrameHeader.byteCount + payloadBytes)
    header.write(to: room)
    transport.outputWasAppended()
    return UnsafeMutableRawBufferPointer(rebasing: room[FrameHeader.byteCount...])
  }

  func write(_ type: FrameType, _ flags: UInt8, _ stream: UInt32, _ payload: [UInt8]) {
    let target = room(type, flags, stream, payload.count)
    payload.withUnsafeBytes { target.copyMemory(from: $0) }
  }

  /// Raw bytes go to TLS from where they lie. Small ones are cheaper to copy.
  func writeBulk(
    _ stream: UInt32, _ flags: UInt8, _ bytes: [UInt8], _ start: Int, _ count: Int
  ) {
    if count < 4096 {
      let target = room(.bulk, flags, stream, count)
      bytes.withUnsafeBytes {
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<start + count]))
      }
      return
    }
    let header = FrameHeader(payloadBytes: count, type: .bulk, flags: flags, stream: stream)
    header.write(to: transport.output.reserve(FrameHeader.byteCount))
    transport.output.append(slice: bytes, from: start, to: start + count)
    transport.outputWasAppended()
  }

  /// Control frames: they need no credit and wait for nobody.
  func send(
    _ type: FrameType, stream: UInt32,
    _ payload: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
  ) {
    guard !isClosed else { return }
    room(type, 0, stream, payload.count).copyMemory(from: payload)
    checkPeerReads()
  }

  /// Answers to pings, refusals and credit are not held back by the mark for data.
  func checkPeerReads() {
    if transport.pendingBytes > max(ConnectionLimits.outputLimitBytes, 2 * limits.maximumFrameBytes)
    {
      close(RPCError(.resourceExhausted, "the peer does not read", reason: CloseReason.notReading))
    }
  }

  func sendWindow(stream: UInt32, _ credit: Int) {
    withUnsafeBytes(of: UInt32(credit).bigEndian) { send(.window, stream: stream, $0) }
  }

  func sendHello() {
    var hello = Hello()
    hello.protocolVersion = ConnectionLimits.protocolVersion
    hello.maximumFrameBytes = UInt32(limits.maximumFrameBytes)
    hello.streamWindowBytes = UInt32(limits.streamWindowBytes)
    hello.connectionWindowBytes = UInt32(limits.connectionWindowBytes)
    hello.maximumStreams = UInt32(limits.maximumStreams)
    hello.encode { room(.hello, 0, 0, $0) }
  }

  func sendGoAway(_ error: RPCError) {
    guard !isClosed else { return }
    var goAway = GoAway()
    goAway.lastStream = highestStream
    goAway.status = error.code.rawValue
    goAway.message = error.message
    goAway.encode { room(.goAway, 0, 0, $0) }
  }
}
