import Base
import Messages

/// One method that a server offers.
struct Route: Sendable {
  /// Takes a call that passed every check.
  typealias Start = @Sendable (Stream, CallContext, Server, _ route: Int) -> Void
  let name: String
  let idempotency: Idempotency
  let start: Start
}

/// The methods that a server offers.
public struct Router: Sendable {
  private(set) var routes: [Route] = []
  /// Nil where reflection is not offered.
  var reflection: ReflectionService?

  public init() {}

  public var methods: [String] { routes.map(\.name).sorted() }

  /// One message in, one message out; the body may wait.
  public mutating func unary<Request, Reply>(
    _ method: Method<Request, Reply>,
    _ body: @escaping @Sendable (Request, CallContext) async throws -> Reply
  ) {
    add(method, .async(body))
  }

  /// One message in, one message out; the body runs on the event loop and must be short.
  public mutating func immediate<Request, Reply>(
    _ method: Method<Request, Reply>,
    _ body: @escaping @Sendable (Request, CallContext) throws -> Reply
  ) {
    add(method, .immediate(body))
  }

  private mutating func add<Request, Reply>(
    _ method: Method<Request, Reply>, _ body: UnaryInvocation<Request, Reply>.Body
  ) {
    precondition(!method.clientStreams && !method.serverStreams, "\(method.name) streams")
    add(method) { stream, context, server, route in
      let call = UnaryInvocation(context: context, server: server, route: route, body: body)
      stream.served = call
      stream.receiver = call
    }
  }

  /// Any of the streaming shapes; the call ends when the body returns or throws.
  public mutating func streaming<Request, Reply>(
    _ method: Method<Request, Reply>,
    _ body: @escaping @Sendable (ServerCall<Request, Reply>) async throws -> Void
  ) {
    precondition(method.clientStreams || method.serverStreams, "\(method.name) does not stream")
    add(method) { stream, context, server, route in
      let call = ServedCall(context: context, server: server, route: route)
      stream.served = call
      stream.connection.load.callBegan()
      let task = Task.immediate(executorPreference: stream.loop) { @Sendable in
        do {
          try await body(ServerCall(context: context, stream: stream))
          stream.loop.execute { stream.connection.finish(stream, nil) }
        } catch {
          let answer = call.answer(to: error)
          stream.loop.execute { stream.connection.finish(stream, answer) }
        }
        stream.connection.load.callReturned()
      }
      call.watch(task, stream)
    }
  }

  private mutating func add<Request, Reply>(
    _ method: Method<Request, Reply>, _ start: @escaping Route.Start
  ) {
    precondition(!routes.contains { $0.name == method.name }, "\(method.name) is registered twice")
    routes.append(Route(name: method.name, idempotency: method.idempotency, start: start))
  }
}

/// Work that would hold up an event loop (arithmetic over a whole image, a file) runs on the shared pool.
public func offload<Result: Sendable>(
  _ body: @escaping @Sendable () throws -> Result
) async throws -> Result {
  try await withTaskExecutorPreference(globalConcurrentExecutor) { try body() }
}
