import Base
import Messages

/// What a handler knows about the call beside its messages.
public struct CallContext: Sendable {
  public let method: String
  /// Nil for a caller without a certificate, which only open methods see.
  public let caller: Identity?
  /// On this machine's monotonic clock.
  public let deadlineNanoseconds: UInt64
  public let traceID: [UInt8]
  public let metadata: [MetadataEntry]

  public init(
    method: String, caller: Identity?, deadlineNanoseconds: UInt64, traceID: [UInt8] = [],
    metadata: [MetadataEntry] = []
  ) {
    self.method = method
    self.caller = caller
    self.deadlineNanoseconds = deadlineNanoseconds
    self.traceID = traceID
    self.metadata = metadata
  }

  /// Time left, for calls made on behalf of this one; zero where it is over.
  public var remaining: Duration {
    let now = SystemClock().monotonicNanoseconds()
    return .nanoseconds(deadlineNanoseconds > now ? Int64(deadlineNanoseconds - now) : 0)
  }

  /// The caller, for methods that the permission table closes to strangers.
  public var identity: Identity {
    guard let caller else { preconditionFailure("\(method) is open to strangers") }
    return caller
  }
}

/// A part of a call: a message, or a piece of the raw bytes that follow one.
public enum Part<Message: WireMessage>: Sendable {
  case message(Message)
  case bulk([UInt8])
}

/// The server's side of one call.
public struct ServerCall<Request: WireMessage, Reply: WireMessage>: Sendable {
  public let context: CallContext
  let stream: Stream

  /// The next part of the request; nil when the caller has ended it.
  public func receive() async throws(RPCError) -> Part<Request>? {
    guard let inbound = try await stream.receive() else { return nil }
    return try Part(inbound)
  }

  /// The message that must come next.
  public func receiveMessage() async throws(RPCError) -> Request {
    guard case .message(let message) = try await receive() else {
      throw RPCError(.invalidArgument, "\(context.method) begins with a message")
    }
    return message
  }

  /// Raw bytes up to the end of the request, exactly `count`; `maximum` is checked before memory is taken.
  public func receiveBulk(count: UInt64, maximum: Int) async throws(RPCError) -> [UInt8] {
    try await collectBulk(count: count, maximum: maximum, mustEnd: true) {
      () async throws(RPCError) in try await stream.receive()
    }
  }

  public func send(_ reply: Reply) async throws(RPCError) {
    try await stream.send(.message, reply.encoded(), ends: false)
  }

  /// Returns once the bytes are on their way, which a slow reader delays.
  public func send(bulk bytes: [UInt8]) async throws(RPCError) {
    if !bytes.isEmpty { try await stream.send(.bulk, bytes, ends: false) }
  }
}

extension Part {
  init(_ inbound: Inbound) throws(RPCError) {
    switch inbound {
    case .bulk(let bytes): self = .bulk(bytes)
    case .message(let bytes):
      do {
        self = .message(try Message(decoding: bytes))
      } catch {
        throw RPCError(.invalidArgument, "\(Message.self): \(error)")
      }
    }
  }
}

/// Collects announced raw bytes; more, fewer or other parts are the sender's fault.
func collectBulk(
  count: UInt64, maximum: Int, mustEnd: Bool,
  _ next: () async throws(RPCError) -> Inbound?
) async throws(RPCError) -> [UInt8] {
  guard count <= UInt64(maximum) else {
    throw RPCError(.resourceExhausted, "\(count) bytes announced, at most \(maximum) are taken")
  }
  var bytes: [UInt8] = []
  // A liar who announces much and sends nothing gets no memory for it.
  bytes.reserveCapacity(min(Int(count), 1 << 20))
  while bytes.count < Int(count) {
    guard let part = try await next(), case .bulk(let piece) = part else {
      throw RPCError(.invalidArgument, "\(bytes.count) bytes came, \(count) were announced")
    }
    bytes.append(contentsOf: piece)
    guard bytes.count <= Int(count) else {
      throw RPCError(.invalidArgument, "more bytes came than the \(count) announced")
    }
  }
  if mustEnd, try await next() != nil {
    throw RPCError(.invalidArgument, "more came after the \(count) bytes announced")
  }
  return bytes
}
