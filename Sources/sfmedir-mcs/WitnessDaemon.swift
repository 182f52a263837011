import DaemonSupport
import Enrollment
import MasterCloud
import RPC

/// The running witness.
final class WitnessDaemon: RunningDaemon {
  private let service: WitnessService
  private let server: Server
  private let health: HealthService
  private let certificates: CertificateKeeper

  static func start(
    _ settings: MasterSettings, _ context: DaemonContext
  ) async throws -> WitnessDaemon {
    let common = settings.common
    let node = try await Enrollment.loadOrJoin(
      stateDirectory: common.stateDirectory, joinFile: common.joinFile,
      keyControl: settings.keyControl, cluster: common.cluster, role: .witness, node: common.node,
      group: context.group, logger: context.logger)
    let certificates = try CertificateKeeper(
      node, stateDirectory: common.stateDirectory, keyControl: settings.keyControl,
      revocationList: common.revocationList, group: context.group, logger: context.logger)
    let service = try await WitnessService(
      node: common.node, cluster: common.cluster, directory: common.stateDirectory,
      members: settings.master.members, configuration: settings.master.consensus,
      peers: settings.peers(try certificates.clientContext(), context), logger: context.logger,
      onHalt: { context.fail(RPCError(.dataLoss, $0, reason: "Halted")) })
    var router = Router()
    service.register(on: &router)
    let health = router.addHealthAndReflection()
    let server = Server(
      configuration: common.serverConfiguration(logger: context.logger),
      tls: try certificates.serverContext(), router: router, group: context.group,
      logger: context.logger)
    service.start()
    try await offload { try server.start() }
    certificates.start()
    health.setAll(.serving)
    context.logger.notice("serving", metadata: ["address": "\(common.listen)"])
    return WitnessDaemon(
      service: service, server: server, health: health, certificates: certificates)
  }

  private init(
    service: WitnessService, server: Server, health: HealthService,
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
    await server.shutdown(graceMilliseconds: graceMilliseconds)
    await service.stop()
  }
}
