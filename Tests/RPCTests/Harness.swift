import Base
import Logging
import Messages
import TestSupport
import Testing

@testable import RPC

/// A real server on a free port of this machine, and clients for it.
final class Harness: Sendable {
  let authority: TestAuthority
  let group: EventLoopGroup
  let server: Server
  /// The server's.
  let tls: TLSContext
  let logger: Logger

  /// Methods of the slave's service serve as examples of three shapes, the user's query of the fourth.
  static let permissions = PermissionTable(
    [
      SlaveCloudMethods.slaveStatus.name: [.master],
      SlaveCloudMethods.listShadows.name: [.master],
      SlaveCloudMethods.putShadow.name: [.master],
      SlaveCloudMethods.getShadow.name: [.master],
      ImageUserMethods.queryImages.name: [.master],
    ],
    open: [KeyControlMethods.join.name])

  init(
    authority: TestAuthority? = nil, limits: ConnectionLimits = ConnectionLimits(),
    port: UInt16 = 0, admitsStrangers: Bool = false, credentials: Credentials? = nil,
    permissions: PermissionTable = Harness.permissions,
    interceptors: [any ServerInterceptor] = [], serverLogger: Logger? = nil,
    log: CapturedLog? = nil, configure: (inout ServerConfiguration) -> Void = { _ in },
    routes: (inout Router) -> Void
  ) throws {
    let authority = try authority ?? TestAuthority()
    self.authority = authority
    group = EventLoopGroup(count: 2)
    var logger = Logger(label: "rpc-tests")
    logger.logLevel = .critical
    self.logger = logger
    if let log { logger = log.logger }
    var configuration = ServerConfiguration(
      address: Address(host: "127.0.0.1", port: port), cluster: "test")
    configuration.limits = limits
    configuration.permissions = permissions
    configuration.interceptors = interceptors
    configure(&configuration)
    var router = Router()
    routes(&router)
    tls = try .server(
      credentials ?? authority.credentials(.slave, "scs-1"), admitsStrangers: admitsStrangers)
    server = Server(
      configuration: configuration, tls: tls, router: router, group: group,
      logger: serverLogger ?? logger)
    try server.start()
  }

  func channel(
    role: Role = .master, credentials: Credentials? = nil, expecting: Role = .slave,
    node: String? = nil, limits: ConnectionLimits = ConnectionLimits()
  ) throws -> Channel {
    channel(
      tls: try .client(credentials ?? authority.credentials(role, "node-1")), expecting: expecting,
      node: node, limits: limits)
  }

  func channel(
    tls: TLSContext, expecting: Role = .slave, node: String? = nil,
    limits: ConnectionLimits = ConnectionLimits()
  ) -> Channel {
    Channel(
      address: Address(host: "127.0.0.1", port: server.port), tls: tls,
      expecting: PeerExpectation(cluster: "test", role: expecting, node: node), group: group,
      logger: logger, limits: limits)
  }

  func stop() async { await server.shutdown(graceMilliseconds: 0) }
}

/// The error of a call that must fail.
func failure<Value>(_ body: () async throws(RPCError) -> Value) async -> RPCError? {
  do {
    _ = try await body()
    return nil
  } catch {
    return error
  }
}

/// Talks TLS but not the protocol: sends whatever bytes a test makes up.
final class RawPeer: TransportOwner, @unchecked Sendable {
  private let loop: EventLoop
  private let transport: SocketTransport
  private let received = Locked<[UInt8]>([])
  private let ready = Locked(false)
  private let closed = Locked<RPCError?>(nil)

  init(_ harness: Harness, tls: TLSContext, port: UInt16? = nil, session: TLSSession? = nil) throws
  {
    loop = harness.group.nextLoop()
    let addresses = try Address(host: "127.0.0.1", port: port ?? harness.server.port).resolve(
      passive: false)
    var address = addresses[0]
    let descriptor = connectSocket(&address)
    precondition(descriptor >= 0, "connect: \(descriptor)")
    guard let stream = TLSStream(context: tls, descriptor: descriptor, session: session) else {
      preconditionFailure("no TLS stream")
    }
    transport = SocketTransport(loop: loop, descriptor: descriptor, tls: stream, connecting: true)
    loop.execute { [self] in
      transport.owner = self
      transport.start()
    }
  }

  func transportIsReady(_ peer: Identity?) { ready.withLock { $0 = true } }
  func transportReceived(_ bytes: UnsafeRawBufferPointer) {
    received.withLock { $0.append(contentsOf: bytes) }
  }
  var transportWantsFilling: Bool { false }
  func transportFill(_ read: (UnsafeMutableRawBufferPointer) -> Int) {}
  func transportHasRoom() {}
  func transportClosed(_ error: RPCError) { closed.withLock { $0 = error } }

  /// Waits for the handshake, then sends.
  func send(_ bytes: [UInt8]) async {
    await eventually { [self] in
      ready.withLock { $0 } || closed.withLock { $0 != nil }
    }
    loop.execute { [self] in
      guard transport.owner != nil else { return }
      bytes.withUnsafeBytes { transport.output.append($0) }
      transport.outputWasAppended()
    }
  }

  func waitUntilClosed() async -> RPCError? {
    await eventually { [self] in closed.withLock { $0 != nil } }
    return closed.withLock { $0 }
  }

  /// Frames seen so far.
  func frames() -> [Frame] {
    let sink = CollectedFrames()
    var decoder = FrameDecoder(maximumPayloadBytes: 1 << 24)
    received.withLock { $0 }.withUnsafeBytes { try? decoder.push($0, sink) }
    return sink.frames
  }

  /// Says hello and waits until the server has heard it, or has closed: it takes calls now, and the ticket of
  /// the session has come.
  func exchangeHellos() async {
    await send(helloFrame() + frame(FrameType.ping.rawValue, [UInt8](repeating: 0, count: 8)))
    await eventually { [self] in
      frames().contains { $0.header.type == .pong } || closed.withLock { $0 != nil }
    }
  }

  /// The server's last word, where it said one.
  func goAway() throws -> GoAway? {
    try frames().last { $0.header.type == .goAway }.map { try GoAway(decoding: $0.payload) }
  }

  func close() { loop.execute { [self] in transport.close() } }
}
