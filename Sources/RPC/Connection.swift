import Base
import Logging
import Messages

/// Frames, streams, credit and keepalive of one connection, the same for both sides. Confined to its loop.
final class Connection: @unchecked Sendable {
  enum Side { case client, server }

  let loop: EventLoop
  let side: Side
  let limits: ConnectionLimits
  private let transport: any Transport
  private let logger: Logger
  private var decoder: FrameDecoder
  private(set) var peer: Identity?
  private(set) var peerHello: Hello?
  private var streams: [UInt32: Stream] = [:]
  private var streamsWithOutput: [Stream] = []
  private var highestStream: UInt32 = 0
  private var sendCredit = 0
  private var receiveCredit: Int
  private var unreturnedCredit = 0
  private(set) var isDraining = false
  private var isClosed = false
  private var isPumping = false
  private var handshakeTimer: TimerID?
  private var keepaliveTimer: TimerID?
  private var receivedSinceTick = false
  private var pingIsOut = false

  /// Both sides have said hello.
  var onReady: ((Identity?) -> Void)?
  /// Server: a call began.
  var onCall: ((Stream, RequestHeader) -> Void)?
  /// The peer takes no new calls.
  var onGoAway: (() -> Void)?
  var onClosed: ((RPCError) -> Void)?
  /// Looks at the peer once it is known; an error ends the connection.
  var admit: ((Identity?) -> RPCError?)?

  init(
    loop: EventLoop, side: Side, transport: any Transport, limits: ConnectionLimits, logger: Logger
  ) {
    self.loop = loop
    self.side = side
    self.transport = transport
    self.limits = limits
    self.logger = logger
    decoder = FrameDecoder(maximumPayloadBytes: limits.maximumFrameBytes)
    receiveCredit = limits.connectionWindowBytes
  }

  var peerName: String { transport.peerName }
  /// Takes no new calls, now or ever.
  var isLeaving: Bool { isDraining || isClosed || highestStream >= UInt32(Int32.max) }
  var peerMaximumFrameBytes: Int { Int(peerHello?.maximumFrameBytes ?? 0) }

  func start() {
    // The connection lives until its transport closes.
    transport.onEvent = { [self] event in handle(event) }
    handshakeTimer = loop.schedule(afterMilliseconds: limits.handshakeMilliseconds) { [weak self] in
      self?.close(RPCError(.unavailable, "no handshake within the time allowed"))
    }
    transport.start()
  }

  private func handle(_ event: TransportEvent) {
    switch event {
    case .ready(let identity):
      peer = identity
      if let refusal = admit?(identity) {
        closeSaying(refusal)
        return
      }
      sendHello()
    case .received(let bytes):
      receivedSinceTick = true
      do {
        try decoder.push(bytes) { (frame) throws(ProtocolViolation) in try receive(frame) }
      } catch {
        logger.warning(
          "closing connection: protocol violation",
          metadata: ["peer": "\(peerName)", "reason": "\(error)"])
        closeSaying(RPCError(.internalError, "protocol violation: \(error)"))
      }
    case .drained: pump()
    case .closed(let error): finishClosing(error)
    }
  }

  // MARK: receiving

  private func receive(_ frame: Frame) throws(ProtocolViolation) {
    if isClosed { return }
    guard peerHello != nil else {
      if frame.header.type == .goAway, frame.header.stream == 0 {
        // Turned away at the door.
        let goAway: GoAway = try decode(frame)
        let code = StatusCode(rawValue: goAway.status) ?? .unavailable
        close(RPCError(code == .ok ? .unavailable : code, "refused: \(goAway.message)"))
        return
      }
      guard frame.header.type == .hello, frame.header.stream == 0 else {
        throw ProtocolViolation("the first frame is \(frame.header.type), not hello")
      }
      try receiveHello(decode(frame))
      return
    }
    if frame.header.ends && side == .client {
      throw ProtocolViolation("a server ends a call with a trailer only")
    }
    switch frame.header.type {
    case .hello: throw ProtocolViolation("a second hello")
    case .header: try receiveHeader(frame)
    case .message: try receivePart(.message(frame.payload), frame.header)
    case .bulk:
      if frame.payload.isEmpty && frame.header.ends {
        try streams[frame.header.stream]?.acceptEnd()
        try checkKnown(frame.header.stream)
      } else {
        try receivePart(.bulk(frame.payload), frame.header)
      }
    case .trailer: try receiveTrailer(frame)
    case .cancel: try receiveCancel(frame.header.stream)
    case .window: try receiveWindow(frame)
    case .ping:
      guard frame.payload.count == 8 else { throw ProtocolViolation("a ping has 8 bytes") }
      send(.pong, stream: 0, frame.payload)
    case .pong: pingIsOut = false
    case .goAway:
      let goAway: GoAway = try decode(frame)
      isDraining = true
      if goAway.status != 0 && goAway.status != StatusCode.unavailable.rawValue {
        logger.warning("peer closes the connection", metadata: ["reason": "\(goAway.message)"])
      }
      onGoAway?()
      closeIfDrained()
    }
  }

  private func decode<M: WireMessage>(_ frame: Frame) throws(ProtocolViolation) -> M {
    do {
      return try M(decoding: frame.payload)
    } catch {
      throw ProtocolViolation("\(frame.header.type) frame: \(error)")
    }
  }

  private func receiveHello(_ hello: Hello) throws(ProtocolViolation) {
    guard hello.protocolVersion == ConnectionLimits.protocolVersion else {
      throw ProtocolViolation(
        "protocol version \(hello.protocolVersion), this side speaks "
          + "\(ConnectionLimits.protocolVersion)")
    }
    let bound: UInt32 = 1 << 30
    guard (16 << 10...bound).contains(hello.maximumFrameBytes),
      (16 << 10...bound).contains(hello.streamWindowBytes),
      (16 << 10...bound).contains(hello.connectionWindowBytes)
    else { throw ProtocolViolation("limits in hello are out of range") }
    peerHello = hello
    sendCredit = Int(hello.connectionWindowBytes)
    loop.cancel(handshakeTimer)
    handshakeTimer = nil
    scheduleKeepalive()
    onReady?(peer)
  }

  private func receiveHeader(_ frame: Frame) throws(ProtocolViolation) {
    guard side == .server else { throw ProtocolViolation("a server opened a call") }
    let id = frame.header.stream
    guard id > highestStream else {
      throw ProtocolViolation("stream \(id) after stream \(highestStream)")
    }
    let header: RequestHeader = try decode(frame)
    highestStream = id
    let stream = makeStream(id)
    if frame.header.ends { try stream.acceptEnd() }
    if isDraining {
      finish(
        stream, RPCError(.unavailable, "the server is shutting down", reason: "Draining"))
    } else if streams.count > limits.maximumStreams {
      finish(stream, RPCError(.resourceExhausted, "more than \(limits.maximumStreams) calls"))
    } else {
      onCall?(stream, header)
    }
  }

  private func receivePart(
    _ part: Inbound, _ header: FrameHeader
  ) throws(ProtocolViolation) {
    receiveCredit -= part.charge
    guard receiveCredit >= 0 else {
      throw ProtocolViolation("the connection's window is overrun by \(-receiveCredit) bytes")
    }
    if let stream = streams[header.stream] {
      try stream.accept(part, ends: header.ends)
    } else {
      try checkKnown(header.stream)
      // It was under way when the call ended: nobody will read it.
      returnConnectionCredit(part.charge)
    }
  }

  /// A stream that never was is a violation; one that is over is not.
  private func checkKnown(_ id: UInt32) throws(ProtocolViolation) {
    guard id > 0, id <= highestStream else { throw ProtocolViolation("unknown stream \(id)") }
  }

  private func receiveTrailer(_ frame: Frame) throws(ProtocolViolation) {
    guard side == .client else { throw ProtocolViolation("a client sent a trailer") }
    try checkKnown(frame.header.stream)
    let trailer: Trailer = try decode(frame)
    guard let stream = streams.removeValue(forKey: frame.header.stream) else { return }
    if trailer.status == StatusCode.ok.rawValue {
      stream.end(nil, aborted: false)
    } else {
      let code = StatusCode(rawValue: trailer.status) ?? .unknown
      stream.end(RPCError(code, trailer.message, reason: trailer.reason), aborted: false)
    }
    closeIfDrained()
  }

  private func receiveCancel(_ id: UInt32) throws(ProtocolViolation) {
    guard side == .server else { throw ProtocolViolation("a server cancelled a call") }
    try checkKnown(id)
    guard let stream = streams.removeValue(forKey: id) else { return }
    stream.end(RPCError(.cancelled, "the caller cancelled"), aborted: true)
    closeIfDrained()
  }

  private func receiveWindow(_ frame: Frame) throws(ProtocolViolation) {
    guard frame.payload.count == 4, let increment = UInt32(bigEndian: frame.payload, at: 0) else {
      throw ProtocolViolation("a window frame has 4 bytes, not \(frame.payload.count)")
    }
    let id = frame.header.stream
    if id == 0 {
      sendCredit += Int(increment)
      guard sendCredit <= Int(UInt32.max) else { throw ProtocolViolation("window overflow") }
      streamsWithOutput = Array(streams.values.filter { !$0.outgoing.isEmpty })
    } else {
      try checkKnown(id)
      guard let stream = streams[id] else { return }
      stream.sendCredit += Int(increment)
      guard stream.sendCredit <= Int(UInt32.max) else {
        throw ProtocolViolation("window overflow on stream \(id)")
      }
      streamHasOutput(stream)
    }
    pump()
  }

  // MARK: streams

  private func makeStream(_ id: UInt32) -> Stream {
    let stream = Stream(
      id: id, connection: self, sendCredit: Int(peerHello?.streamWindowBytes ?? 0),
      windowBytes: limits.streamWindowBytes)
    streams[id] = stream
    return stream
  }

  /// Client: begins a call. Nil where this connection takes no more.
  func open(_ header: RequestHeader, deadlineNanoseconds: UInt64) -> Stream? {
    precondition(side == .client && peerHello != nil, "open() on a connection that is not ready")
    guard !isLeaving, streams.count < Int(peerHello?.maximumStreams ?? 0) else { return nil }
    highestStream += 1
    let stream = makeStream(highestStream)
    stream.startDeadline(atNanoseconds: deadlineNanoseconds)
    stream.enqueue(.header, header.encoded(), ends: false)
    return stream
  }

  /// Server: the call's answer. Data still waiting goes first on success and nowhere on failure.
  func finish(_ stream: Stream, _ error: RPCError?) {
    guard !stream.isFinished, streams[stream.id] === stream else { return }
    var trailer = Trailer()
    trailer.status = (error?.code ?? .ok).rawValue
    // A sentence for people, not a channel for data.
    trailer.message = String((error?.message ?? "").prefix(1000))
    trailer.reason = error?.reason ?? ""
    if error != nil || stream.outgoing.isEmpty {
      streams[stream.id] = nil
      stream.end(error ?? RPCError(.cancelled, "the call is over"), aborted: false)
      send(.trailer, stream: stream.id, trailer.encoded())
    } else {
      stream.enqueue(.trailer, trailer.encoded(), ends: true)
    }
    closeIfDrained()
  }

  func cancelStream(_ stream: Stream, _ error: RPCError) {
    if side == .server {
      finish(stream, error)
      return
    }
    guard streams.removeValue(forKey: stream.id) != nil else { return }
    stream.end(error, aborted: true)
    send(.cancel, stream: stream.id, [])
    closeIfDrained()
  }

  func streamTimedOut(_ stream: Stream) {
    let error = RPCError(.deadlineExceeded, "the deadline passed")
    if side == .client { cancelStream(stream, error) } else { endFromServer(stream, error) }
  }

  /// Server: answers with an error and stops the handler.
  func endFromServer(_ stream: Stream, _ error: RPCError) {
    let abort = stream.onAbort
    stream.onAbort = nil
    finish(stream, error)
    abort?(error)
  }

  // MARK: sending

  func streamHasOutput(_ stream: Stream) {
    if !streamsWithOutput.contains(where: { $0 === stream }) { streamsWithOutput.append(stream) }
    pump()
  }

  /// Gives each stream that may send one frame in turn, while the transport has room.
  private func pump() {
    // Sending resumes waiting tasks, which may send again: one pump at a time.
    guard !isPumping, peerHello != nil else { return }
    isPumping = true
    defer { isPumping = false }
    var blocked = 0
    while !isClosed, !streamsWithOutput.isEmpty, blocked < streamsWithOutput.count,
      transport.pendingBytes < ConnectionLimits.outputHighWaterBytes
    {
      let stream = streamsWithOutput.removeFirst()
      let next = stream.nextFrame(
        connectionCredit: sendCredit, maximumFrameBytes: peerMaximumFrameBytes)
      guard let (frame, charge) = next else {
        if !stream.outgoing.isEmpty {
          streamsWithOutput.append(stream)
          blocked += 1
        }
        continue
      }
      blocked = 0
      sendCredit -= charge
      stream.sendCredit -= charge
      write(frame)
      if frame.header.type == .trailer {
        streams[stream.id] = nil
        stream.end(RPCError(.cancelled, "the call is over"), aborted: false)
        closeIfDrained()
      }
      if !stream.outgoing.isEmpty { streamsWithOutput.append(stream) }
    }
  }

  private func send(_ type: FrameType, stream: UInt32, _ payload: [UInt8]) {
    guard !isClosed else { return }
    let header = FrameHeader(payloadBytes: payload.count, type: type, flags: 0, stream: stream)
    write(Frame(header: header, payload: payload))
    if transport.pendingBytes > ConnectionLimits.outputLimitBytes {
      close(RPCError(.resourceExhausted, "the peer does not read"))
    }
  }

  private func write(_ frame: Frame) {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(FrameHeader.byteCount + frame.payload.count)
    frame.header.append(to: &bytes)
    bytes.append(contentsOf: frame.payload)
    transport.write(bytes)
  }

  private func sendHello() {
    var hello = Hello()
    hello.protocolVersion = ConnectionLimits.protocolVersion
    hello.maximumFrameBytes = UInt32(limits.maximumFrameBytes)
    hello.streamWindowBytes = UInt32(limits.streamWindowBytes)
    hello.connectionWindowBytes = UInt32(limits.connectionWindowBytes)
    hello.maximumStreams = UInt32(limits.maximumStreams)
    send(.hello, stream: 0, hello.encoded())
  }

  func sendWindow(stream: UInt32, _ credit: Int) {
    var payload: [UInt8] = []
    payload.append(bigEndian: UInt32(credit))
    send(.window, stream: stream, payload)
  }

  func returnConnectionCredit(_ charge: Int) {
    unreturnedCredit += charge
    if unreturnedCredit >= limits.connectionWindowBytes / 4 {
      receiveCredit += unreturnedCredit
      sendWindow(stream: 0, unreturnedCredit)
      unreturnedCredit = 0
    }
  }

  // MARK: keepalive and closing

  private func scheduleKeepalive() {
    let delay = pingIsOut ? limits.keepaliveTimeoutMilliseconds : limits.keepaliveMilliseconds
    keepaliveTimer = loop.schedule(afterMilliseconds: delay) { [weak self] in
      guard let self, !isClosed else { return }
      if receivedSinceTick {
        pingIsOut = false
      } else if pingIsOut {
        close(RPCError(.unavailable, "the peer is silent"))
        return
      } else {
        pingIsOut = true
        send(.ping, stream: 0, [0, 0, 0, 0, 0, 0, 0, 0])
      }
      receivedSinceTick = false
      scheduleKeepalive()
    }
  }

  private func sendGoAway(_ error: RPCError) {
    var goAway = GoAway()
    goAway.lastStream = highestStream
    goAway.status = error.code.rawValue
    goAway.message = error.message
    send(.goAway, stream: 0, goAway.encoded())
  }

  /// Takes no new calls; the connection closes when the last one is done.
  func drain() {
    guard !isDraining, !isClosed else { return }
    isDraining = true
    sendGoAway(RPCError(.unavailable, "shutting down"))
    closeIfDrained()
  }

  private func closeIfDrained() {
    guard isDraining, streams.isEmpty, !isClosed else { return }
    // One more round, so that what is written above still leaves.
    loop.executeAtTickEnd { [self] in
      guard !isClosed, streams.isEmpty else { return }
      // The last trailer may still be on its way out.
      let transport = transport
      finishClosing(RPCError(.unavailable, "the connection was drained"))
      transport.closeAfterLastWords()
    }
  }

  /// Closes so that the other side learns why.
  private func closeSaying(_ error: RPCError) {
    guard !isClosed else { return }
    sendGoAway(error)
    let transport = transport
    finishClosing(error)
    transport.closeAfterLastWords()
  }

  func close(_ error: RPCError) {
    guard !isClosed else { return }
    // Frames of this round leave first where the socket takes them at once.
    loop.executeAtTickEnd { [transport] in transport.close() }
    finishClosing(error)
  }

  private func finishClosing(_ error: RPCError) {
    guard !isClosed else { return }
    isClosed = true
    transport.onEvent = nil
    loop.cancel(handshakeTimer)
    loop.cancel(keepaliveTimer)
    let ended = streams.values
    streams = [:]
    streamsWithOutput = []
    for stream in ended { stream.end(error, aborted: true) }
    onClosed?(error)
    (onReady, onCall, onGoAway, onClosed, admit) = (nil, nil, nil, nil, nil)
  }
}
