import Base
import Messages

/// How a call begins on the server: the fields of its header that every call has, and the rest if there is one.
struct RequestStart {
  /// Valid during the call of ``Connection/onCall`` only.
  var method: UnsafeRawBufferPointer
  var timeoutMicroseconds: UInt64
  var metadata: [MetadataEntry] = []
}

extension Connection {
  // MARK: both sides

  func makeStream(_ id: UInt32) -> Stream {
    let stream = Stream(
      id: id, connection: self, sendCredit: Int(peerHello?.streamWindowBytes ?? 0),
      windowBytes: limits.streamWindowBytes)
    streams.insert(stream)
    return stream
  }

  /// Why a message cannot leave, however long it waits: no frame may be so large, or no credit is. Nil where it may.
  func refusal(ofMessage count: Int) -> RPCError? {
    guard let hello = peerHello else { return nil }
    let window = Int(min(hello.streamWindowBytes, hello.connectionWindowBytes))
    let most = min(Int(hello.maximumFrameBytes), window - ConnectionLimits.frameCharge)
    guard count > most else { return nil }
    return RPCError(
      .resourceExhausted, "a message of \(count) bytes, the peer takes \(most)")
  }

  /// The one place where a call ends on this side.
  func endStream(_ stream: Stream, _ error: RPCError?, aborted: Bool) {
    stream.end(error, aborted: aborted)
    if let served = stream.served {
      stream.served = nil
      served.ended(stream, error)
    }
  }

  func cancelStream(_ stream: Stream, _ error: RPCError) {
    if side == .server {
      finish(stream, error)
      return
    }
    guard streams.remove(stream.id) != nil else { return }
    stream.end(error, aborted: true)
    send(.cancel, stream: stream.id)
    closeIfDrained()
  }

  /// Sends a message at once where credit and room allow, encoded into the output; else it waits its turn.
  func send<M: WireMessage>(_ message: M, on stream: Stream, ends: Bool) -> RPCError? {
    var failure: RPCError?
    var mustWait = !stream.outgoing.isEmpty || transport.pendingBytes >= limits.outputHighWaterBytes
    message.encode { count in
      failure = refusal(ofMessage: count)
      guard failure == nil else { return nil }
      let credit = min(stream.sendCredit, sendCredit) - ConnectionLimits.frameCharge
      guard !mustWait, count <= credit else {
        mustWait = true
        return nil
      }
      charge(stream, count)
      if ends { stream.endLocally() }
      return room(.message, ends ? FrameHeader.endFlag : 0, stream.id, count)
    }
    if failure == nil, mustWait { stream.enqueue(.message, message.encoded(), ends: ends) }
    return failure
  }

  // MARK: client

  /// Begins a call. Nil where this connection takes no more.
  func open(
    _ method: String, _ metadata: [MetadataEntry], deadlineNanoseconds: UInt64
  ) -> Stream? {
    precondition(side == .client && peerHello != nil, "open() on a connection that is not ready")
    guard !isLeaving, streams.count < Int(peerHello?.maximumStreams ?? 0) else { return nil }
    highestStream += 1
    let stream = makeStream(highestStream)
    setDeadline(of: stream, deadlineNanoseconds)
    let now = loop.nowNanoseconds()
    let timeout = deadlineNanoseconds > now ? max(1, (deadlineNanoseconds - now) / 1000) : 1
    if metadata.isEmpty {
      let count = RequestHead.encodedCount(method.utf8, timeout)
      RequestHead.encode(method.utf8, timeout, into: room(.header, 0, stream.id, count))
    } else {
      var header = RequestHeader()
      header.method = method
      header.timeoutMicroseconds = timeout
      header.metadata = metadata
      header.encode { room(.header, 0, stream.id, $0) }
    }
    return stream
  }

  // MARK: server

  func receiveHeader(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    guard side == .server else { throw ProtocolViolation("a server opened a call") }
    let id = header.stream
    guard id > highestStream else {
      throw ProtocolViolation("stream \(id) after stream \(highestStream)")
    }
    try payload.withBytes { (bytes) throws(ProtocolViolation) in
      if let head = RequestHead(bytes) {
        let start = RequestStart(
          method: head.method, timeoutMicroseconds: head.timeoutMicroseconds)
        try begin(id, start, ends: header.ends)
      } else {
        let whole: RequestHeader = try decode(header, payload)
        var name = whole.method
        let outcome = name.withUTF8 { method in
          Result { () throws(ProtocolViolation) in
            let start = RequestStart(
              method: UnsafeRawBufferPointer(method),
              timeoutMicroseconds: whole.timeoutMicroseconds, metadata: whole.metadata)
            try begin(id, start, ends: header.ends)
          }
        }
        try outcome.get()
      }
    }
  }

  /// Who asks and does not read would otherwise fill this side's memory with answers.
  var refusalOfUnreadAnswers: RPCError? {
    guard queuedBytes > Int(peerHello?.connectionWindowBytes ?? 0) else { return nil }
    return RPCError(
      .resourceExhausted, "\(queuedBytes) bytes of answers wait to be read",
      reason: "Overloaded"
    ).asRefusal
  }

  private var refusalOfTheNewestCall: RPCError? {
    if isDraining { return .draining }
    guard streams.count <= limits.maximumStreams else {
      return RPCError(
        .resourceExhausted, "more than \(limits.maximumStreams) calls", reason: "TooManyCalls"
      ).asRefusal
    }
    return refusalOfUnreadAnswers
  }

  private func begin(
    _ id: UInt32, _ start: RequestStart, ends: Bool
  ) throws(ProtocolViolation) {
    highestStream = id
    let stream = makeStream(id)
    onCall?(stream, start, refusalOfTheNewestCall)
    if ends { try stream.acceptEnd() }
  }

  /// The call's answer. Data still waiting goes first on success and nowhere on failure.
  func finish(_ stream: Stream, _ error: RPCError?) {
    guard !stream.isFinished, streams[stream.id] === stream else { return }
    if let error {
      streams.remove(stream.id)
      Trailer(answering: error).encode { room(.trailer, 0, stream.id, $0) }
      checkPeerReads()
      endStream(stream, error, aborted: false)
    } else if stream.outgoing.isEmpty {
      write(.trailer, 0, stream.id, [])
      finishSent(stream)
      checkPeerReads()
    } else {
      stream.enqueue(.trailer, [], ends: true)
    }
    closeIfDrained()
  }

  /// A unary call's answer and its good end.
  func finish<Reply: WireMessage>(_ stream: Stream, answering reply: Reply) {
    guard !stream.isFinished, streams[stream.id] === stream else { return }
    finish(stream, send(reply, on: stream, ends: false))
  }

  /// The good trailer is on its way.
  func finishSent(_ stream: Stream) {
    streams.remove(stream.id)
    endStream(stream, nil, aborted: false)
    closeIfDrained()
  }

  /// Answers with an error and stops the handler.
  func endFromServer(_ stream: Stream, _ error: RPCError) {
    let abort = stream.onAbort
    stream.onAbort = nil
    finish(stream, error)
    abort?(error)
  }
}

extension RPCError {
  /// For calls that this server has not begun and never will: they may be made elsewhere.
  static let draining = RPCError(.unavailable, "the server is shutting down", reason: "Draining")
    .asRefusal
}
