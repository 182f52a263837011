import Base
import CWire
import Glibc
import Logging
import Messages
import Synchronization

/// How a server listens and what it bounds.
public struct ServerConfiguration: Sendable {
  public var address: Address
  public var limits = ConnectionLimits()
  public var maximumConnections = 1024
  /// Connections that have not said hello yet: who never does must not keep others out.
  public var maximumHandshakes = 512
  /// Connections of peers without a certificate, where those are let in at all.
  public var maximumStrangers = 64
  /// Handlers that run at once, over all connections; more calls are answered RESOURCE_EXHAUSTED at once.
  public var maximumRunningCalls = 4096
  /// Bytes that came and wait for their handlers, and those of answers that wait for their readers, over all
  /// connections; with more no call is taken.
  public var maximumUnreadBytes = 512 << 20
  /// Only certificates of this cluster are let in.
  public var cluster: String
  public var permissions = PermissionTable.cluster
  /// In this order when a call begins, in the other when it ends.
  public var interceptors: [any ServerInterceptor] = []

  public init(address: Address, cluster: String) {
    self.address = address
    self.cluster = cluster
  }
}

/// A TLS server for the methods of a router.
public final class Server: @unchecked Sendable {
  /// By number, so that all are gone through in the order they came in.
  private struct Connections {
    var open: [UInt64: Connection] = [:]
    var count: UInt64 = 0
    var areOver = false

    var inOrder: [Connection] { open.sorted { $0.key < $1.key }.map(\.value) }
  }

  let configuration: ServerConfiguration
  /// Nil for a server within its process.
  private let tls: TLSContext?
  let routes: RouteTable
  private let group: EventLoopGroup
  let logger: Logger
  private let acceptLoop: EventLoop
  private let connections = Locked(Connections())
  /// What is counted of each method of the router; calls that were refused before their handlers are not.
  public let methodMetrics: MethodMetrics
  let load = ServerLoad()
  let counters = ServerCounters()
  private let isStopping = Atomic(false)
  let limiter = LogLimiter()
  /// Belongs to the accepting loop.
  private var listeners: [Int32] = []
  /// The port in use; of interest where the configuration says 0.
  public private(set) var port: UInt16 = 0

  public convenience init(
    configuration: ServerConfiguration, tls: TLSContext, router: Router, group: EventLoopGroup,
    logger: Logger
  ) {
    self.init(
      configuration: configuration, optionalTLS: tls, router: router, group: group, logger: logger)
  }

  /// A server without sockets: an ``InProcessNetwork`` or a ``SimulatedNetwork`` listens for it.
  public convenience init(
    inProcess configuration: ServerConfiguration, router: Router, group: EventLoopGroup,
    logger: Logger
  ) {
    self.init(
      configuration: configuration, optionalTLS: nil, router: router, group: group, logger: logger)
  }

  private init(
    configuration: ServerConfiguration, optionalTLS tls: TLSContext?, router: Router,
    group: EventLoopGroup, logger: Logger
  ) {
    // A method that the table does not name could never be called; one that no one serves would
    // only be noticed by its caller.
    for method in router.methods {
      precondition(
        configuration.permissions.methods.contains(method), "no permission names \(method)")
    }
    self.configuration = configuration
    self.tls = tls
    routes = RouteTable(router.routes, configuration.permissions)
    methodMetrics = MethodMetrics(methods: router.routes.map(\.name))
    router.reflection?.bind(
      methods: router.methods, permissions: configuration.permissions, metrics: methodMetrics)
    self.group = group
    self.logger = logger
    acceptLoop = group.nextLoop()
  }

  /// Binds and listens; connections are served from here on.
  public func start() throws(RPCError) {
    precondition(tls != nil, "start() on a server without sockets")
    let addresses = try configuration.address.resolve(passive: true)
    var address = addresses[0]
    let descriptor = sfm_listen(&address, 4096)
    guard descriptor >= 0 else {
      throw RPCError(
        .unavailable, "cannot listen on \(configuration.address): \(systemMessage(descriptor))")
    }
    port = UInt16(clamping: sfm_local_port(descriptor))
    let listener = Listener(descriptor: descriptor, loop: acceptLoop) { [weak self] in
      self?.accept(from: descriptor)
      return self != nil
    }
    acceptLoop.execute { [self] in
      listeners = [descriptor]
      let added = acceptLoop.add(descriptor, events: EPOLLIN.rawValue, listener)
      precondition(added, "epoll refused the listening socket")
    }
  }

  /// Stops listening, lets running calls end within the time given, then cuts what is left.
  public func shutdown(graceMilliseconds: UInt64) async {
    // Whoever was accepted and is not among the connections yet sees this.
    isStopping.store(true, ordering: .sequentiallyConsistent)
    await onLoop(acceptLoop) { [self] in
      for descriptor in listeners {
        acceptLoop.remove(descriptor)
        sfm_close(descriptor)
      }
      listeners = []
    }
    let open = connections.withLock { connections in
      connections.areOver = true
      return connections.inOrder
    }
    for connection in open { connection.loop.execute { connection.drain() } }
    let deadline = acceptLoop.nowNanoseconds() + graceMilliseconds * 1_000_000
    while connectionCount > 0, acceptLoop.nowNanoseconds() < deadline {
      await pause(milliseconds: 5)
    }
    for connection in connections.withLock({ $0.inOrder }) {
      await onLoop(connection.loop) {
        connection.cut(
          RPCError(.unavailable, "the server shut down", reason: CloseReason.cut))
      }
    }
  }

  /// Not `Task.sleep`: a cancelled task would not wait at all, and a simulation has its own time.
  private func pause(milliseconds: UInt64) async {
    await withUnsafeContinuation { (done: UnsafeContinuation<Void, Never>) in
      acceptLoop.execute { [self] in
        _ = acceptLoop.schedule(afterMilliseconds: milliseconds) { done.resume() }
      }
    }
  }

  public var address: Address { configuration.address }

  /// Takes no connections any more.
  var isShutDown: Bool { connections.withLock { $0.areOver } }

  /// Open connections, for tests and status.
  public var connectionCount: Int { connections.withLock { $0.open.count } }
  /// Handlers that have not returned.
  public var runningCalls: Int { load.runningCalls }
  /// Bytes that came and were not read yet.
  public var unreadBytes: Int { load.unreadBytes }
  /// Bytes of answers that wait for their readers.
  public var waitingBytes: Int { load.waitingBytes }
  /// What happened to connections, by name, since the start.
  public var connectionCounters: [String: UInt64] { counters.snapshot() }

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
      if [-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM].contains(descriptor) {
        pauseAccepting(listener)
        return
      }
      // ECONNABORTED and its kin concern that connection alone.
      guard descriptor >= 0 else { continue }
      if let why = refusalAtTheDoor() {
        counters.count(why)
        log(.warning, "connection refused", ["reason": "\(why)", "counter": "\(why)"])
        sfm_close(descriptor)
        continue
      }
      counters.accepted()
      let loop = group.nextLoop()
      loop.execute { [self] in serve(descriptor, on: loop) }
    }
  }

  private func refusalAtTheDoor() -> String? {
    if counters.open >= configuration.maximumConnections { return "TooManyConnections" }
    if counters.handshaking >= configuration.maximumHandshakes { return "TooManyHandshakes" }
    return nil
  }

  /// Out of descriptors: the waiting connection would wake the loop for ever.
  private func pauseAccepting(_ listener: Int32) {
    counters.count("NoDescriptors")
    logger.error("no descriptors left: not accepting for a second")
    acceptLoop.modify(listener, events: 0)
    _ = acceptLoop.schedule(afterMilliseconds: 1000) { [self] in
      if listeners.contains(listener) {
        acceptLoop.modify(listener, events: EPOLLIN.rawValue)
      }
    }
  }

  private func serve(_ descriptor: Int32, on loop: EventLoop) {
    guard let tls, let stream = TLSStream(context: tls, descriptor: descriptor)
    else {
      counters.closed(isHandshaking: true)
      sfm_close(descriptor)
      return
    }
    adopt(
      SocketTransport(loop: loop, descriptor: descriptor, tls: stream, connecting: false))
  }

  static let nobodyListens = RPCError(.unavailable, "cannot connect: nobody listens")

  /// Where to serve a peer of another kind than a socket.
  func loopForConnection() throws(RPCError) -> EventLoop {
    guard !isShutDown else { throw Self.nobodyListens }
    if let why = refusalAtTheDoor() {
      counters.count(why)
      log(.warning, "connection refused", ["reason": "\(why)", "counter": "\(why)"])
      throw RPCError(
        .unavailable, "the peer closed during the handshake", reason: CloseReason.handshakeFailed)
    }
    return group.nextLoop()
  }

  /// Serves it; on that loop.
  func serve(_ transport: Transport) {
    counters.accepted()
    adopt(transport)
  }

  private func adopt(_ transport: Transport) {
    let connection = Connection(
      loop: transport.loop, side: .server, transport: transport, limits: configuration.limits,
      logger: logger, load: load)
    let number: UInt64? = connections.withLock { connections in
      // Accepted while shutdown() went through the others: nobody would drain this one.
      guard !connections.areOver else { return nil }
      connections.count += 1
      connections.open[connections.count] = connection
      return connections.count
    }
    guard let number else {
      counters.closed(isHandshaking: true)
      counters.count(CloseReason.drained)
      transport.close()
      return
    }
    var isStranger = false
    connection.admit = { [configuration, counters] identity in
      guard let identity else {
        guard counters.strangerCame(atMost: configuration.maximumStrangers) else {
          return RPCError(
            .resourceExhausted, "too many callers without a certificate",
            reason: "TooManyStrangers")
        }
        isStranger = true
        return nil
      }
      guard identity.cluster == configuration.cluster else {
        return RPCError(
          .unauthenticated, "a certificate of cluster '\(identity.cluster)'",
          reason: CloseReason.refused)
      }
      return nil
    }
    var isHandshaking = true
    connection.onReady = { [counters, unowned connection] _ in
      isHandshaking = false
      counters.ready(resumed: connection.transport.isResumed)
    }
    connection.onCall = { [weak self, unowned connection] stream, start, refusal in
      self?.begin(stream, start, refusal, on: connection)
    }
    // Not before its last words have left: shutdown() waits for them, and so long it takes a place.
    transport.onOver = { [weak self, counters] in
      if isStranger { counters.strangerLeft() }
      counters.closed(isHandshaking: isHandshaking)
      self?.connections.withLock { $0.open[number] = nil }
    }
    connection.onClosed = { [weak self, weak connection, counters] error in
      let counter = error.reason.isEmpty ? "Closed" : error.reason
      counters.count(counter)
      self?.log(
        CloseReason.isOrderly(error.reason) ? .debug : .warning, "connection closed",
        [
          "peer": "\(connection?.peerName ?? "")", "reason": "\(error.message)",
          "counter": "\(counter)",
        ])
    }
    connection.start()
    if isStopping.load(ordering: .sequentiallyConsistent) { connection.drain() }
  }
}
