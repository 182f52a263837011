import Base
import Logging
import Messages

/// Calls to one server over one connection, which is made when first needed and again when lost.
public final class Channel: @unchecked Sendable {
  typealias Acquired = (Result<Connection, RPCError>) -> Void

  private struct Waiter {
    let id: UInt64
    let waitsForReady: Bool
    let done: Acquired
    var timer: TimerID?
  }

  private enum State {
    case idle
    case connecting
    case ready(Connection)
    /// The last attempt failed; the next one comes by a timer.
    case backingOff(RPCError)
    case closed
  }

  public let address: Address
  private let connector: any Connector
  private let expectation: PeerExpectation
  private let limits: ConnectionLimits
  private let interceptors: [any ClientInterceptor]
  let loop: EventLoop
  /// Its loops end with it.
  private let group: EventLoopGroup?
  /// Where the channel's connection lives: a caller that runs here calls without changing threads.
  public var executor: any TaskExecutor { loop }
  private let logger: Logger
  // The rest belongs to the loop.
  private var state = State.idle
  private var waiters: [Waiter] = []
  private var lastWaiter: UInt64 = 0
  private var failures = 0
  /// Why the last attempt failed; nil once one succeeds.
  private var lastFailure: RPCError?
  /// The connection of ``State/connecting``; one that was lost may close much later.
  private weak var attempt: Connection?

  private static let firstBackoffMilliseconds = 50.0
  private static let backoffFactor = 1.6
  /// A call that a leaving server did not begin goes to the next connection, so often.
  private static let maximumMoves = 3

  public convenience init(
    address: Address, tls: TLSContext, expecting expectation: PeerExpectation,
    group: EventLoopGroup, logger: Logger, limits: ConnectionLimits = ConnectionLimits(),
    interceptors: [any ClientInterceptor] = []
  ) {
    self.init(
      address: address, connector: SocketConnector(address: address, tls: tls),
      expecting: expectation, loop: group.nextLoop(), logger: logger, limits: limits,
      interceptors: interceptors, group: group)
  }

  init(
    address: Address, connector: any Connector, expecting expectation: PeerExpectation,
    loop: EventLoop, logger: Logger, limits: ConnectionLimits = ConnectionLimits(),
    interceptors: [any ClientInterceptor] = [], group: EventLoopGroup? = nil
  ) {
    self.group = group
    self.address = address
    self.connector = connector
    self.expectation = expectation
    self.limits = limits
    self.logger = logger
    self.interceptors = interceptors
    self.loop = loop
  }

  /// Dropped without ``close()``: the connection must not live on, with nobody to use it.
  deinit {
    if case .ready(let connection) = state { loop.execute { connection.drain() } }
  }

  // MARK: calls

  /// One message there, one message back.
  public func unary<Request, Reply>(
    _ method: Method<Request, Reply>, _ request: Request, _ options: CallOptions
  ) async throws(RPCError) -> Reply {
    var options = options
    for interceptor in interceptors { interceptor.begins(method.name, &options) }
    let began = loop.nowNanoseconds()
    let deadline = began + options.timeoutNanoseconds
    var result =
      deadline > began
      ? await once(method, request, options, deadline) : .failure(Self.noTime(method.name))
    var moves = 0
    while case .failure(let error) = result, error.reason == "Draining", error.wasNotStarted,
      options.movesWithinChannel, moves < Self.maximumMoves, loop.nowNanoseconds() < deadline
    {
      moves += 1
      result = await once(method, request, options, deadline)
    }
    if !interceptors.isEmpty {
      var error: RPCError?
      if case .failure(let failure) = result { error = failure }
      let taken = loop.nowNanoseconds() - began
      for interceptor in interceptors.reversed() {
        interceptor.ended(method.name, options, error, nanoseconds: taken)
      }
    }
    return try result.get()
  }

  private static func noTime(_ method: String) -> RPCError {
    RPCError(.deadlineExceeded, "no time is left for \(method)").asUnsent
  }

  private func once<Request, Reply>(
    _ method: Method<Request, Reply>, _ request: Request, _ options: CallOptions,
    _ deadline: UInt64
  ) async -> Result<Reply, RPCError> {
    let receiver = UnaryReceiver<Reply>(method: method.name, loop: loop)
    let result = await withTaskCancellationHandler {
      await withUnsafeContinuation { (continuation: UnaryReceiver<Reply>.Continuation) in
        if loop.inLoop {
          begin(receiver, continuation, method.name, request, options, deadline)
        } else {
          loop.execute { [self] in
            begin(receiver, continuation, method.name, request, options, deadline)
          }
        }
      }
    } onCancel: {
      receiver.cancel()
    }
    loop.handover.take()
    return result
  }

  private func begin<Request: WireMessage, Reply>(
    _ receiver: UnaryReceiver<Reply>, _ continuation: UnaryReceiver<Reply>.Continuation,
    _ method: String, _ request: Request, _ options: CallOptions, _ deadline: UInt64
  ) {
    guard receiver.begin(continuation) else { return }
    if case .ready(let connection) = state,
      send(receiver, on: connection, method, request, options, deadline)
    {
      return
    }
    let id = acquire(deadline, options.waitsForReady) { [self] result in
      receiver.stopWaiting = nil
      switch result {
      case .failure(let error): receiver.finish(.failure(error))
      case .success(let connection):
        if !send(receiver, on: connection, method, request, options, deadline) {
          receiver.finish(.failure(leaving))
        }
      }
    }
    if let id { receiver.stopWaiting = { [weak self] in self?.forget(id) } }
  }

  private var leaving: RPCError {
    RPCError(.unavailable, "\(address) went away at once", reason: "Draining").asUnsent
  }

  /// False where the connection takes no new calls any more.
  private func send<Request: WireMessage, Reply>(
    _ receiver: UnaryReceiver<Reply>, on connection: Connection, _ method: String,
    _ request: Request, _ options: CallOptions, _ deadline: UInt64
  ) -> Bool {
    if receiver.isOver { return true }
    guard
      let stream = connection.open(method, options.metadata, deadlineNanoseconds: deadline)
    else {
      if connection.isLeaving {
        lost(connection)
        return false
      }
      receiver.finish(.failure(full))
      return true
    }
    receiver.begun(stream)
    if let failure = connection.send(request, on: stream, ends: true) {
      connection.cancelStream(stream, failure)
    }
    return true
  }

  private var full: RPCError {
    RPCError(.resourceExhausted, "\(address) takes no more calls on this connection").asUnsent
  }

  /// Begins a call of any shape.
  public func open<Request, Reply>(
    _ method: Method<Request, Reply>, _ options: CallOptions
  ) async throws(RPCError) -> ClientCall<Request, Reply> {
    var options = options
    for interceptor in interceptors { interceptor.begins(method.name, &options) }
    let began = loop.nowNanoseconds()
    let deadline = began + options.timeoutNanoseconds
    guard deadline > began else { throw Self.noTime(method.name) }
    for _ in 0...Self.maximumMoves {
      let connection = try await acquire(deadline, options.waitsForReady)
      switch await begin(method.name, options, on: connection, deadline) {
      case .begun(let stream):
        return ClientCall(stream: stream, method: method.name, observer: options.observer)
      case .full: throw full
      // It went away between the two steps: the next one is asked for.
      case .leaving: continue
      }
    }
    throw leaving
  }

  /// Makes the connection where there is none, for as long as the time allows.
  func connect(timeout: Duration) async throws(RPCError) {
    let nanoseconds = CallOptions(timeout: timeout).timeoutNanoseconds
    _ = try await acquire(loop.nowNanoseconds() + nanoseconds, true)
  }

  private enum Beginning: Sendable {
    case begun(Stream)
    case full
    case leaving
  }

  private func begin(
    _ method: String, _ options: CallOptions, on connection: Connection, _ deadline: UInt64
  ) async -> Beginning {
    let beginning = await withUnsafeContinuation {
      (done: UnsafeContinuation<Beginning, Never>) in
      loop.execute { [self] in
        let stream = connection.open(method, options.metadata, deadlineNanoseconds: deadline)
        if let stream {
          loop.resume(done, returning: .begun(stream))
        } else if connection.isLeaving {
          lost(connection)
          loop.resume(done, returning: .leaving)
        } else {
          loop.resume(done, returning: .full)
        }
      }
    }
    loop.handover.take()
    return beginning
  }

  /// No more calls; running ones end.
  public func close() {
    loop.execute { [self] in
      let previous = state
      state = .closed
      if case .ready(let connection) = previous {
        connection.onGoAway = nil
        connection.drain()
      }
      answerWaiters(.failure(RPCError(.cancelled, "the channel is closed").asUnsent))
    }
  }

  // MARK: waiting for a connection

  private func acquire(
    _ deadline: UInt64, _ waitsForReady: Bool
  ) async throws(RPCError) -> Connection {
    // A caller that gives up must not wait for a peer that never finishes its handshake.
    let ticket = Ticket()
    let result = await withTaskCancellationHandler {
      await withUnsafeContinuation {
        (done: UnsafeContinuation<Result<Connection, RPCError>, Never>) in
        loop.execute { [self] in
          if ticket.isCancelled {
            loop.resume(done, returning: .failure(Self.givenUp))
          } else {
            ticket.id = acquire(deadline, waitsForReady) { [loop] in
              loop.resume(done, returning: $0)
            }
          }
        }
      }
    } onCancel: {
      loop.execute { [self] in
        ticket.isCancelled = true
        if let id = ticket.id { answerWaiter(id, .failure(Self.givenUp)) }
      }
    }
    loop.handover.take()
    return try result.get()
  }

  private static let givenUp = RPCError(.cancelled, "the caller cancelled").asUnsent

  /// Confined to the loop.
  private final class Ticket: @unchecked Sendable {
    var id: UInt64?
    var isCancelled = false
  }

  private func answerWaiter(_ id: UInt64, _ result: Result<Connection, RPCError>) {
    guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
    let waiter = waiters.remove(at: index)
    loop.cancel(waiter.timer)
    waiter.done(result)
  }

  /// Takes a waiter out without an answer.
  private func forget(_ id: UInt64) {
    guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
    loop.cancel(waiters.remove(at: index).timer)
  }

  /// The number of the waiter where `done` was not called yet.
  private func acquire(
    _ deadline: UInt64, _ waitsForReady: Bool, _ done: @escaping Acquired
  ) -> UInt64? {
    switch state {
    case .ready(let connection):
      done(.success(connection))
      return nil
    case .closed:
      done(.failure(RPCError(.cancelled, "the channel is closed").asUnsent))
      return nil
    case .backingOff(let error) where !waitsForReady:
      done(.failure(error))
      return nil
    case .idle, .connecting, .backingOff: break
    }
    lastWaiter += 1
    let id = lastWaiter
    var waiter = Waiter(id: id, waitsForReady: waitsForReady, done: done)
    waiter.timer = loop.schedule(atNanoseconds: deadline) { [weak self] in
      guard let self else { return }
      // A caller that waits would otherwise never hear of a refused certificate.
      let why = lastFailure.map { ": \($0.message)" } ?? ""
      answerWaiter(
        id,
        .failure(
          RPCError(.deadlineExceeded, "no connection to \(address) in time\(why)").asUnsent))
    }
    waiters.append(waiter)
    if case .idle = state { connect() }
    return id
  }

  private func answerWaiters(_ result: Result<Connection, RPCError>) {
    var isFailedAttempt = false
    if case .failure = result, case .backingOff = state { isFailedAttempt = true }
    let answered = waiters.filter { !isFailedAttempt || !$0.waitsForReady }
    waiters.removeAll { !isFailedAttempt || !$0.waitsForReady }
    for waiter in answered {
      loop.cancel(waiter.timer)
      waiter.done(result)
    }
  }

  // MARK: the connection

  private func connect() {
    state = .connecting
    connector.endpoints { [self] found in
      loop.execute { [self] in
        switch found {
        case .success(let endpoints): connect(to: endpoints[...])
        case .failure(let error): connectionFailed(error)
        }
      }
    }
  }

  private func connect(to endpoints: ArraySlice<Endpoint>) {
    guard case .connecting = state, let endpoint = endpoints.first else { return }
    let remaining = endpoints.dropFirst()
    let transport: Transport
    do throws(RPCError) {
      transport = try connector.transport(to: endpoint, on: loop)
    } catch {
      tryNext(remaining, error)
      return
    }
    let connection = Connection(
      loop: loop, side: .client, transport: transport, limits: limits, logger: logger)
    connection.admit = { [expectation] in expectation.refusal(of: $0) }
    connection.onReady = { [weak self, unowned connection] _ in
      if let self { connected(connection) } else { connection.drain() }
    }
    connection.onGoAway = { [weak self, unowned connection] in self?.lost(connection) }
    connection.onClosed = { [weak self, unowned connection] error in
      guard let self else { return }
      if case .ready(let current) = state, current === connection {
        lost(connection)
      } else if case .connecting = state, attempt === connection {
        var error = error
        error.message = "\(connector.name): \(error.message)"
        tryNext(remaining, error)
      }
    }
    attempt = connection
    connection.start()
  }

  private func tryNext(_ endpoints: ArraySlice<Endpoint>, _ error: RPCError) {
    if endpoints.isEmpty { connectionFailed(error) } else { connect(to: endpoints) }
  }

  private func connected(_ connection: Connection) {
    guard case .connecting = state, attempt === connection else {
      connection.drain()
      return
    }
    failures = 0
    lastFailure = nil
    state = .ready(connection)
    answerWaiters(.success(connection))
  }

  private func lost(_ connection: Connection) {
    if case .ready(let current) = state, current === connection { state = .idle }
  }

  private func connectionFailed(_ failure: RPCError) {
    guard case .connecting = state else { return }
    let error = failure.asUnsent
    failures += 1
    lastFailure = error
    state = .backingOff(error)
    logger.debug(
      "connection failed", metadata: ["to": "\(connector.name)", "reason": "\(error.message)"])
    answerWaiters(.failure(error))
    var delay = Self.firstBackoffMilliseconds
    for _ in 1..<min(failures, 20) { delay *= Self.backoffFactor }
    // Jitter, so that many clients of one server do not return together.
    delay = min(delay, Double(limits.maximumReconnectMilliseconds)) * loop.jitter(in: 0.8...1.2)
    _ = loop.schedule(afterMilliseconds: UInt64(delay)) { [weak self] in
      guard let self, case .backingOff = state else { return }
      state = .idle
      if !waiters.isEmpty { connect() }
    }
  }
}
