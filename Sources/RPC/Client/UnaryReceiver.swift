import Messages

/// A unary call that waits for its answer. Confined to its channel's loop, but for ``cancel()``.
final class UnaryReceiver<Reply: WireMessage>: StreamReceiver, @unchecked Sendable {
  typealias Continuation = UnsafeContinuation<Result<Reply, RPCError>, Never>
  private let method: String
  private let loop: EventLoop
  private var continuation: Continuation?
  private var reply: Reply?
  private var failure: RPCError?
  private var stream: Stream?
  private(set) var isOver = false
  /// Takes the call out of those that wait for a connection.
  var stopWaiting: (() -> Void)?

  init(method: String, loop: EventLoop) {
    self.method = method
    self.loop = loop
  }

  /// False where the caller gave up before.
  func begin(_ continuation: Continuation) -> Bool {
    if isOver {
      loop.resume(continuation, returning: .failure(failure ?? Self.cancelled))
      return false
    }
    self.continuation = continuation
    return true
  }

  func begun(_ stream: Stream) {
    self.stream = stream
    stream.receiver = self
  }

  private static var cancelled: RPCError { RPCError(.cancelled, "the caller cancelled") }

  /// Any thread: the caller gives up.
  func cancel() {
    if loop.inLoop { cancelInLoop() } else { loop.execute { [self] in cancelInLoop() } }
  }

  private func cancelInLoop() {
    guard !isOver else { return }
    if let stream {
      // Its end comes back as ``finished(_:)``.
      stream.connection.cancelStream(stream, Self.cancelled)
    } else {
      finish(.failure(Self.cancelled))
    }
  }

  func receive(message: UnsafeRawBufferPointer, ends: Bool, of stream: Stream) {
    if reply != nil {
      failure = notOne
      return
    }
    do {
      reply = try Reply(decoding: message)
    } catch {
      failure = RPCError(.internalError, "\(method): \(Reply.self): \(error)")
    }
  }

  func receiveBulk(of stream: Stream) {
    failure = RPCError(.internalError, "\(method): bytes where a message was due")
  }

  func receiveEnd(of stream: Stream) {}

  func finished(_ error: RPCError?) {
    if let error = error ?? failure {
      finish(.failure(error))
    } else if let reply {
      finish(.success(reply))
    } else {
      finish(.failure(notOne))
    }
  }

  private var notOne: RPCError {
    RPCError(.internalError, "\(method): not exactly one message came back")
  }

  func finish(_ result: Result<Reply, RPCError>) {
    guard !isOver else { return }
    isOver = true
    stream = nil
    if case .failure(let error) = result { failure = error }
    let stop = stopWaiting
    stopWaiting = nil
    stop?()
    let waiting = continuation
    continuation = nil
    if let waiting { loop.resume(waiting, returning: result) }
  }
}
