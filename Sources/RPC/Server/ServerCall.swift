import Base
import Messages

/// What a handler knows about the call beside its messages.
public struct CallContext: Sendable {
  public let method: String
  /// Nil for a caller without a certificate, which only open methods see.
  public let caller: Identity?
  /// On this machine's monotonic clock, as is ``arrivalNanoseconds``.
  public let deadlineNanoseconds: UInt64
  public let arrivalNanoseconds: UInt64
  public let metadata: [MetadataEntry]
  /// What the schema says of the method.
  public let idempotency: Idempotency
  /// Whose clock it is; the machine's where there is none.
  private let loop: EventLoop?

  public init(
    method: String, caller: Identity?, deadlineNanoseconds: UInt64,
    metadata: [MetadataEntry] = [], idempotency: Idempotency = .unknown
  ) {
    self.init(
      method: method, caller: caller, deadlineNanoseconds: deadlineNanoseconds,
      arrivalNanoseconds: SystemClock().monotonicNanoseconds(), metadata: metadata,
      idempotency: idempotency, loop: nil)
  }

  init(
    method: String, caller: Identity?, deadlineNanoseconds: UInt64, arrivalNanoseconds: UInt64,
    metadata: [MetadataEntry], idempotency: Idempotency, loop: EventLoop?
  ) {
    self.method = method
    self.caller = caller
    self.deadlineNanoseconds = deadlineNanoseconds
    self.arrivalNanoseconds = arrivalNanoseconds
    self.metadata = metadata
    self.idempotency = idempotency
    self.loop = loop
  }

  /// Time left, for calls made on behalf of this one; zero where it is over.
  public var remaining: Duration {
    let now = loop?.nowNanoseconds() ?? SystemClock().monotonicNanoseconds()
    return .nanoseconds(deadlineNanoseconds > now ? Int64(deadlineNanoseconds - now) : 0)
  }

  /// The caller's trace, where it sent a valid one.
  public var trace: TraceContext? { metadata.isEmpty ? nil : TraceContext(metadata) }

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
    let bytes = try await stream.receiveBulk(count: count, maximum: maximum)
    if try await stream.receive() != nil {
      throw RPCError(.invalidArgument, "more came after the \(count) bytes announced")
    }
    return bytes
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
