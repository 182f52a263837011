import Logging
import Messages
import RPC
import TestSupport

/// Servers and channels within this process; who they are is said, not proved.
public final class TestNetwork: Sendable {
  public let cluster = "test"
  public let group: EventLoopGroup
  public let master = FakeMaster()
  public let masterAddress = Address(host: "mcs-1", port: 1)
  private let network = InProcessNetwork()
  private let masterServer: Server
  public let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

  public init() throws {
    group = EventLoopGroup(count: 2)
    var router = Router()
    master.register(in: &router)
    masterServer = Self.makeServer(router, masterAddress, cluster, group, logger)
    try network.listen(masterServer, as: identity(.master, "mcs-1"), at: masterAddress)
  }

  public func identity(_ role: Role, _ node: String) throws -> Identity {
    guard let identity = Identity(cluster: cluster, role: role, node: node) else {
      throw RPCError(.invalidArgument, "'\(node)' is no name")
    }
    return identity
  }

  /// A server of that node with whatever `register` adds, and a channel of a person at the command line to it.
  public func serve(
    _ role: Role, _ node: String, _ register: (inout Router) -> Void
  ) throws -> (server: Server, channel: Channel) {
    var router = Router()
    register(&router)
    let server = Self.makeServer(router, Address(host: node, port: 1), cluster, group, logger)
    try network.listen(server, as: identity(role, node), at: server.address)
    let channel = try channel(to: server.address, of: role, as: .operatorTool, "person")
    return (server, channel)
  }

  public func masterChannel(as role: Role, _ node: String) throws -> Channel {
    try channel(to: masterAddress, of: .master, as: role, node)
  }

  public func channel(
    to address: Address, of role: Role, as caller: Role, _ node: String
  ) throws -> Channel {
    network.channel(
      to: address, as: try identity(caller, node),
      expecting: PeerExpectation(cluster: cluster, role: role), group: group, logger: logger)
  }

  public func stop(_ servers: [Server]) async {
    for server in servers + [masterServer] { await server.shutdown(graceMilliseconds: 100) }
  }

  private static func makeServer(
    _ router: Router, _ address: Address, _ cluster: String, _ group: EventLoopGroup,
    _ logger: Logger
  ) -> Server {
    Server(
      inProcess: ServerConfiguration(address: address, cluster: cluster), router: router,
      group: group, logger: logger)
  }
}
