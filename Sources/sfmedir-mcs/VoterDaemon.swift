import DaemonSupport
import Enrollment
import MasterCloud
import RPC

/// The running master or witness.
final class VoterDaemon: RunningDaemon {
  private let service: any VoterService
  private let server: Server
  private let health: HealthService
  private let certificates: CertificateKeeper

  static func start(_ settings: MasterSettings, _ context: DaemonContext) async throws
    -> VoterDaemon
  {
    let common = settings.common
    let node = try await Enrollment.loadOrJoin(
      stateDirectory: common.stateDirectory, joinFile: common.joinFile,
      keyControl: settings.keyControl, cluster: common.cluster,
      role: settings.isWitness ? .witness : .master, node: common.node, group: context.group,
      logger: context.logger)
    let certificates = try CertificateKeeper(
      node, stateDirectory: common.stateDirectory, keyControl: settings.keyControl,
      revocationList: common.revocationList, group: context.group, logger: context.logger)
    let tls = try certificates.clientContext()
    let service =
      settings.isWitness
      ? try await witness(settings, tls, context)
      : try await master(settings, node.identity, tls, context)
    var router = Router()
    service.register(on: &router)
    let health = router.addHealthAndReflection()
    let server = Server(
      configuration: common.serverConfiguration(logger: context.logger),
      tls: try certificates.serverContext(), router: router, group: context.group,
      logger: context.logger)
    await service.start()
    try await offload { try server.start() }
    certificates.start()
    health.setAll(.serving)
    context.logger.notice("serving", metadata: ["address": "\(common.listen)"])
    return VoterDaemon(
      service: service, server: server, health: health, certificates: certificates)
  }

  private static func master(
    _ settings: MasterSettings, _ identity: Identity, _ tls: TLSContext, _ context: DaemonContext
  ) async throws -> any VoterService {
    let common = settings.common
    let keyControl = Channel(
      address: settings.keyControl, tls: tls,
      expecting: PeerExpectation(cluster: common.cluster, role: .keyControl),
      group: context.group, logger: context.logger, limits: common.rpc.limits)
    let keys = try await KeyDelivery.fetchWhenReachable(
      channel: keyControl, identity: identity, logger: context.logger)
    keyControl.close()
    context.logger.notice("slaves", metadata: ["count": "\(settings.master.slaves.count)"])
    return try await MasterService(
      node: common.node, cluster: common.cluster, directory: common.stateDirectory,
      configuration: settings.master, keys: keys,
      dialer: Dialer(
        tls: tls, group: context.group, logger: context.logger, limits: common.rpc.limits),
      peers: settings.peers(tls, context), logger: context.logger,
      onHalt: { context.fail(halted($0)) })
  }

  private static func witness(
    _ settings: MasterSettings, _ tls: TLSContext, _ context: DaemonContext
  ) async throws -> any VoterService {
    let common = settings.common
    return try await WitnessService(
      node: common.node, cluster: common.cluster, directory: common.stateDirectory,
      members: settings.master.members, configuration: settings.master.consensus,
      peers: settings.peers(tls, context), logger: context.logger,
      onHalt: { context.fail(halted($0)) })
  }

  private static func halted(_ reason: String) -> RPCError {
    RPCError(.dataLoss, reason, reason: "Halted")
  }

  private init(
    service: any VoterService, server: Server, health: HealthService,
    certificates: CertificateKeeper
  ) {
    self.service = service
    self.server = server
    self.health = health
    self.certificates = certificates
  }

  func reload() async throws { try certificates.reload() }

  func shutdown(graceMilliseconds: UInt64) async {
    certificates.stop()
    health.shutDown()
    await service.handOver()
    await server.shutdown(graceMilliseconds: graceMilliseconds)
    await service.stop()
  }
}
