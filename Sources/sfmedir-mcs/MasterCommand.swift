import ArgumentParser
import DaemonSupport
import Enrollment
import Logging
import MasterCloud
import Messages
import RPC
import Shadows

@main
struct MasterCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sfmedir-mcs",
    abstract: "A master cloud server: places shadows, searches masked codes, rebuilds images.",
    discussion: """
      Example:
        sfmedir-mcs --config /etc/sfmedir/mcs.toml

      Exit status: 0 ok, 64 usage, 69 unavailable, 70 internal error, 74 input or output,
      77 not permitted, 78 configuration.
      """,
    version: "0.1.0")

  @Option(name: .long, help: "The configuration file, TOML.")
  var config: String

  @Flag(name: .long, help: "Check the configuration and the revocation list, and exit.")
  var check = false

  func run() async throws {
    let settings: MasterSettings
    do {
      settings = try MasterSettings(path: config)
      if check {
        let common = settings.common
        try CertificateKeeper.checkRevocationList(
          common.revocationList, stateDirectory: common.stateDirectory, cluster: common.cluster,
          role: .master, node: common.node)
      }
    } catch {
      LineLogHandler.writeToStandardError("sfmedir-mcs: \(error)\n")
      throw ArgumentParser.ExitCode(DaemonSupport.ExitCode.of(error))
    }
    if check {
      print("\(config): ok")
      return
    }
    let status = await DaemonRunner.run(name: "sfmedir-mcs", configuration: settings.common) {
      try await MasterDaemon.start(settings, $0)
    }
    throw ArgumentParser.ExitCode(status)
  }
}

/// What an operator sets for a master.
struct MasterSettings: Sendable {
  var common: CommonConfiguration
  var keyControl: Address
  var master: MasterConfiguration

  init(path: String) throws(ConfigurationError) {
    let file = try ConfigurationFile(path: path)
    common = try CommonConfiguration(file)
    keyControl = try file.address("key_control")
    var slaves: [SlaveAddress] = []
    for table in try file.tables("slaves") {
      let slave = SlaveAddress(
        node: try table.name("node"), address: try table.address("address"),
        location: try Self.location(table))
      guard !slaves.contains(where: { $0.node == slave.node }) else {
        throw file.invalid("slaves", "node '\(slave.node)' stands there twice")
      }
      slaves.append(slave)
    }
    master = MasterConfiguration(slaves: slaves)
    master.minimumTolerance = try file.integer("minimum_tolerance", default: 1, in: 1...250)
    master.maximumThreshold = try file.integer(
      "maximum_threshold", default: BaiScheme.maximumThreshold, in: 2...BaiScheme.maximumThreshold)
    let scheme = try file.string("shadow_scheme", default: master.shadowScheme)
    guard ShadowSchemes.names.contains(scheme) else {
      throw file.invalid(
        "shadow_scheme", "'\(scheme)' is none of \(ShadowSchemes.names.joined(separator: ", "))")
    }
    master.shadowScheme = scheme
    master.spareSlaves = try file.integer("spare_slaves", default: 1, in: 0...250)
    master.surviveLossOf = try file.choice("survive_loss_of", default: master.surviveLossOf)
    master.care = try Self.care(file)
    master.hedgeAfter = .milliseconds(
      try file.integer("hedge_after_milliseconds", default: 100, in: 1...60_000))
    master.maximumImageBytes = try file.integer(
      // At r = 2 a shadow is 9/16 of its image, and has to fit a slave's default limit.
      "maximum_image_bytes", default: 256 << 20, in: 1 << 16...448 << 20)
    master.fixedSharing = try Self.fixedSharing(file, slaves: slaves.count)
    try file.finish()
  }

  /// What is not named is a domain of its own.
  private static func location(
    _ table: ConfigurationTable
  ) throws(ConfigurationError) -> SlaveLocation {
    let node = try table.name("node")
    let host = try table.optionalName("host")
    return SlaveLocation(
      host: host ?? node, rack: try table.optionalName("rack"),
      zone: try table.optionalName("zone"))
  }

  private static func care(
    _ file: ConfigurationFile
  ) throws(ConfigurationError) -> CareConfiguration {
    var care = CareConfiguration()
    care.isOn = try file.boolean("care", default: true)
    care.repairAfter = .seconds(
      try file.integer("repair_after_seconds", default: 600, in: 1...30 * 86400))
    care.bytesPerSecond = try file.integer("repair_mib_per_second", default: 64, in: 0...4096) << 20
    care.parallel = try file.integer("repair_parallel", default: care.parallel, in: 1...64)
    care.shareWhenBusy =
      Double(try file.integer("repair_share_when_busy_percent", default: 25, in: 1...100)) / 100
    care.auditInterval = .seconds(
      try file.integer("audit_every_hours", default: 24, in: 1...24 * 365) * 3600)
    care.balanceThreshold =
      Double(try file.integer("rebalance_threshold_percent", default: 10, in: 0...100)) / 100
    return care
  }

  private static func fixedSharing(
    _ file: ConfigurationFile, slaves: Int
  ) throws(ConfigurationError) -> Sharing? {
    let threshold = try file.integer(
      "fixed_threshold", default: 0, in: 0...BaiScheme.maximumThreshold)
    let shadows = try file.integer("fixed_shadows", default: 0, in: 0...255)
    if threshold == 0 && shadows == 0 { return nil }
    guard threshold >= 2, shadows > threshold, shadows <= slaves else {
      throw file.invalid(
        "fixed_shadows",
        "(r, s) = (\(threshold), \(shadows)) needs 2 <= r < s <= \(slaves) slaves")
    }
    return Sharing(threshold: threshold, shadowCount: shadows)
  }
}

/// The running master.
final class MasterDaemon: RunningDaemon {
  private let service: MasterService
  private let server: Server
  private let health: HealthService
  private let certificates: CertificateKeeper

  static func start(
    _ settings: MasterSettings, _ context: DaemonContext
  ) async throws -> MasterDaemon {
    let common = settings.common
    let node = try await Enrollment.loadOrJoin(
      stateDirectory: common.stateDirectory, joinFile: common.joinFile,
      keyControl: settings.keyControl, cluster: common.cluster, role: .master, node: common.node,
      group: context.group, logger: context.logger)
    let certificates = try CertificateKeeper(
      node, stateDirectory: common.stateDirectory, keyControl: settings.keyControl,
      revocationList: common.revocationList, group: context.group, logger: context.logger)
    let tls = try certificates.clientContext()
    let keyControl = Channel(
      address: settings.keyControl, tls: tls,
      expecting: PeerExpectation(cluster: common.cluster, role: .keyControl),
      group: context.group, logger: context.logger, limits: common.rpc.limits)
    let keys = try await KeyDelivery.fetchWhenReachable(
      channel: keyControl, identity: node.identity, logger: context.logger)
    keyControl.close()
    let service = try await MasterService(
      node: common.node, cluster: common.cluster, directory: common.stateDirectory,
      configuration: settings.master, keys: keys,
      dialer: Dialer(
        tls: tls, group: context.group, logger: context.logger, limits: common.rpc.limits),
      logger: context.logger)
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
    context.logger.notice(
      "serving",
      metadata: ["address": "\(common.listen)", "slaves": "\(settings.master.slaves.count)"])
    return MasterDaemon(
      service: service, server: server, health: health, certificates: certificates)
  }

  private init(
    service: MasterService, server: Server, health: HealthService,
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
