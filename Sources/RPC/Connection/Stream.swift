import Base
import Messages

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

/// Takes the parts of a call as they come, on the loop's thread, where nobody has to wait for them.
protocol StreamReceiver: AnyObject {
  /// A message; `ends` where nothing follows. Taken at once: its credit is given back.
  func receive(message: UnsafeRawBufferPointer, ends: Bool, of stream: Stream)
  func receiveBulk(of stream: Stream)
  /// The request ended without a further part.
  func receiveEnd(of stream: Stream)
  /// The call is over; nil is success.
  func finished(_ error: RPCError?)
}

/// One call on one connection. Confined to its loop; the async methods may be called from anywhere.
final class Stream: @unchecked Sendable {
  struct Outgoing {
    var type: FrameType
    var bytes: [UInt8]
    var sentBytes = 0
    var ends: Bool
    var done: UnsafeContinuation<RPCError?, Never>?

    /// Nobody waits until this leaves, so nothing else holds it back.
    var unawaitedBytes: Int { done == nil ? bytes.count : 0 }
  }

  enum Finish {
    /// Still going.
    case open
    /// The call is over; nil is success.
    case finished(RPCError?)
  }

  typealias Waiter = UnsafeContinuation<Result<Inbound?, RPCError>, Never>
  typealias CollectWaiter = UnsafeContinuation<RPCError?, Never>

  let id: UInt32
  let loop: EventLoop
  /// Which has the stream among its own until the call is over.
  let connection: Connection

  /// Who takes what comes; nil where it waits in the inbox.
  var receiver: (any StreamReceiver)?
  private var inbox: [Inbound] = []
  private var inboxStart = 0
  private(set) var inboundEnded = false
  private var waiter: Waiter?
  private(set) var collector: BulkCollector?
  private var collectWaiter: CollectWaiter?
  private(set) var finish = Finish.open
  private(set) var outgoing: [Outgoing] = []
  private(set) var localEnded = false
  var sendCredit: Int
  private var receiveCredit: Int
  private var unreturnedCredit = 0
  /// Charge of messages that the receiver keeps until the other side has said all.
  private var heldCharge = 0
  private let windowBytes: Int
  /// On the loop's clock; `.max` where there is none.
  var deadlineNanoseconds = UInt64.max
  /// Since when the first of ``outgoing`` waits for its reader; `.max` where nothing waits.
  var blockedSinceNanoseconds = UInt64.max
  /// True while the connection has it among those that may send.
  var isInTurn = false
  /// Runs once when the call ends other than by this side's own doing.
  var onAbort: ((RPCError) -> Void)?
  /// The server's record of the call; nil on the client.
  var served: ServedCall?
  private(set) var receivedBytes = 0
  var sentBytes = 0

  init(id: UInt32, connection: Connection, sendCredit: Int, windowBytes: Int) {
    self.id = id
    self.loop = connection.loop
    self.connection = connection
    self.sendCredit = sendCredit
    self.windowBytes = windowBytes
    self.receiveCredit = windowBytes
  }

  var isFinished: Bool {
    if case .finished = finish { true } else { false }
  }

  // MARK: from the connection, loop thread

  /// The peer sent a part of the call. Its charge is off the connection's credit already.
  func accept(
    _ header: FrameHeader, _ payload: FramePayload
  ) throws(ProtocolViolation) {
    guard !inboundEnded else {
      throw ProtocolViolation("data after the end of stream \(id)")
    }
    let charge = header.payloadBytes + ConnectionLimits.frameCharge
    receiveCredit -= charge
    guard receiveCredit >= 0 else {
      throw ProtocolViolation("stream \(id) overran its window by \(-receiveCredit) bytes")
    }
    receivedBytes += header.payloadBytes
    inboundEnded = header.ends
    if let receiver {
      if header.type == .message && !header.ends {
        heldCharge += charge
        connection.load.unreadBytes(charge)
      } else {
        releaseHeld()
        returnCredit(charge)
      }
      // Credit for a peer that does not read can be what ends the connection.
      guard !isFinished else { return }
      if header.type == .message {
        try payload.withBytes { (bytes) throws(ProtocolViolation) in
          receiver.receive(message: bytes, ends: header.ends, of: self)
        }
      } else {
        receiver.receiveBulk(of: self)
      }
      return
    }
    if let collector, header.type == .bulk {
      collect(payload, into: collector, charge)
      return
    }
    let part: Inbound = header.type == .message ? .message(payload.array) : .bulk(payload.array)
    if let waiting = waiter {
      waiter = nil
      returnCredit(charge)
      loop.resume(waiting, returning: .success(part))
    } else if collectWaiter != nil {
      returnCredit(charge)
      endCollecting(RPCError(.invalidArgument, "a message came where bytes were due"))
    } else {
      inbox.append(part)
      connection.load.unreadBytes(charge)
    }
  }

  /// The peer ended its side without a part.
  func acceptEnd() throws(ProtocolViolation) {
    guard !inboundEnded else { throw ProtocolViolation("stream \(id) ended twice") }
    inboundEnded = true
    if let receiver {
      releaseHeld()
      guard !isFinished else { return }
      receiver.receiveEnd(of: self)
      return
    }
    endCollecting(nil)
    if let waiting = waiter {
      waiter = nil
      loop.resume(waiting, returning: .success(nil))
    }
  }

  /// Ends the call: waiting senders fail, a waiting receiver sees the outcome.
  ///
  /// Parts that a client has got before a success stay readable. Before a failure, or where a handler has
  /// answered without reading all, they are dropped: their credit is the whole connection's.
  func end(_ error: RPCError?, aborted: Bool) {
    guard !isFinished else { return }
    finish = .finished(error)
    releaseHeld()
    if !outgoing.isEmpty {
      let failed = outgoing
      outgoing = []
      for item in failed {
        connection.partIsGone(item)
        if let done = item.done {
          loop.resume(done, returning: error ?? RPCError(.cancelled, "the call is over"))
        }
      }
    }
    if error != nil || connection.side == .server { dropInbox() }
    if collectWaiter != nil { endCollecting(error) }
    if let waiting = waiter {
      waiter = nil
      loop.resume(waiting, returning: error.map { .failure($0) } ?? .success(nil))
    }
    let (abort, taker) = (onAbort, receiver)
    onAbort = nil
    receiver = nil
    taker?.finished(error)
    if aborted, let error { abort?(error) }
  }

  private func releaseHeld() {
    guard heldCharge > 0 else { return }
    let charge = heldCharge
    heldCharge = 0
    connection.load.unreadBytes(-charge)
    returnCredit(charge)
  }

  private func dropInbox() {
    let charge = inbox[inboxStart...].reduce(0) { $0 + $1.charge }
    inbox = []
    inboxStart = 0
    guard charge > 0 else { return }
    connection.load.unreadBytes(-charge)
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

  // MARK: sending, loop thread

  /// Puts a part behind what waits already.
  func enqueue(
    _ type: FrameType, _ bytes: [UInt8], ends: Bool,
    done: UnsafeContinuation<RPCError?, Never>? = nil
  ) {
    let item = Outgoing(type: type, bytes: bytes, ends: ends, done: done)
    outgoing.append(item)
    connection.partIsQueued(item)
    connection.streamHasOutput(self)
  }

  /// One frame of bulk left.
  func advanceFirst(by count: Int) { outgoing[0].sentBytes += count }

  func removeFirstOutgoing() {
    let item = outgoing.removeFirst()
    connection.partIsGone(item)
    if item.ends { localEnded = true }
    if let done = item.done { loop.resume(done, returning: nil) }
  }

  func endLocally() { localEnded = true }

  // MARK: for the call objects, from anywhere

  /// Waits until the bytes are on their way: that is the back pressure of a slow reader.
  func send(_ type: FrameType, _ bytes: [UInt8], ends: Bool) async throws(RPCError) {
    let failure = await withUnsafeContinuation { (done: UnsafeContinuation<RPCError?, Never>) in
      loop.execute { [self] in
        if case .finished(let error) = finish {
          loop.resume(done, returning: error ?? RPCError(.cancelled, "the call is over"))
        } else if localEnded || outgoing.contains(where: { $0.ends }) {
          loop.resume(done, returning: RPCError(.internalError, "sent after the end of the call"))
        } else if type == .message, let refusal = connection.refusal(ofMessage: bytes.count) {
          loop.resume(done, returning: refusal)
        } else {
          enqueue(type, bytes, ends: ends, done: done)
        }
      }
    }
    loop.handover.take()
    if let failure { throw failure }
  }

  /// The next part; nil at the end of a successful call (client) or of the request (server).
  func receive() async throws(RPCError) -> Inbound? {
    let result = await withUnsafeContinuation { (waiting: Waiter) in
      loop.execute { [self] in receive(waiting) }
    }
    loop.handover.take()
    return try result.get()
  }

  private func receive(_ waiting: Waiter) {
    if let part = takeFromInbox() {
      loop.resume(waiting, returning: .success(part))
    } else if case .finished(let error) = finish {
      loop.resume(waiting, returning: error.map { .failure($0) } ?? .success(nil))
    } else if inboundEnded && connection.side == .server {
      loop.resume(waiting, returning: .success(nil))
    } else if waiter != nil || collectWaiter != nil {
      loop.resume(waiting, returning: .failure(Self.twoReceives))
    } else {
      waiter = waiting
    }
  }

  private static let twoReceives = RPCError(.internalError, "two receives on one call at once")

  private func takeFromInbox() -> Inbound? {
    guard inboxStart < inbox.count else { return nil }
    let part = inbox[inboxStart]
    inboxStart += 1
    if inboxStart == inbox.count {
      inbox.removeAll(keepingCapacity: true)
      inboxStart = 0
    }
    connection.load.unreadBytes(-part.charge)
    returnCredit(part.charge)
    return part
  }

  /// Nobody will receive any more: what waits unread gives its credit back.
  func abandon(_ error: RPCError) {
    loop.execute { [self] in
      if !isFinished { connection.cancelStream(self, error) }
      if inboxStart < inbox.count { dropInbox() }
    }
  }

  /// Ends the call from this side: the peer is told to stop.
  func cancel(_ error: RPCError) {
    loop.execute { [self] in
      guard !isFinished else { return }
      connection.cancelStream(self, error)
    }
  }

  // MARK: announced raw bytes

  /// Exactly `count` raw bytes, which go straight from TLS to where they stay.
  func receiveBulk(count: UInt64, maximum: Int) async throws(RPCError) -> [UInt8] {
    guard count <= UInt64(maximum) else {
      throw RPCError(.resourceExhausted, "\(count) bytes announced, at most \(maximum) are taken")
    }
    guard count > 0 else { return [] }
    let box = CollectorBox(BulkCollector(expected: Int(count)))
    let failure = await withUnsafeContinuation { (waiting: CollectWaiter) in
      loop.execute { [self] in
        guard waiter == nil, collectWaiter == nil else {
          loop.resume(waiting, returning: Self.twoReceives)
          return
        }
        collectWaiter = waiting
        collect(into: box.collector)
      }
    }
    loop.handover.take()
    if let failure { throw failure }
    return box.collector.take()
  }

  /// First what waits already, then what comes.
  private func collect(into target: BulkCollector) {
    while target.remaining > 0, let part = takeFromInbox() {
      guard case .bulk(let bytes) = part else {
        endCollecting(RPCError(.invalidArgument, Self.short(target)))
        return
      }
      guard bytes.count <= target.remaining else {
        endCollecting(Self.excess(target))
        return
      }
      bytes.withUnsafeBytes { Self.copy($0, into: target) }
    }
    collector = target
    if target.remaining == 0 {
      endCollecting(nil)
    } else if case .finished(let error) = finish {
      endCollecting(error)
    } else if inboundEnded && connection.side == .server {
      endCollecting(nil)
    }
  }

  private func collect(_ payload: FramePayload, into target: BulkCollector, _ charge: Int) {
    returnCredit(charge)
    if case .collected = payload {
      // Its bytes are where they belong.
    } else {
      let bytes = payload.array
      guard bytes.count <= target.remaining else {
        endCollecting(Self.excess(target))
        return
      }
      bytes.withUnsafeBytes { Self.copy($0, into: target) }
    }
    if target.remaining == 0 || inboundEnded { endCollecting(nil) }
  }

  private static func copy(_ bytes: UnsafeRawBufferPointer, into target: BulkCollector) {
    guard !bytes.isEmpty else { return }
    _ = target.withRoom(bytes.count) { room in
      room.copyMemory(from: bytes)
      return bytes.count
    }
  }

  private func endCollecting(_ error: RPCError?) {
    guard let waiting = collectWaiter else { return }
    var error = error
    if error == nil, let collector, collector.remaining > 0 {
      error = RPCError(.invalidArgument, Self.short(collector))
    }
    collectWaiter = nil
    collector = nil
    loop.resume(waiting, returning: error)
  }

  private static func short(_ target: BulkCollector) -> String {
    "\(target.filled) bytes came, \(target.expected) were announced"
  }

  private static func excess(_ target: BulkCollector) -> RPCError {
    RPCError(.invalidArgument, "more bytes came than the \(target.expected) announced")
  }
}

/// Carries a collector to the loop and back; used by one side at a time.
private struct CollectorBox: @unchecked Sendable {
  let collector: BulkCollector

  init(_ collector: BulkCollector) { self.collector = collector }
}
