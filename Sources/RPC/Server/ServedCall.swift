import Base
import Messages

/// How a call ended, for interceptors.
public struct CallRecord: Sendable {
  public let status: StatusCode
  /// The domain's name of the error; empty for most and for success.
  public let reason: String
  /// From the header to the trailer.
  public let durationNanoseconds: UInt64
  /// Payload of messages and bulk.
  public let receivedBytes: Int
  public let sentBytes: Int
}

/// A call that a server turned away before any handler: no such method, no permission, too much to do.
public struct RefusedCall: Sendable {
  /// As the caller wrote it, its first 100 bytes.
  public let method: String
  public let caller: Identity?
  public let error: RPCError
  let metadata: [MetadataEntry]

  /// The caller's trace, where it sent a valid one.
  public var trace: TraceContext? { metadata.isEmpty ? nil : TraceContext(metadata) }
}

/// Sees every call that a server takes: for audit, tracing, quotas.
///
/// All run on the connection's loop, in the middle of its work: they must not wait.
public protocol ServerInterceptor: Sendable {
  /// Before the handler. What it throws is the call's answer, and the handler does not run.
  func begins(_ context: CallContext) throws(RPCError)
  /// Once for each call that ``begins(_:)`` let in.
  func ended(_ context: CallContext, _ record: CallRecord)
  /// The server refused a call by itself; ``begins(_:)`` did not see it. Does nothing by default.
  func refused(_ call: RefusedCall)
}

extension ServerInterceptor {
  public func refused(_ call: RefusedCall) {}
}

/// A call that runs on a server. Confined to its loop.
class ServedCall: @unchecked Sendable {
  final let context: CallContext
  private let server: Server
  private let route: Int
  private let beganNanoseconds: UInt64

  init(context: CallContext, server: Server, route: Int) {
    self.context = context
    self.server = server
    self.route = route
    beganNanoseconds = context.arrivalNanoseconds
  }

  /// The stream is over; a handler may still be running.
  final func ended(_ stream: Stream, _ error: RPCError?) {
    let now = stream.loop.nowNanoseconds()
    let record = CallRecord(
      status: error?.code ?? .ok, reason: error?.reason ?? "",
      durationNanoseconds: now - min(now, beganNanoseconds), receivedBytes: stream.receivedBytes,
      sentBytes: stream.sentBytes)
    server.ended(route, context, record)
  }

  /// What a handler's error becomes on the wire; our own bugs and the machine's trouble are logged.
  final func answer(to error: any Error) -> RPCError {
    let answer = RPCError(answering: error)
    if answer.code == .internalError { server.logHandlerFailure(context, error) }
    return answer
  }

  /// Why the server must not begin the handler now; nil where it may.
  final func refusalOfLoad(_ stream: Stream) -> RPCError? {
    let refusal = server.refusalOfLoad(route: route) ?? stream.connection.refusalOfUnreadAnswers
    if let refusal { server.countRefusal(refusal) }
    return refusal
  }

  /// A handler's task began: it stops with the call. Most handlers of small calls are done already.
  final func watch(_ task: Task<Void, Never>, _ stream: Stream) {
    if stream.isFinished { task.cancel() } else { stream.onAbort = { _ in task.cancel() } }
  }
}

/// One message in, one message out: decoded from the frame, encoded into the output.
final class UnaryInvocation<Request: WireMessage, Reply: WireMessage>: ServedCall, StreamReceiver,
  @unchecked Sendable
{
  enum Body: Sendable {
    /// Never waits, so that it needs no task.
    case immediate(@Sendable (Request, CallContext) throws -> Reply)
    case async(@Sendable (Request, CallContext) async throws -> Reply)
  }

  private let body: Body
  private var request: Request?
  private var hasRequest = false
  /// Bytes on the wire of what the handler holds.
  private var requestBytes = 0

  init(context: CallContext, server: Server, route: Int, body: Body) {
    self.body = body
    super.init(context: context, server: server, route: route)
  }

  func receive(message: UnsafeRawBufferPointer, ends: Bool, of stream: Stream) {
    guard !hasRequest else {
      refuse(stream, "\(context.method) takes one message")
      return
    }
    do {
      request = try Request(decoding: message)
    } catch {
      refuse(stream, "\(Request.self): \(error)")
      return
    }
    hasRequest = true
    requestBytes = message.count
    if ends { start(stream) }
  }

  func receiveBulk(of stream: Stream) { refuse(stream, "\(context.method) takes one message") }

  func receiveEnd(of stream: Stream) {
    if !hasRequest {
      refuse(stream, "\(context.method) begins with a message")
    } else {
      start(stream)
    }
  }

  func finished(_ error: RPCError?) {}

  private func refuse(_ stream: Stream, _ why: String) {
    stream.connection.finish(stream, RPCError(.invalidArgument, why))
  }

  private func start(_ stream: Stream) {
    guard let request = request.take() else { return }
    // Many headers may have come before the first request was whole.
    if let refusal = refusalOfLoad(stream) {
      stream.connection.finish(stream, refusal)
      return
    }
    switch body {
    case .immediate(let body):
      do {
        stream.connection.finish(stream, answering: try body(request, context))
      } catch {
        stream.connection.finish(stream, answer(to: error))
      }
    case .async(let body):
      let load = stream.connection.load
      let heldBytes = requestBytes
      load.callBegan()
      load.unreadBytes(heldBytes)
      // On the loop: at once, up to where it first waits for something.
      let task = Task.immediate(executorPreference: stream.loop) { @Sendable [self] in
        do {
          answer(stream, try await body(request, context))
        } catch {
          let answer = answer(to: error)
          stream.loop.execute { stream.connection.finish(stream, answer) }
        }
        load.unreadBytes(-heldBytes)
        load.callReturned()
      }
      watch(task, stream)
    }
  }

  private func answer(_ stream: Stream, _ reply: Reply) {
    if stream.loop.inLoop {
      stream.connection.finish(stream, answering: reply)
    } else {
      stream.loop.execute { stream.connection.finish(stream, answering: reply) }
    }
  }
}
