import Base
import Logging
import Messages

/// Frames, streams, credit and keepalive of one connection, the same for both sides. Confined to its loop.
final class Connection: @unchecked Sendable {
  enum Side { case client, server }

  let loop: EventLoop
  let side: Side
  let limits: ConnectionLimits
  let load: ServerLoad
  let transport: Transport
  let logger: Logger
  private var decoder: FrameDecoder
  private(set) var peer: Identity?
  var peerHello: Hello?
  var streams = StreamTable()
  private var streamsInTurn = TurnQueue()
  /// Bytes of answers whose handlers are done and that wait for credit or room.
  private(set) var queuedBytes = 0
  var highestStream: UInt32 = 0
  var sendCredit = 0
  private(set) var receiveCredit: Int
  private(set) var unreturnedCredit = 0
  var isDraining = false
  private(set) var isClosed = false
  private var isPumping = false
  private var creditCame = false
  private var handshakeTimer: TimerID?
  var watch = ConnectionWatch()

  /// Both sides have said hello.
  var onReady: ((Identity?) -> Void)?
  /// Server: a call began.
  var onCall: ((Stream, RequestStart, RPCError?) -> Void)?
  /// The peer takes no new calls.
  var onGoAway: (() -> Void)?
  var onClosed: ((RPCError) -> Void)?
  /// Looks at the peer once it is known; an error ends the connection.
  var admit: ((Identity?) -> RPCError?)?

  init(
    loop: EventLoop, side: Side, transport: Transport, limits: ConnectionLimits, logger: Logger,
    load: ServerLoad = ServerLoad()
  ) {
    precondition(limits.areAnnounceable, "limits that every peer refuses: \(limits)")
    self.loop = loop
    self.side = side
    self.transport = transport
    self.limits = limits
    self.logger = logger
    self.load = load
    decoder = FrameDecoder(maximumPayloadBytes: limits.maximumFrameBytes)
    receiveCredit = limits.connectionWindowBytes
  }

  var peerName: String { transport.peerName }
  /// Takes no new calls, now or ever.
  var isLeaving: Bool { isDraining || isClosed || highestStream >= UInt32(Int32.max) }
  var peerMaximumFrameBytes: Int { Int(peerHello?.maximumFrameBytes ?? 0) }

  func start() {
    // The connection lives until its transport closes.
    transport.owner = self
    handshakeTimer = loop.schedule(afterMilliseconds: limits.handshakeMilliseconds) { [weak self] in
      self?.close(
        RPCError(
          .unavailable, "no handshake within the time allowed",
          reason: CloseReason.handshakeTimeout))
    }
    transport.start()
  }

  // MARK: receiving

  private func receiving(_ body: () throws(ProtocolViolation) -> Void) {
    watch.receivedSinceLook = true
    do {
      try body()
      if creditCame {
        creditCame = false
        pump()
      }
    } catch {
      // A server says so with the other ends of connections.
      if side == .client {
        logger.warning(
          "closing connection: protocol violation",
          metadata: ["peer": "\(peerName)", "reason": "\(error)"])
      }
      closeSaying(
        RPCError(.internalError, "protocol violation: \(error)", reason: CloseReason.violation))
    }
  }

  func decode<M: WireMessage>(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) -> M {
    try payload.withBytes { (bytes) throws(ProtocolViolation) in
      do {
        return try M(decoding: bytes)
      } catch {
        throw ProtocolViolation("\(header.type) frame: \(error)")
      }
    }
  }

  private func receiveFirst(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    if header.type == .goAway, header.stream == 0 {
      // Turned away at the door.
      let goAway: GoAway = try decode(header, payload)
      let code = StatusCode(rawValue: goAway.status) ?? .unavailable
      close(
        RPCError(
          code == .ok ? .unavailable : code, "refused: \(goAway.message.shortened(toBytes: 1000))",
          reason: CloseReason.refused))
      return
    }
    guard header.type == .hello, header.stream == 0 else {
      throw ProtocolViolation("the first frame is \(header.type), not hello")
    }
    let hello: Hello = try decode(header, payload)
    guard hello.protocolVersion == ConnectionLimits.protocolVersion else {
      throw ProtocolViolation(
        "protocol version \(hello.protocolVersion), this side speaks "
          + "\(ConnectionLimits.protocolVersion)")
    }
    guard
      [hello.maximumFrameBytes, hello.streamWindowBytes, hello.connectionWindowBytes]
        .allSatisfy({ ConnectionLimits.announced.contains(Int($0)) })
    else { throw ProtocolViolation("limits in hello are out of range") }
    peerHello = hello
    sendCredit = Int(hello.connectionWindowBytes)
    loop.cancel(handshakeTimer)
    handshakeTimer = nil
    startWatching()
    onReady?(peer)
  }

  /// Charges a part to the connection's credit.
  private func receivePart(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    let charge = header.payloadBytes + ConnectionLimits.frameCharge
    receiveCredit -= charge
    guard receiveCredit >= 0 else {
      throw ProtocolViolation("the connection's window is overrun by \(-receiveCredit) bytes")
    }
    if let stream = streams[header.stream] {
      try stream.accept(header, payload)
    } else {
      try checkKnown(header.stream)
      // It was under way when the call ended: nobody will read it.
      returnConnectionCredit(charge)
    }
  }

  /// A stream that never was is a violation; one that is over is not.
  private func checkKnown(_ id: UInt32) throws(ProtocolViolation) {
    guard id > 0, id <= highestStream else { throw ProtocolViolation("unknown stream \(id)") }
  }

  private func receiveTrailer(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    guard side == .client else { throw ProtocolViolation("a client sent a trailer") }
    try checkKnown(header.stream)
    if header.payloadBytes == 0 {
      streams.remove(header.stream)?.end(nil, aborted: false)
    } else {
      let trailer: Trailer = try decode(header, payload)
      guard let stream = streams.remove(header.stream) else { return }
      stream.end(RPCError(receivedIn: trailer), aborted: false)
    }
    closeIfDrained()
  }

  private func receiveCancel(_ id: UInt32) throws(ProtocolViolation) {
    guard side == .server else { throw ProtocolViolation("a server cancelled a call") }
    try checkKnown(id)
    guard let stream = streams.remove(id) else { return }
    endStream(stream, RPCError(.cancelled, "the caller cancelled"), aborted: true)
    closeIfDrained()
  }

  private func receiveWindow(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    guard header.payloadBytes == 4 else {
      throw ProtocolViolation("a window frame has 4 bytes, not \(header.payloadBytes)")
    }
    let increment = try payload.withBytes { (bytes) throws(ProtocolViolation) in
      Int(UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
    }
    if header.stream == 0 {
      sendCredit += increment
      guard sendCredit <= Int(UInt32.max) else { throw ProtocolViolation("window overflow") }
    } else {
      try checkKnown(header.stream)
      guard let stream = streams[header.stream] else { return }
      stream.sendCredit += increment
      guard stream.sendCredit <= Int(UInt32.max) else {
        throw ProtocolViolation("window overflow on stream \(header.stream)")
      }
    }
    // Once for all frames of a read: each look at what waits takes time.
    creditCame = creditCame || increment > 0
  }

  private func receivePing(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    guard header.payloadBytes == 8 else { throw ProtocolViolation("a ping has 8 bytes") }
    guard watch.allowsPing(at: loop.nowNanoseconds()) else {
      closeSaying(
        RPCError(.resourceExhausted, "too many pings", reason: CloseReason.tooManyPings))
      return
    }
    try payload.withBytes { (bytes) throws(ProtocolViolation) in send(.pong, stream: 0, bytes) }
  }

  private func receiveGoAway(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    let goAway: GoAway = try decode(header, payload)
    // Once, and shortened: the sentence is the peer's, and may be as long as a frame.
    if !isDraining, goAway.status != 0, goAway.status != StatusCode.unavailable.rawValue {
      logger.warning(
        "peer closes the connection",
        metadata: [
          "peer": "\(peerName)", "reason": "\(goAway.message.shortened(toBytes: 200))",
        ])
    }
    isDraining = true
    onGoAway?()
    if side == .client {
      // The server has not begun these and never will.
      for stream in streams.all where stream.id > goAway.lastStream {
        streams.remove(stream.id)
        var error = RPCError(
          .unavailable, "not started: \(goAway.message.shortened(toBytes: 1000))",
          reason: "Draining")
        error.standing = .refused
        stream.end(error, aborted: true)
      }
    }
    closeIfDrained()
  }

  // MARK: sending

  /// A part waits for credit or room.
  func partIsQueued(_ part: Stream.Outgoing) {
    queuedBytes += part.unawaitedBytes
    load.waitingBytes(part.bytes.count)
  }

  /// It has left, or its call is over.
  func partIsGone(_ part: Stream.Outgoing) {
    queuedBytes -= part.unawaitedBytes
    load.waitingBytes(-part.bytes.count)
  }

  /// Puts a part behind others of its call and sends what may leave.
  func streamHasOutput(_ stream: Stream) {
    if !stream.isInTurn {
      stream.isInTurn = true
      streamsInTurn.append(stream)
      if stream.blockedSinceNanoseconds == .max { noteBlocked(stream) }
    }
    pump()
  }

  /// Gives each stream that may send one frame in turn, while the transport has room.
  func pump() {
    // Sending resumes waiting tasks, which may send again: one pump at a time.
    guard !isPumping, peerHello != nil, !streamsInTurn.isEmpty else { return }
    isPumping = true
    defer { isPumping = false }
    var blocked = 0
    while !isClosed, blocked < streamsInTurn.count,
      transport.pendingBytes < limits.outputHighWaterBytes, let stream = streamsInTurn.takeFirst()
    {
      guard !stream.isFinished, !stream.outgoing.isEmpty else {
        stream.isInTurn = false
        continue
      }
      if sendNextFrame(of: stream) {
        blocked = 0
        if stream.outgoing.isEmpty {
          stream.isInTurn = false
          stream.blockedSinceNanoseconds = .max
        } else {
          noteBlocked(stream)
          streamsInTurn.append(stream)
        }
      } else {
        streamsInTurn.append(stream)
        blocked += 1
      }
    }
  }

  /// One frame of the first part that waits, as far as credit allows; false where none may leave.
  private func sendNextFrame(of stream: Stream) -> Bool {
    let first = stream.outgoing[0]
    let flags = first.ends && first.type != .trailer ? FrameHeader.endFlag : 0
    // A bare end carries nothing and costs nothing; an empty message does cost its charge.
    let isBareEnd = first.type == .bulk && first.bytes.isEmpty && first.ends
    if first.type == .header || first.type == .trailer || isBareEnd {
      write(first.type, flags, stream.id, first.bytes)
      stream.removeFirstOutgoing()
      if first.type == .trailer { finishSent(stream) }
      return true
    }
    let credit = min(stream.sendCredit, sendCredit) - ConnectionLimits.frameCharge
    let remaining = first.bytes.count - first.sentBytes
    if first.type == .message {
      guard credit >= remaining else { return false }
      charge(stream, remaining)
      write(.message, flags, stream.id, first.bytes)
      stream.removeFirstOutgoing()
      return true
    }
    let count = min(remaining, credit, limits.bulkPieceBytes, peerMaximumFrameBytes)
    // Crumbs of credit would make crumbs of frames.
    guard count > 0, count == remaining || count >= 4096 else { return false }
    charge(stream, count)
    let isLast = count == remaining
    writeBulk(stream.id, isLast ? flags : 0, first.bytes, first.sentBytes, count)
    if isLast { stream.removeFirstOutgoing() } else { stream.advanceFirst(by: count) }
    return true
  }

  func charge(_ stream: Stream, _ payloadBytes: Int) {
    watch.dataWasSent()
    stream.sentBytes += payloadBytes
    stream.sendCredit -= payloadBytes + ConnectionLimits.frameCharge
    sendCredit -= payloadBytes + ConnectionLimits.frameCharge
  }

  func returnConnectionCredit(_ charge: Int) {
    unreturnedCredit += charge
    if unreturnedCredit >= limits.connectionWindowBytes / 4 {
      receiveCredit += unreturnedCredit
      sendWindow(stream: 0, unreturnedCredit)
      unreturnedCredit = 0
    }
  }

  // MARK: closing

  /// Takes no new calls; the connection closes when the last one is done.
  func drain(_ why: String = "shutting down") {
    guard !isDraining, !isClosed else { return }
    isDraining = true
    guard peerHello != nil || side == .server else { return }
    sendGoAway(RPCError(.unavailable, why))
    closeIfDrained()
  }

  func closeIfDrained() {
    guard isDraining, streams.count == 0, !isClosed else { return }
    // One more round, so that what is written above still leaves.
    loop.executeAtRoundEnd { [self] in
      guard !isClosed, streams.count == 0 else { return }
      // The last trailer may still be on its way out.
      finishClosing(
        RPCError(.unavailable, "the connection was drained", reason: CloseReason.drained))
      transport.closeAfterLastWords()
    }
  }

  /// Closes so that the other side learns why.
  func closeSaying(_ error: RPCError) {
    guard !isClosed else { return }
    sendGoAway(error)
    finishClosing(error)
    transport.closeAfterLastWords()
  }

  func close(_ error: RPCError) {
    guard !isClosed else { return }
    // Frames of this round leave first where the socket takes them at once.
    loop.executeAtRoundEnd { [transport] in
      transport.flush()
      transport.close()
    }
    finishClosing(error)
  }

  /// Closes at once, whatever is still under way.
  func cut(_ error: RPCError) {
    close(error)
    transport.close()
  }

  private func finishClosing(_ error: RPCError) {
    guard !isClosed else { return }
    isClosed = true
    transport.owner = nil
    loop.cancel(handshakeTimer)
    stopWatching()
    streamsInTurn.removeAll()
    for stream in streams.removeAll() { endStream(stream, error, aborted: true) }
    onClosed?(error)
    (onReady, onCall, onGoAway, onClosed, admit) = (nil, nil, nil, nil, nil)
  }
}

extension Connection: TransportOwner {
  func transportIsReady(_ identity: Identity?) {
    peer = identity
    if let refusal = admit?(identity) {
      closeSaying(refusal)
      return
    }
    sendHello()
  }

  func transportReceived(_ bytes: UnsafeRawBufferPointer) {
    receiving { () throws(ProtocolViolation) in try decoder.push(bytes, self) }
  }

  var transportWantsFilling: Bool { decoder.wantsFilling }

  func transportFill(_ read: (UnsafeMutableRawBufferPointer) -> Int) {
    receiving { () throws(ProtocolViolation) in try decoder.fill(self, read) }
  }

  func transportHasRoom() { pump() }
  func transportClosed(_ error: RPCError) { finishClosing(error) }
}

extension Connection: FrameSink {
  func collector(for header: FrameHeader) -> BulkCollector? {
    guard peerHello != nil, !isClosed, let stream = streams[header.stream],
      let collector = stream.collector, header.payloadBytes <= collector.remaining
    else { return nil }
    return collector
  }

  func receive(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    if isClosed { return }
    guard peerHello != nil else {
      try receiveFirst(header, payload)
      return
    }
    if header.ends && side == .client {
      throw ProtocolViolation("a server ends a call with a trailer only")
    }
    switch header.type {
    case .hello: throw ProtocolViolation("a second hello")
    case .header: try receiveHeader(header, payload)
    case .message: try receivePart(header, payload)
    case .bulk:
      if header.payloadBytes == 0 && header.ends {
        try streams[header.stream]?.acceptEnd()
        try checkKnown(header.stream)
      } else {
        try receivePart(header, payload)
      }
    case .trailer: try receiveTrailer(header, payload)
    case .cancel: try receiveCancel(header.stream)
    case .window: try receiveWindow(header, payload)
    case .ping: try receivePing(header, payload)
    case .pong: watch.pingIsOut = false
    case .goAway: try receiveGoAway(header, payload)
    }
  }
}
