import Base

/// One message or one piece of raw bytes.
enum Inbound {
  case message([UInt8])
  case bulk([UInt8])

  var charge: Int {
    switch self {
    case .message(let bytes), .bulk(let bytes): bytes.count + ConnectionLimits.frameCharge
    }
  }
}

/// One call on one connection. Confined to its loop; the async methods may be called from anywhere.
final class Stream: @unchecked Sendable {
  struct Outgoing {
    var type: FrameType
    var bytes: [UInt8]
    var sentBytes = 0
    var ends: Bool
    var done: UnsafeContinuation<RPCError?, Never>?
    /// Server: ends the call where its reader takes nothing.
    var stall: TimerID?
  }

  enum Finish {
    /// Still going.
    case open
    /// The call is over; nil is success.
    case finished(RPCError?)
  }

  typealias Receiver = UnsafeContinuation<Result<Inbound?, RPCError>, Never>

  let id: UInt32
  let loop: EventLoop
  private unowned let connection: Connection
  /// Keeps the connection while the call needs it; dropped with the last frame.
  private var keepsConnection: Connection?

  private var inbox: [Inbound] = []
  private var inboxStart = 0
  private var inboundEnded = false
  private var receiver: Receiver?
  private(set) var finish = Finish.open
  private(set) var outgoing: [Outgoing] = []
  private(set) var localEnded = false
  var sendCredit: Int
  private var receiveCredit: Int
  private var unreturnedCredit = 0
  private let windowBytes: Int
  private var deadlineTimer: TimerID?
  /// Runs once when the call ends other than by this side's own doing.
  var onAbort: ((RPCError) -> Void)?

  init(id: UInt32, connection: Connection, sendCredit: Int, windowBytes: Int) {
    self.id = id
    self.loop = connection.loop
    self.connection = connection
    self.keepsConnection = connection
    self.sendCredit = sendCredit
    self.windowBytes = windowBytes
    self.receiveCredit = windowBytes
  }

  var isFinished: Bool {
    if case .finished = finish { true } else { false }
  }

  // MARK: from the connection, loop thread

  func startDeadline(atNanoseconds deadline: UInt64) {
    deadlineTimer = loop.schedule(atNanoseconds: deadline) { [weak self] in
      guard let self, !isFinished else { return }
      connection.streamTimedOut(self)
    }
  }

  /// The peer sent a part of the call.
  func accept(_ part: Inbound, ends: Bool) throws(ProtocolViolation) {
    guard !inboundEnded else {
      throw ProtocolViolation("data after the end of stream \(id)")
    }
    receiveCredit -= part.charge
    guard receiveCredit >= 0 else {
      throw ProtocolViolation("stream \(id) overran its window by \(-receiveCredit) bytes")
    }
    inboundEnded = ends
    if let waiting = receiver {
      receiver = nil
      returnCredit(part.charge)
      waiting.resume(returning: .success(part))
    } else {
      inbox.append(part)
    }
  }

  /// The peer ended its side without a part.
  func acceptEnd() throws(ProtocolViolation) {
    guard !inboundEnded else { throw ProtocolViolation("stream \(id) ended twice") }
    inboundEnded = true
    if let waiting = receiver {
      receiver = nil
      waiting.resume(returning: .success(nil))
    }
  }

  /// Ends the call: waiting senders fail, a waiting receiver sees the outcome.
  ///
  /// Parts that had arrived before a success stay readable; before a failure they are dropped.
  func end(_ error: RPCError?, aborted: Bool) {
    guard !isFinished else { return }
    finish = .finished(error)
    loop.cancel(deadlineTimer)
    deadlineTimer = nil
    let failed = outgoing
    outgoing = []
    for item in failed {
      loop.cancel(item.stall)
      item.done?.resume(returning: error ?? RPCError(.cancelled, "the call is over"))
    }
    if error != nil { dropInbox() }
    if let waiting = receiver {
      receiver = nil
      waiting.resume(returning: error.map { .failure($0) } ?? .success(nil))
    }
    let abort = onAbort
    onAbort = nil
    if aborted, let error { abort?(error) }
    if inbox.count == inboxStart { keepsConnection = nil }
  }

  private func dropInbox() {
    let charge = inbox[inboxStart...].reduce(0) { $0 + $1.charge }
    inbox = []
    inboxStart = 0
    connection.returnConnectionCredit(charge)
  }

  private func returnCredit(_ charge: Int) {
    connection.returnConnectionCredit(charge)
    guard !inboundEnded, !isFinished else { return }
    unreturnedCredit += charge
    if unreturnedCredit >= windowBytes / 4 {
      connection.sendWindow(stream: id, unreturnedCredit)
      receiveCredit += unreturnedCredit
      unreturnedCredit = 0
    }
  }

  /// The next frame that credit allows, at most `limit` payload bytes of bulk; nil where none is.
  func nextFrame(connectionCredit: Int, maximumFrameBytes: Int) -> (Frame, charge: Int)? {
    guard let first = outgoing.first else { return nil }
    // A bare end carries nothing and costs nothing; an empty message does cost its charge.
    let isBareEnd = first.type == .bulk && first.bytes.isEmpty && first.ends
    if first.type == .header || first.type == .trailer || isBareEnd {
      return (takeFirst(first.bytes), 0)
    }
    let credit = min(sendCredit, connectionCredit) - ConnectionLimits.frameCharge
    let remaining = first.bytes.count - first.sentBytes
    if first.type == .message {
      guard credit >= remaining else { return nil }
      return (takeFirst(first.bytes), remaining + ConnectionLimits.frameCharge)
    }
    let count = min(remaining, credit, ConnectionLimits.bulkPieceBytes, maximumFrameBytes)
    // Crumbs of credit would make crumbs of frames.
    guard count > 0, count == remaining || count >= 4096 else { return nil }
    let charge = count + ConnectionLimits.frameCharge
    if count == remaining && first.sentBytes == 0 { return (takeFirst(first.bytes), charge) }
    let piece = Array(first.bytes[first.sentBytes..<first.sentBytes + count])
    if count == remaining { return (takeFirst(piece), charge) }
    outgoing[0].sentBytes += count
    let header = FrameHeader(payloadBytes: count, type: .bulk, flags: 0, stream: id)
    return (Frame(header: header, payload: piece), charge)
  }

  private func takeFirst(_ payload: [UInt8]) -> Frame {
    let item = outgoing.removeFirst()
    loop.cancel(item.stall)
    if item.ends { localEnded = true }
    item.done?.resume(returning: nil)
    let flags = item.ends && item.type != .trailer ? FrameHeader.endFlag : 0
    let header = FrameHeader(
      payloadBytes: payload.count, type: item.type, flags: flags, stream: id)
    return Frame(header: header, payload: payload)
  }

  /// Loop thread: queues without waiting (headers and trailers, which cost no credit).
  func enqueue(_ type: FrameType, _ bytes: [UInt8], ends: Bool) {
    outgoing.append(Outgoing(type: type, bytes: bytes, ends: ends))
    connection.streamHasOutput(self)
  }

  // MARK: for the call objects, from anywhere

  /// Waits until the bytes are on their way: that is the back pressure of a slow reader.
  func send(_ type: FrameType, _ bytes: [UInt8], ends: Bool) async throws(RPCError) {
    let failure = await withUnsafeContinuation { (done: UnsafeContinuation<RPCError?, Never>) in
      loop.execute { [self] in
        if case .finished(let error) = finish {
          done.resume(returning: error ?? RPCError(.cancelled, "the call is over"))
        } else if localEnded || outgoing.contains(where: { $0.ends }) {
          done.resume(returning: RPCError(.internalError, "sent after the end of the call"))
        } else if type == .message && bytes.count > connection.peerMaximumFrameBytes {
          done.resume(
            returning: RPCError(
              .resourceExhausted,
              "a message of \(bytes.count) bytes, the peer takes \(connection.peerMaximumFrameBytes)"
            ))
        } else {
          outgoing.append(
            Outgoing(type: type, bytes: bytes, ends: ends, done: done, stall: watchReader()))
          connection.streamHasOutput(self)
        }
      }
    }
    if let failure { throw failure }
  }

  /// What a reader leaves lying holds memory here and credit of a connection that others share.
  private func watchReader() -> TimerID? {
    guard connection.side == .server else { return nil }
    return loop.schedule(afterMilliseconds: connection.limits.slowReaderMilliseconds) {
      [weak self] in
      guard let self, !isFinished else { return }
      connection.endFromServer(
        self, RPCError(.aborted, "the reader takes nothing", reason: "SlowReader"))
    }
  }

  /// The next part; nil at the end of a successful call (client) or of the request (server).
  func receive() async throws(RPCError) -> Inbound? {
    let result = await withUnsafeContinuation { (waiting: Receiver) in
      loop.execute { [self] in receive(waiting) }
    }
    return try result.get()
  }

  private func receive(_ waiting: Receiver) {
    if inboxStart < inbox.count {
      let part = inbox[inboxStart]
      inboxStart += 1
      if inboxStart == inbox.count {
        inbox.removeAll(keepingCapacity: true)
        inboxStart = 0
      }
      returnCredit(part.charge)
      if isFinished && inbox.isEmpty { keepsConnection = nil }
      waiting.resume(returning: .success(part))
    } else if case .finished(let error) = finish {
      waiting.resume(returning: error.map { .failure($0) } ?? .success(nil))
    } else if inboundEnded && connection.side == .server {
      waiting.resume(returning: .success(nil))
    } else if receiver != nil {
      waiting.resume(
        returning: .failure(RPCError(.internalError, "two receives on one call at once")))
    } else {
      receiver = waiting
    }
  }

  /// Nobody will receive any more: what waits unread gives its credit back.
  func abandon(_ error: RPCError) {
    loop.execute { [self] in
      if !isFinished { connection.cancelStream(self, error) }
      if inboxStart < inbox.count { dropInbox() }
      keepsConnection = nil
    }
  }

  /// Ends the call from this side: the peer is told to stop.
  func cancel(_ error: RPCError) {
    loop.execute { [self] in
      guard !isFinished else { return }
      connection.cancelStream(self, error)
    }
  }
}
