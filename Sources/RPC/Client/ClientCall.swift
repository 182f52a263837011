import Messages

/// The client's side of one call. Dropping it cancels the call.
public final class ClientCall<Request: WireMessage, Reply: WireMessage>: Sendable {
  private let stream: Stream
  private let method: String
  private let observer: (any CallObserver)?

  init(stream: Stream, method: String, observer: (any CallObserver)? = nil) {
    self.stream = stream
    self.method = method
    self.observer = observer
  }

  deinit { stream.abandon(RPCError(.cancelled, "the caller gave up")) }

  /// Tells the server to stop; waiting sends and receives fail with CANCELLED.
  public func cancel() { stream.cancel(RPCError(.cancelled, "the caller cancelled")) }

  public func send(_ message: Request) async throws(RPCError) {
    try await send(.message, message.encoded(), ends: false)
  }

  /// A message and the end of the request.
  public func sendLast(_ message: Request) async throws(RPCError) {
    try await send(.message, message.encoded(), ends: true)
  }

  /// Raw bytes; returns once they are on their way, which a slow server delays.
  public func send(bulk bytes: [UInt8]) async throws(RPCError) {
    if !bytes.isEmpty { try await send(.bulk, bytes, ends: false) }
  }

  /// The end of the request.
  public func finishSending() async throws(RPCError) {
    try await send(.bulk, [], ends: true)
  }

  /// The next part of the answer; nil when the call has ended well.
  public func receive() async throws(RPCError) -> Part<Reply>? {
    guard let inbound = try await receiveInbound() else { return nil }
    return try Part(inbound)
  }

  /// The message that must come next; nil at a good end.
  public func receiveMessage() async throws(RPCError) -> Reply? {
    switch try await receive() {
    case .message(let message): return message
    case nil: return nil
    case .bulk: throw RPCError(.internalError, "\(method): bytes where a message was due")
    }
  }

  /// Exactly `count` raw bytes; `maximum` is checked before memory is taken.
  public func receiveBulk(count: UInt64, maximum: Int) async throws(RPCError) -> [UInt8] {
    let result = await withTaskCancellationHandler {
      await Self.outcome { () async throws(RPCError) in
        try await stream.receiveBulk(count: count, maximum: maximum)
      }
    } onCancel: {
      cancel()
    }
    if case .failure(let error) = result { observer?.ended(error) }
    return try result.get()
  }

  /// The one message of a unary answer, and the good end after it.
  public func receiveOnly() async throws(RPCError) -> Reply {
    guard let reply = try await receiveMessage(), try await receive() == nil else {
      throw RPCError(.internalError, "\(method): not exactly one message came back")
    }
    return reply
  }

  private func send(_ type: FrameType, _ bytes: [UInt8], ends: Bool) async throws(RPCError) {
    let result = await withTaskCancellationHandler {
      await Self.outcome { () async throws(RPCError) in
        try await stream.send(type, bytes, ends: ends)
      }
    } onCancel: {
      cancel()
    }
    if case .failure(let error) = result { observer?.ended(error) }
    try result.get()
  }

  private func receiveInbound() async throws(RPCError) -> Inbound? {
    let result = await withTaskCancellationHandler {
      await Self.outcome { () async throws(RPCError) in try await stream.receive() }
    } onCancel: {
      cancel()
    }
    switch result {
    case .success(nil): observer?.ended(nil)
    case .success: break
    case .failure(let error): observer?.ended(error)
    }
    return try result.get()
  }

  /// `withTaskCancellationHandler` knows no typed throws.
  private static func outcome<Value>(
    _ body: () async throws(RPCError) -> Value
  ) async -> Result<Value, RPCError> {
    do {
      return .success(try await body())
    } catch {
      return .failure(error)
    }
  }
}
