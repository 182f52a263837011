import ArgumentParser
import DaemonSupport
import Enrollment
import Logging
import RPC
import SegmentStore
import SlaveCloud

@main
struct SlaveCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sfmedir-scs",
    abstract: "A slave cloud server: keeps shadows, and knows nothing about them.",
    discussion: """
      Example:
        sfmedir-scs --config /etc/sfmedir/scs.toml

      Exit status: 0 ok, 64 usage, 69 unavailable, 70 internal error, 74 input or output,
      77 not permitted, 78 configuration.
      """,
    version: "0.1.0")

  @Option(name: .long, help: "The configuration file, TOML.")
  var config: String

  @Flag(name: .long, help: "Check the configuration and the revocation list, and exit.")
  var check = false

  func run() async throws {
    let settings: SlaveSettings
    do {
      settings = try SlaveSettings(path: config)
      if check {
        let common = settings.common
        try CertificateKeeper.checkRevocationList(
          common.revocationList, stateDirectory: common.stateDirectory, cluster: common.cluster,
          role: .slave, node: common.node)
      }
    } catch {
      LineLogHandler.writeToStandardError("sfmedir-scs: \(error)\n")
      throw ArgumentParser.ExitCode(DaemonSupport.ExitCode.of(error))
    }
    if check {
      print("\(config): ok")
      return
    }
    let status = await DaemonRunner.run(name: "sfmedir-scs", configuration: settings.common) {
      try await SlaveDaemon.start(settings, $0)
    }
    throw ArgumentParser.ExitCode(status)
  }
}

/// What an operator sets for a slave.
struct SlaveSettings: Sendable {
  var common: CommonConfiguration
  var keyControl: Address
  var dataDirectory: String
  var segments = SegmentStoreConfiguration()
  var care = CareConfiguration()

  init(path: String) throws(ConfigurationError) {
    let file = try ConfigurationFile(path: path)
    common = try CommonConfiguration(file)
    keyControl = try file.address("key_control")
    dataDirectory =
      try file.optionalAbsolutePath("data_directory") ?? common.stateDirectory + "/segments"
    segments.maximumSegmentSizeBytes = try file.integer(
      "segment_bytes", default: 256 << 20, in: 1 << 20...2 << 30)
    segments.maximumPayloadSizeBytes = try file.integer(
      "maximum_shadow_bytes", default: 256 << 20, in: 1 << 16...1 << 30)
    segments.preallocationBytes =
      try file.integer("preallocate_mib", default: 0, in: 0...2048) << 20
    segments.verifiesAtOpen = try file.boolean("verify_at_start", default: false)
    care.scrubBytesPerSecond =
      try file.integer("scrub_mib_per_second", default: 4, in: 0...10_000) << 20
    care.scrubInterval = .seconds(
      3600 * (try file.integer("scrub_every_hours", default: 168, in: 1...87_600)))
    care.reserveBytes =
      UInt64(try file.integer("reserve_free_mib", default: 512, in: 0...1 << 20)) << 20
    care.garbageFraction =
      Double(try file.integer("compact_garbage_percent", default: 50, in: 5...100)) / 100
    care.compactionBytesPerSecond =
      try file.integer("compact_mib_per_second", default: 32, in: 0...10_000) << 20
    try file.finish()
  }
}

/// The running slave.
final class SlaveDaemon: RunningDaemon {
  private let service: SlaveService
  private let server: Server
  private let health: HealthService
  private let certificates: CertificateKeeper

  static func start(
    _ settings: SlaveSettings, _ context: DaemonContext
  ) async throws -> SlaveDaemon {
    let common = settings.common
    let node = try await Enrollment.loadOrJoin(
      stateDirectory: common.stateDirectory, joinFile: common.joinFile,
      keyControl: settings.keyControl, cluster: common.cluster, role: .slave, node: common.node,
      group: context.group, logger: context.logger)
    let certificates = try CertificateKeeper(
      node, stateDirectory: common.stateDirectory, keyControl: settings.keyControl,
      revocationList: common.revocationList, group: context.group, logger: context.logger)
    // Every segment is read at the start: not on an event loop.
    let service = try await offload {
      try SlaveService(
        node: common.node, directory: settings.dataDirectory, configuration: settings.segments,
        care: settings.care, logger: context.logger)
    }
    var router = Router()
    service.register(on: &router)
    let health = router.addHealthAndReflection()
    let server = Server(
      configuration: common.serverConfiguration(logger: context.logger),
      tls: try certificates.serverContext(), router: router, group: context.group,
      logger: context.logger)
    try await offload { try server.start() }
    certificates.start()
    health.setAll(.serving)
    service.startCare()
    context.logger.notice(
      "serving", metadata: ["address": "\(common.listen)", "data": "\(settings.dataDirectory)"])
    return SlaveDaemon(
      service: service, server: server, health: health, certificates: certificates)
  }

  private init(
    service: SlaveService, server: Server, health: HealthService, certificates: CertificateKeeper
  ) {
    self.service = service
    self.server = server
    self.health = health
    self.certificates = certificates
  }

  /// Also opens a store anew that had become read-only: the operator has seen to the disk.
  func reload() async throws {
    await service.reopen()
    try certificates.reload()
  }

  func shutdown(graceMilliseconds: UInt64) async {
    certificates.stop()
    health.shutDown()
    await server.shutdown(graceMilliseconds: graceMilliseconds)
    await service.stop()
  }
}
