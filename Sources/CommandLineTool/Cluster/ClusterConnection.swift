import Base
import Enrollment
import Logging
import RPC

/// The command line's way to the daemons: an operator's identity and one channel to each daemon.
public final class ClusterConnection: Sendable {
  public let configuration: ClientConfiguration
  /// End of this operator's certificate.
  public let certificateExpiresMilliseconds: UInt64
  private let group: EventLoopGroup
  private let tls: TLSContext
  private let logger: Logger
  private let interceptors: [any ClientInterceptor]
  private struct Key: Hashable {
    let address: Address
    let node: String?
  }
  private let channels = Locked<[Key: Channel]>([:])
  private let masterClient = Locked<ServiceClient?>(nil)

  private init(
    configuration: ClientConfiguration, identity: NodeIdentity, tls: TLSContext,
    group: EventLoopGroup, logger: Logger, interceptors: [any ClientInterceptor]
  ) {
    self.configuration = configuration
    certificateExpiresMilliseconds = identity.expiresAtMilliseconds
    self.tls = tls
    self.group = group
    self.logger = logger
    self.interceptors = interceptors
  }

  deinit { close() }

  /// Loads the operator's identity, or joins the cluster with the token of `join_file`.
  ///
  /// - Parameter interceptors: see every call to a daemon, but not the joining.
  public static func open(
    _ configuration: ClientConfiguration, logger: Logger,
    interceptors: [any ClientInterceptor] = []
  ) async throws -> ClusterConnection {
    let group = EventLoopGroup(count: 1)
    do {
      let identity = try await Enrollment.loadOrJoin(
        stateDirectory: configuration.stateDirectory, joinFile: configuration.joinFile,
        keyControl: configuration.keyControl, cluster: configuration.cluster,
        role: .operatorTool, node: configuration.node, group: group, logger: logger)
      let tls = try TLSContext.client(identity.credentials)
      return ClusterConnection(
        configuration: configuration, identity: identity, tls: tls, group: group, logger: logger,
        interceptors: interceptors)
    } catch let error as TLSError {
      throw CommandFailure(.notPermitted, "\(error)", advice: joiningAdvice)
    } catch let error as EnrollmentError {
      var failure = CommandFailure(error.rpcError, during: "the operator's identity")
      if error.rpcError.code != .unavailable {
        failure.status = .notPermitted
        failure.advice = joiningAdvice
      }
      throw failure
    }
  }

  private static let joiningAdvice =
    "an operator joins with a token: 'sfmedir-kce token --role operator --node NAME --out FILE', "
    + "named as join_file in cli.toml"

  /// Where the connections' answers come in: a task that does little but call runs best there.
  var executor: any TaskExecutor { group.nextLoop() }

  public func imageOwner() throws -> Channel {
    try channel(configuration.imageOwner, "image_owner", .imageOwner)
  }

  public func imageUser() throws -> Channel {
    try channel(configuration.imageUser, "image_user", .imageUser)
  }

  /// Calls go to the master that leads.
  public func master() throws -> ServiceClient {
    guard !configuration.masters.isEmpty else {
      throw CommandFailure(
        .configuration, "\(configuration.path) does not say where the masters are",
        advice: "add [[masters]] with node = \"NAME\" and address = \"host:port\" for each")
    }
    return masterClient.withLock { client in
      if let client { return client }
      let made = ServiceClient.masters(
        configuration.masters, tls: tls, cluster: configuration.cluster, group: group,
        logger: logger, interceptors: interceptors)
      client = made
      return made
    }
  }

  public func keyControl() -> Channel { channel(to: configuration.keyControl, role: .keyControl) }

  private func channel(_ address: Address?, _ key: String, _ role: Role) throws -> Channel {
    guard let address else {
      throw CommandFailure(
        .configuration, "\(configuration.path) does not say \(key)",
        advice: "add \(key) = \"host:port\"")
    }
    return channel(to: address, role: role)
  }

  /// Any daemon, for instance a slave of a cluster on this machine.
  ///
  /// - Parameter node: whom its certificate has to name; nil for any node of the role.
  public func channel(to address: Address, role: Role, node: String? = nil) -> Channel {
    let key = Key(address: address, node: node)
    return channels.withLock { channels in
      if let channel = channels[key] { return channel }
      let channel = Channel(
        address: address, tls: tls,
        expecting: PeerExpectation(cluster: configuration.cluster, role: role, node: node),
        group: group, logger: logger, interceptors: interceptors)
      channels[key] = channel
      return channel
    }
  }

  public func close() {
    let open = channels.withLock { channels in
      defer { channels = [:] }
      return channels.values
    }
    for channel in open { channel.close() }
    masterClient.withLock { $0.take() }?.close()
  }
}
