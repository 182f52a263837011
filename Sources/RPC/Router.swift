import Base
import Messages

/// The methods that a server offers.
public struct Router: Sendable {
  typealias Handler = @Sendable (Stream, CallContext) async throws -> Void
  private(set) var handlers: [String: Handler] = [:]

  public init() {}

  public var methods: [String] { handlers.keys.sorted() }

  /// One message in, one message out.
  public mutating func unary<Request, Reply>(
    _ method: Method<Request, Reply>,
    _ body: @escaping @Sendable (Request, CallContext) async throws -> Reply
  ) {
    precondition(!method.clientStreams && !method.serverStreams, "\(method.name) streams")
    add(method) { call in
      let request = try await call.receiveMessage()
      guard try await call.receive() == nil else {
        throw RPCError(.invalidArgument, "\(method.name) takes one message")
      }
      try await call.send(try await body(request, call.context))
    }
  }

  /// Any of the streaming shapes; the call ends when the body returns or throws.
  public mutating func streaming<Request, Reply>(
    _ method: Method<Request, Reply>,
    _ body: @escaping @Sendable (ServerCall<Request, Reply>) async throws -> Void
  ) {
    precondition(method.clientStreams || method.serverStreams, "\(method.name) does not stream")
    add(method, body)
  }

  private mutating func add<Request, Reply>(
    _ method: Method<Request, Reply>,
    _ body: @escaping @Sendable (ServerCall<Request, Reply>) async throws -> Void
  ) {
    precondition(handlers[method.name] == nil, "\(method.name) is registered twice")
    handlers[method.name] = { stream, context in
      try await body(ServerCall(context: context, stream: stream))
    }
  }
}

/// Work that would hold up an event loop (arithmetic over a whole image, a file) runs on the shared pool.
public func offload<Result: Sendable>(
  _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withTaskExecutorPreference(globalConcurrentExecutor) { try body() }
}
