import Base
import CWire
import Glibc
import Logging
import Messages

/// How a server listens and what it bounds.
public struct ServerConfiguration: Sendable {
  public var address: Address
  public var limits = ConnectionLimits()
  public var maximumConnections = 1024
  /// Only certificates of this cluster are let in.
  public var cluster: String
  public var permissions = PermissionTable.cluster

  public init(address: Address, cluster: String) {
    self.address = address
    self.cluster = cluster
  }
}

/// A TLS server for the methods of a router.
public final class Server: @unchecked Sendable {
  private let configuration: ServerConfiguration
  private let tls: TLSContext
  private let router: Router
  private let group: EventLoopGroup
  private let logger: Logger
  private let acceptLoop: EventLoop
  private let connections = Locked<[ObjectIdentifier: Connection]>([:])
  private let acceptingPaused = Locked(false)
  /// Belongs to the accepting loop.
  private var listeners: [Int32] = []
  /// The port in use; of interest where the configuration says 0.
  public private(set) var port: UInt16 = 0

  public init(
    configuration: ServerConfiguration, tls: TLSContext, router: Router, group: EventLoopGroup,
    logger: Logger
  ) {
    // A method that the table does not name could never be called; one that no one serves would
    // only be noticed by its caller.
    for method in router.methods {
      precondition(
        configuration.permissions.methods.contains(method), "no permission names \(method)")
    }
    self.configuration = configuration
    self.tls = tls
    self.router = router
    self.group = group
    self.logger = logger
    acceptLoop = group.nextLoop()
  }

  /// Binds and listens; connections are served from here on.
  public func start() throws(RPCError) {
    let addresses = try configuration.address.resolve(passive: true)
    var address = addresses[0]
    let descriptor = sfm_listen(&address, 1024)
    guard descriptor >= 0 else {
      throw RPCError(
        .unavailable, "cannot listen on \(configuration.address): \(systemMessage(descriptor))")
    }
    port = UInt16(clamping: sfm_local_port(descriptor))
    acceptLoop.execute { [self] in
      listeners = [descriptor]
      let added = acceptLoop.add(descriptor, events: EPOLLIN.rawValue) { [weak self] _ in
        self?.accept(from: descriptor)
      }
      precondition(added, "epoll refused the listening socket")
    }
  }

  /// Stops listening, lets running calls end within the time given, then cuts what is left.
  public func shutdown(graceMilliseconds: UInt64) async {
    await onLoop(acceptLoop) { [self] in
      for descriptor in listeners {
        acceptLoop.remove(descriptor)
        sfm_close(descriptor)
      }
      listeners = []
    }
    for connection in connections.withLock({ Array($0.values) }) {
      connection.loop.execute { connection.drain() }
    }
    let deadline = SystemClock().monotonicNanoseconds() + graceMilliseconds * 1_000_000
    while !connections.withLock({ $0.isEmpty }) {
      guard SystemClock().monotonicNanoseconds() < deadline else { break }
      try? await Task.sleep(for: .milliseconds(5))
    }
    for connection in connections.withLock({ Array($0.values) }) {
      await onLoop(connection.loop) {
        connection.close(RPCError(.unavailable, "the server shut down"))
      }
    }
  }

  /// Open connections, for tests and status.
  public var connectionCount: Int { connections.withLock { $0.count } }

  private func onLoop(_ loop: EventLoop, _ body: @escaping @Sendable () -> Void) async {
    await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
      loop.execute {
        body()
        done.resume()
      }
    }
  }

  // MARK: connections

  private func accept(from listener: Int32) {
    for _ in 0..<64 {
      let descriptor = sfm_accept(listener)
      if descriptor == -EAGAIN { return }
      if descriptor == -EMFILE || descriptor == -ENFILE {
        pauseAccepting(listener)
        return
      }
      // ECONNABORTED and its kin concern that connection alone.
      guard descriptor >= 0 else { continue }
      guard connectionCount < configuration.maximumConnections else {
        logger.warning("connection refused", metadata: ["reason": "too many connections"])
        sfm_close(descriptor)
        continue
      }
      let loop = group.nextLoop()
      loop.execute { [self] in serve(descriptor, on: loop) }
    }
  }

  /// Out of descriptors: the waiting connection would wake the loop for ever.
  private func pauseAccepting(_ listener: Int32) {
    logger.error("no descriptors left: not accepting for a second")
    acceptLoop.modify(listener, events: 0)
    _ = acceptLoop.schedule(afterMilliseconds: 1000) { [self] in
      if listeners.contains(listener) {
        acceptLoop.modify(listener, events: EPOLLIN.rawValue)
      }
    }
  }

  private func serve(_ descriptor: Int32, on loop: EventLoop) {
    guard let stream = TLSStream(context: tls, descriptor: descriptor) else {
      sfm_close(descriptor)
      return
    }
    let transport = SocketTransport(
      loop: loop, descriptor: descriptor, tls: stream, connecting: false)
    adopt(transport, on: loop)
  }

  private func adopt(_ transport: any Transport, on loop: EventLoop) {
    let connection = Connection(
      loop: loop, side: .server, transport: transport, limits: configuration.limits,
      logger: logger)
    let key = ObjectIdentifier(connection)
    connections.withLock { $0[key] = connection }
    connection.admit = { [configuration] identity in
      guard let identity else { return nil }
      guard identity.cluster == configuration.cluster else {
        return RPCError(.unauthenticated, "a certificate of cluster '\(identity.cluster)'")
      }
      return nil
    }
    connection.onCall = { [weak self, weak connection] stream, header in
      guard let self, let connection else { return }
      begin(stream, header, on: connection)
    }
    connection.onClosed = { [weak self, weak connection] error in
      guard let self else { return }
      connections.withLock { $0[key] = nil }
      let quiet = error.code == .unavailable
      logger.log(
        level: quiet ? .debug : .warning, "connection closed",
        metadata: ["peer": "\(connection?.peerName ?? "")", "reason": "\(error.message)"])
    }
    connection.start()
  }

  // MARK: calls

  private func begin(_ stream: Stream, _ header: RequestHeader, on connection: Connection) {
    if let refusal = refusal(header, connection.peer) {
      if refusal.code == .permissionDenied || refusal.code == .unauthenticated {
        logger.warning(
          "call refused",
          metadata: [
            "method": "\(header.method.prefix(100))", "reason": "\(refusal.message.prefix(200))",
            "caller": "\(connection.peer?.uri ?? "none")",
          ])
      }
      connection.finish(stream, refusal)
      return
    }
    guard let handler = router.handlers[header.method] else {
      connection.finish(
        stream, RPCError(.unimplemented, "this server does not know \(header.method.prefix(100))"))
      return
    }
    let deadline =
      SystemClock().monotonicNanoseconds() + header.timeoutMicroseconds * 1000
    stream.startDeadline(atNanoseconds: deadline)
    let context = CallContext(
      method: header.method, caller: connection.peer, deadlineNanoseconds: deadline,
      traceID: header.traceID, metadata: header.metadata)
    let task = Task(executorPreference: connection.loop) { [logger] in
      do {
        try await handler(stream, context)
        connection.loop.execute { connection.finish(stream, nil) }
      } catch {
        let answer = RPCError(answering: error)
        if answer.code == .internalError {
          logger.error(
            "handler failed", metadata: ["method": "\(context.method)", "error": "\(error)"])
        }
        connection.loop.execute { connection.finish(stream, answer) }
      }
    }
    if stream.isFinished { task.cancel() } else { stream.onAbort = { _ in task.cancel() } }
  }

  private func refusal(_ header: RequestHeader, _ caller: Identity?) -> RPCError? {
    // Unknown methods are told from forbidden ones only to those who may call something here.
    if router.handlers[header.method] == nil && caller != nil { return nil }
    if let refusal = configuration.permissions.refusal(of: header.method, to: caller) {
      return refusal
    }
    guard header.timeoutMicroseconds > 0 else {
      return RPCError(.invalidArgument, "every call has a deadline")
    }
    guard header.timeoutMicroseconds / 1000 <= configuration.limits.maximumTimeoutMilliseconds
    else {
      return RPCError(.invalidArgument, "the deadline is too far away")
    }
    let metadataBytes = header.metadata.reduce(0) { $0 + $1.key.utf8.count + $1.value.count }
    guard header.metadata.count <= ConnectionLimits.maximumMetadataEntries,
      metadataBytes <= ConnectionLimits.maximumMetadataBytes
    else {
      return RPCError(.resourceExhausted, "\(metadataBytes) bytes of metadata are too many")
    }
    guard header.traceID.isEmpty || header.traceID.count == 16 else {
      return RPCError(.invalidArgument, "a trace id has 16 bytes")
    }
    return nil
  }
}
