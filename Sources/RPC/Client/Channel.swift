import Base
import CWire
import Logging
import Messages

/// Whom a client expects to meet.
public struct PeerExpectation: Sendable {
  public let cluster: String
  public let role: Role
  /// Nil: any node of the role.
  public let node: String?

  public init(cluster: String, role: Role, node: String? = nil) {
    self.cluster = cluster
    self.role = role
    self.node = node
  }

  func refusal(of identity: Identity?) -> RPCError? {
    guard let identity else {
      return RPCError(.unauthenticated, "the server shows no identity")
    }
    guard identity.cluster == cluster, identity.role == role,
      node == nil || node == identity.node
    else {
      let wanted = "sfmedir://\(cluster)/\(role)/\(node ?? "*")"
      return RPCError(.unauthenticated, "expected \(wanted), met \(identity)")
    }
    return nil
  }
}

/// How one call is made.
public struct CallOptions: Sendable {
  public var timeout: Duration
  /// Wait for a connection until the deadline, where otherwise a failed attempt fails the call.
  public var waitsForReady = false
  public var traceID: [UInt8] = []
  public var metadata: [MetadataEntry] = []

  public init(timeout: Duration) { self.timeout = timeout }

  /// For a call made while serving another: its deadline and trace go on.
  public init(within context: CallContext, atMost limit: Duration = .seconds(3600)) {
    timeout = min(context.remaining, limit)
    traceID = context.traceID
  }
}

/// Calls to one server over one connection, which is made when first needed and again when lost.
public final class Channel: @unchecked Sendable {
  private struct Waiter {
    let id: UInt64
    let waitsForReady: Bool
    let done: UnsafeContinuation<Result<Connection, RPCError>, Never>
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
  private let tls: TLSContext
  private let expectation: PeerExpectation
  private let limits: ConnectionLimits
  private let loop: EventLoop
  private let logger: Logger
  // The rest belongs to the loop.
  private var state = State.idle
  private var waiters: [Waiter] = []
  private let waiterNumbers = Locked<UInt64>(0)
  private var failures = 0
  /// Why the last attempt failed; nil once one succeeds.
  private var lastFailure: RPCError?

  private static let firstBackoffMilliseconds = 50.0
  private static let backoffFactor = 1.6
  private static let maximumBackoffMilliseconds = 5000.0

  public init(
    address: Address, tls: TLSContext, expecting expectation: PeerExpectation,
    group: EventLoopGroup, logger: Logger, limits: ConnectionLimits = ConnectionLimits()
  ) {
    self.address = address
    self.tls = tls
    self.expectation = expectation
    self.limits = limits
    self.logger = logger
    loop = group.nextLoop()
  }

  // MARK: calls

  /// One message there, one message back.
  public func unary<Request, Reply>(
    _ method: Method<Request, Reply>, _ request: Request, _ options: CallOptions
  ) async throws(RPCError) -> Reply {
    let call = try await open(method, options)
    try await call.sendLast(request)
    return try await call.receiveOnly()
  }

  /// Begins a call of any shape.
  public func open<Request, Reply>(
    _ method: Method<Request, Reply>, _ options: CallOptions
  ) async throws(RPCError) -> ClientCall<Request, Reply> {
    let start = SystemClock().monotonicNanoseconds()
    let (seconds, attoseconds) = options.timeout.components
    guard seconds >= 0, options.timeout > .zero else {
      throw RPCError(.deadlineExceeded, "no time is left for \(method.name)")
    }
    let deadline = start + UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    var header = RequestHeader()
    header.method = method.name
    header.traceID = options.traceID
    header.metadata = options.metadata
    while true {
      let connection = try await acquire(deadline, options.waitsForReady)
      switch await begin(header, on: connection, deadline) {
      case .begun(let stream): return ClientCall(stream: stream, method: method.name)
      case .full:
        throw RPCError(.resourceExhausted, "\(address) takes no more calls on this connection")
          .asUnsent
      // It went away between the two steps: the next one is asked for.
      case .leaving: continue
      }
    }
  }

  private enum Beginning: Sendable {
    case begun(Stream)
    case full
    case leaving
  }

  private func begin(
    _ header: RequestHeader, on connection: Connection, _ deadline: UInt64
  ) async -> Beginning {
    await withUnsafeContinuation { (done: UnsafeContinuation<Beginning, Never>) in
      loop.execute { [self] in
        var header = header
        let now = SystemClock().monotonicNanoseconds()
        header.timeoutMicroseconds = deadline > now ? max(1, (deadline - now) / 1000) : 1
        if let stream = connection.open(header, deadlineNanoseconds: deadline) {
          done.resume(returning: .begun(stream))
        } else if connection.isLeaving {
          lost(connection)
          done.resume(returning: .leaving)
        } else {
          done.resume(returning: .full)
        }
      }
    }
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
      answerWaiters(.failure(RPCError(.cancelled, "the channel is closed")))
    }
  }

  // MARK: the connection

  private func acquire(
    _ deadline: UInt64, _ waitsForReady: Bool
  ) async throws(RPCError) -> Connection {
    let id = waiterNumbers.withLock { number in
      number += 1
      return number
    }
    // A caller that gives up must not wait for a peer that never finishes its handshake.
    let isCancelled = Locked(false)
    let result = await withTaskCancellationHandler {
      await withUnsafeContinuation {
        (done: UnsafeContinuation<Result<Connection, RPCError>, Never>) in
        loop.execute { [self] in
          if isCancelled.withLock({ $0 }) {
            done.resume(returning: .failure(RPCError(.cancelled, "the caller cancelled")))
          } else {
            acquire(id, deadline, waitsForReady, done)
          }
        }
      }
    } onCancel: {
      // Before the waiter is there the flag stops it; after that it is found.
      isCancelled.withLock { $0 = true }
      loop.execute { [self] in
        answerWaiter(id, .failure(RPCError(.cancelled, "the caller cancelled")))
      }
    }
    return try result.get()
  }

  private func answerWaiter(_ id: UInt64, _ result: Result<Connection, RPCError>) {
    guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
    let waiter = waiters.remove(at: index)
    loop.cancel(waiter.timer)
    waiter.done.resume(returning: result)
  }

  private func acquire(
    _ id: UInt64, _ deadline: UInt64, _ waitsForReady: Bool,
    _ done: UnsafeContinuation<Result<Connection, RPCError>, Never>
  ) {
    switch state {
    case .ready(let connection):
      done.resume(returning: .success(connection))
      return
    case .closed:
      done.resume(returning: .failure(RPCError(.cancelled, "the channel is closed")))
      return
    case .backingOff(let error) where !waitsForReady:
      done.resume(returning: .failure(error))
      return
    case .idle, .connecting, .backingOff: break
    }
    var waiter = Waiter(id: id, waitsForReady: waitsForReady, done: done)
    waiter.timer = loop.schedule(atNanoseconds: deadline) { [weak self] in
      guard let self, let index = waiters.firstIndex(where: { $0.id == id }) else { return }
      // A caller that waits would otherwise never hear of a refused certificate.
      let why = lastFailure.map { ": \($0.message)" } ?? ""
      waiters.remove(at: index).done.resume(
        returning: .failure(
          RPCError(.deadlineExceeded, "no connection to \(address) in time\(why)")))
    }
    waiters.append(waiter)
    if case .idle = state { connect() }
  }

  private func answerWaiters(_ result: Result<Connection, RPCError>) {
    let answered = waiters.filter {
      if case .failure = result, case .backingOff = state { return !$0.waitsForReady }
      return true
    }
    waiters.removeAll { waiter in answered.contains { $0.id == waiter.id } }
    for waiter in answered {
      loop.cancel(waiter.timer)
      waiter.done.resume(returning: result)
    }
  }

  private func connect() {
    state = .connecting
    if let addresses = address.numeric() {
      connect(to: addresses[...])
      return
    }
    // Looking a name up blocks, so it happens elsewhere.
    Task.detached { [self] in
      let resolved = Result { () throws(RPCError) in try address.resolve(passive: false) }
      loop.execute { [self] in
        switch resolved {
        case .success(let addresses): connect(to: addresses[...])
        case .failure(let error): connectionFailed(error)
        }
      }
    }
  }

  private func connect(to addresses: ArraySlice<sfm_address>) {
    guard case .connecting = state, var address = addresses.first else { return }
    let remaining = addresses.dropFirst()
    let descriptor = sfm_connect(&address)
    guard descriptor >= 0, let stream = TLSStream(context: tls, descriptor: descriptor) else {
      if descriptor >= 0 { sfm_close(descriptor) }
      let why = descriptor < 0 ? systemMessage(descriptor) : "no memory"
      tryNext(remaining, RPCError(.unavailable, "cannot connect to \(self.address): \(why)"))
      return
    }
    let transport = SocketTransport(
      loop: loop, descriptor: descriptor, tls: stream, connecting: true)
    let connection = Connection(
      loop: loop, side: .client, transport: transport, limits: limits, logger: logger)
    connection.admit = { [expectation] in expectation.refusal(of: $0) }
    connection.onReady = { [weak self, unowned connection] _ in self?.connected(connection) }
    connection.onGoAway = { [weak self, unowned connection] in self?.lost(connection) }
    connection.onClosed = { [weak self, unowned connection] error in
      guard let self else { return }
      if case .ready(let current) = state, current === connection {
        lost(connection)
      } else if case .connecting = state {
        var error = error
        error.message = "\(self.address): \(error.message)"
        tryNext(remaining, error)
      }
    }
    connection.start()
  }

  private func tryNext(_ addresses: ArraySlice<sfm_address>, _ error: RPCError) {
    if addresses.isEmpty { connectionFailed(error) } else { connect(to: addresses) }
  }

  private func connected(_ connection: Connection) {
    guard case .connecting = state else {
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

  private func connectionFailed(_ error: RPCError) {
    guard case .connecting = state else { return }
    let error = error.asUnsent
    failures += 1
    lastFailure = error
    state = .backingOff(error)
    logger.debug("connection failed", metadata: ["to": "\(address)", "reason": "\(error.message)"])
    answerWaiters(.failure(error))
    var delay = Self.firstBackoffMilliseconds
    for _ in 1..<min(failures, 20) { delay *= Self.backoffFactor }
    // Jitter, so that many clients of one server do not return together.
    delay = min(delay, Self.maximumBackoffMilliseconds) * Double.random(in: 0.8...1.2)
    _ = loop.schedule(afterMilliseconds: UInt64(delay)) { [weak self] in
      guard let self, case .backingOff = state else { return }
      state = .idle
      if !waiters.isEmpty { connect() }
    }
  }
}
