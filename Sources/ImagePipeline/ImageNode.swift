import Base
import Enrollment
import Logging
import RPC

/// What a daemon of an owner or user is told.
public struct ImageNodeSettings: Sendable {
  public var cluster: String
  public var role: Role
  public var node: String
  public var stateDirectory: String
  public var joinFile: String?
  public var keyControl: Address
  /// At least one.
  public var masters: [ServiceClient.Endpoint]
  public var modelPath: String
  public var revocationList: String?
  /// Of the channels to the master and the key control entity.
  public var limits: ConnectionLimits

  public init(
    cluster: String, role: Role, node: String, stateDirectory: String, joinFile: String?,
    keyControl: Address, masters: [ServiceClient.Endpoint], modelPath: String,
    revocationList: String? = nil,
    limits: ConnectionLimits = ConnectionLimits()
  ) {
    self.cluster = cluster
    self.role = role
    self.node = node
    self.stateDirectory = stateDirectory
    self.joinFile = joinFile
    self.keyControl = keyControl
    self.masters = masters
    self.modelPath = modelPath
    self.revocationList = revocationList
    self.limits = limits
  }
}

/// What the daemons of owners and users share: model, identity, keys, the way to the master, a server.
public final class ImageNode: Sendable {
  public let certificates: CertificateKeeper
  public let model: HashModel
  public let keys: KeySource
  public let master: ServiceClient
  /// Whichever master answers, for questions whose answers may be of some age.
  public let anyMaster: ServiceClient
  private let settings: ImageNodeSettings
  private let group: EventLoopGroup
  private let logger: Logger
  private let server = Locked<Server?>(nil)
  private let health = Locked<HealthService?>(nil)
  private let refreshing = Locked<Task<Void, Never>?>(nil)

  /// How soon a key that was made by a rotation is used, without any image asking for it. For as long
  /// a user may miss images that an owner masks under a version of K_IDX that the user lacks.
  private static let keyRefreshInterval = Duration.seconds(60)
  private static let keyFetchTimeout = Duration.seconds(10)
  private static let joinRetryInterval = Duration.seconds(1)

  /// Loads the model, gets identity and keys, and waits for the key control entity as long as it
  /// cannot be reached; ends with any other refusal, or when the task is cancelled.
  public init(
    _ settings: ImageNodeSettings, group: EventLoopGroup, logger: Logger
  ) async throws {
    self.settings = settings
    self.group = group
    self.logger = logger
    // Before a token is spent or anybody waits: a wrong path shows at once.
    model = try await offload { try HashModel(path: settings.modelPath) }
    let node = try await Self.enrolled(settings, group, logger)
    certificates = try CertificateKeeper(
      node, stateDirectory: settings.stateDirectory, keyControl: settings.keyControl,
      revocationList: settings.revocationList, group: group, logger: logger)
    let tls = try certificates.clientContext()
    let keyControl = Channel(
      address: settings.keyControl, tls: tls,
      expecting: PeerExpectation(cluster: settings.cluster, role: .keyControl), group: group,
      logger: logger, limits: settings.limits)
    logger.notice(
      "asking the key control entity for this node's keys",
      metadata: ["address": "\(settings.keyControl)"])
    let ring = try await KeyDelivery.fetchWhenReachable(
      channel: keyControl, identity: node.identity, logger: logger)
    keys = KeySource(ring) {
      try await KeyDelivery.fetch(
        channel: keyControl, identity: node.identity, timeout: Self.keyFetchTimeout)
    }
    master = .masters(
      settings.masters, tls: tls, cluster: settings.cluster, group: group, logger: logger,
      limits: settings.limits)
    anyMaster = .anyMaster(
      settings.masters, tls: tls, cluster: settings.cluster, group: group, logger: logger,
      limits: settings.limits)
  }

  public var identity: Identity { certificates.identity.identity }

  /// Reads the certificates again; see ``CertificateKeeper/reload()``.
  public func reload() throws { try certificates.reload() }

  /// Serves the methods that `register` adds, and keeps keys and certificate fresh from here on.
  public func serve(
    _ configuration: ServerConfiguration, _ register: (inout Router) -> Void
  ) throws {
    var router = Router()
    register(&router)
    let health = router.addHealthAndReflection()
    let server = Server(
      configuration: configuration, tls: try certificates.serverContext(), router: router,
      group: group, logger: logger)
    try server.start()
    self.server.withLock { $0 = server }
    self.health.withLock { $0 = health }
    certificates.start()
    health.setAll(.serving)
    let task = Task { [keys, logger] in
      while true {
        do {
          try await Task.sleep(for: Self.keyRefreshInterval)
        } catch {
          return
        }
        do {
          try await keys.refresh()
        } catch {
          logger.warning("the keys were not refreshed", metadata: ["reason": "\(error)"])
        }
      }
    }
    refreshing.withLock { $0 = task }
    let ring = keys.ring
    logger.notice(
      "serving",
      metadata: [
        "listen": "\(configuration.address.host):\(server.port)", "masters": "\(master.addresses)",
        "model": "\(model.version.prefix(12))", "code_bits": "\(model.codeBits)",
        "image_key": "\(ring.current(.image)?.version ?? 0)",
        "index_key": "\(ring.current(.index)?.version ?? 0)",
      ])
  }

  /// Lets running calls end, cuts what is left after the time given.
  public func shutdown(graceMilliseconds: UInt64) async {
    refreshing.withLock { $0 }?.cancel()
    certificates.stop()
    health.withLock { $0 }?.shutDown()
    let server = server.withLock { $0 }
    await server?.shutdown(graceMilliseconds: graceMilliseconds)
    master.close()
    anyMaster.close()
  }

  /// A node may be started before the key control entity is.
  private static func enrolled(
    _ settings: ImageNodeSettings, _ group: EventLoopGroup, _ logger: Logger
  ) async throws -> NodeIdentity {
    while true {
      do {
        return try await Enrollment.loadOrJoin(
          stateDirectory: settings.stateDirectory, joinFile: settings.joinFile,
          keyControl: settings.keyControl, cluster: settings.cluster, role: settings.role,
          node: settings.node, group: group, logger: logger)
      } catch {
        let cause = error.rpcError
        guard cause.code == .unavailable || cause.code == .deadlineExceeded else { throw error }
        logger.warning(
          "waiting for the key control entity: no certificate yet",
          metadata: ["address": "\(settings.keyControl)", "reason": "\(cause.message)"])
        try await Task.sleep(for: joinRetryInterval)
      }
    }
  }
}
