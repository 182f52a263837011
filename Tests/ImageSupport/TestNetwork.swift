import Logging
import Messages
import RPC
import TestSupport

/// Real servers and channels over TLS on this machine, with certificates of one authority.
public final class TestNetwork: Sendable {
  public let authority: TestAuthority
  public let group: EventLoopGroup
  public let master = FakeMaster()
  public let masterAddress: Address
  private let masterServer: Server
  public let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  public init() throws {
    authority = try TestAuthority()
    group = EventLoopGroup(count: 2)
    var router = Router()
    master.register(in: &router)
    masterServer = try Self.start(
      router, as: authority.credentials(.master, "mcs-1"), group, logger)
    masterAddress = Address(host: "127.0.0.1", port: masterServer.port)
  }

  /// A server of that node with whatever `register` adds, and a channel of a person at the command line to it.
  public func serve(
    _ role: Role, _ node: String, _ register: (inout Router) -> Void
  ) throws -> (server: Server, channel: Channel) {
    var router = Router()
    register(&router)
    let server = try Self.start(router, as: authority.credentials(role, node), group, logger)
    let channel = try channel(
      to: Address(host: "127.0.0.1", port: server.port), of: role, as: .operatorTool, "person")
    return (server, channel)
  }

  public func masterChannel(as role: Role, _ node: String) throws -> Channel {
    try channel(to: masterAddress, of: .master, as: role, node)
  }

  public func channel(
    to address: Address, of role: Role, as caller: Role, _ node: String
  ) throws -> Channel {
    Channel(
      address: address, tls: try .client(try authority.credentials(caller, node)),
      expecting: PeerExpectation(cluster: authority.cluster, role: role), group: group,
      logger: logger)
  }

  public func stop(_ servers: [Server]) async {
    for server in servers + [masterServer] { await server.shutdown(graceMilliseconds: 100) }
  }

  private static func start(
    _ router: Router, as credentials: Credentials, _ group: EventLoopGroup, _ logger: Logger
  ) throws -> Server {
    let configuration = ServerConfiguration(
      address: Address(host: "127.0.0.1", port: 0), cluster: "test")
    let server = Server(
      configuration: configuration, tls: try .server(credentials), router: router, group: group,
      logger: logger)
    try server.start()
    return server
  }
}
