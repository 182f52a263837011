import DaemonSupport
import ImageOwner
import ImagePipeline
import RPC

/// The configuration file of sfmedir-mo.
struct ImageOwnerSettings: Sendable {
  var common: CommonConfiguration
  var node: ImageNodeSettings
  var limits = ImageOwnerLimits()

  init(path: String) throws {
    let file = try ConfigurationFile(path: path)
    common = try CommonConfiguration(file)
    guard let keyControl = common.keyControl else {
      preconditionFailure("CommonConfiguration read no key_control from \(path)")
    }
    let masters = try file.masters()
    guard !masters.isEmpty else {
      throw file.invalid("masters", "there is none: add [[masters]] with node and address")
    }
    node = ImageNodeSettings(
      cluster: common.cluster, role: .imageOwner, node: common.node,
      stateDirectory: common.stateDirectory, joinFile: common.joinFile, keyControl: keyControl,
      masters: masters, modelPath: try file.absolutePath("model"),
      revocationList: common.revocationList, limits: common.rpc.limits)
    limits.maximumImageBytes = try file.integer(
      "maximum_image_bytes", default: limits.maximumImageBytes, in: 1...(448 << 20))
    limits.workers = try file.integer("workers", default: limits.workers, in: 1...1024)
    try file.finish()
  }
}

/// The running daemon.
struct ImageOwnerDaemon: RunningDaemon {
  private let node: ImageNode

  init(_ settings: ImageOwnerSettings, _ context: DaemonContext) async throws {
    node = try await ImageNode(settings.node, group: context.group, logger: context.logger)
    let service = ImageOwner(
      identity: node.identity,
      certificateExpiresAtMilliseconds: { [certificates = node.certificates] in
        certificates.identity.expiresAtMilliseconds
      }, model: node.model,
      keys: node.keys, master: node.master, anyMaster: node.anyMaster, limits: settings.limits,
      logger: context.logger)
    try node.serve(settings.common.serverConfiguration(logger: context.logger)) {
      service.register(in: &$0)
    }
  }

  func reload() async throws { try node.reload() }

  func shutdown(graceMilliseconds: UInt64) async {
    await node.shutdown(graceMilliseconds: graceMilliseconds)
  }
}
