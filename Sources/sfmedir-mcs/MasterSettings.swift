import Base
import DaemonSupport
import MasterCloud
import RPC
import Raft
import Shadows

/// What an operator sets for a master.
struct MasterSettings: Sendable {
  var common: CommonConfiguration
  var keyControl: Address
  var master: MasterConfiguration
  var isWitness: Bool

  init(path: String, isWitness: Bool) throws(ConfigurationError) {
    self.isWitness = isWitness
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
    master.members = try Self.members(file, node: common.node, isWitness: isWitness)
    master.consensus = try Self.consensus(file)
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

  /// The masters and the witness; none where this master is alone.
  private static func members(
    _ file: ConfigurationFile, node: String, isWitness: Bool
  ) throws(ConfigurationError) -> [Member] {
    var members: [Member] = []
    for (key, role) in [("masters", Member.Role.data), ("witness", .witness)] {
      for table in try file.tables(key) {
        let id = NodeID(try table.name("node"))
        guard !members.contains(where: { $0.id == id }) else {
          throw file.invalid(key, "node '\(id)' stands there twice")
        }
        members.append(
          Member(id: id, role: role, address: "\(try table.address("address"))"))
      }
    }
    if members.isEmpty && !isWitness { return [] }
    let (masters, witnesses) = (
      members.count { $0.role == .data }, members.count { $0.role == .witness }
    )
    guard witnesses <= 1, masters >= 1, (masters + witnesses) % 2 == 1 else {
      throw file.invalid(
        "masters",
        "\(masters) masters and \(witnesses) witnesses: there have to be two masters and a witness, or an odd number of masters"
      )
    }
    let role = members.first { $0.id.name == node }?.role
    switch (role, isWitness) {
    case (.data, false), (.witness, true): return members
    case (.witness, false):
      throw file.invalid("witness", "this node is the witness: start it with --witness")
    default:
      throw file.invalid(
        isWitness ? "witness" : "masters", "node '\(node)', which this is, does not stand there")
    }
  }

  private static func consensus(
    _ file: ConfigurationFile
  ) throws(ConfigurationError) -> RaftConfiguration {
    var consensus = RaftConfiguration()
    consensus.maximumAppendBytes = 256 << 10
    consensus.seed = UInt64.random(in: .min ... .max)
    let election = try file.integer("election_milliseconds", default: 200, in: 50...60_000)
    consensus.electionTicks = UInt64(election)
    consensus.electionSpreadTicks = UInt64(election / 2)
    consensus.heartbeatTicks = UInt64(
      try file.integer("heartbeat_milliseconds", default: election / 5, in: 5...election / 2))
    consensus.readsUseLease = try file.boolean("lease_reads", default: true)
    consensus.maximumWitnessLogBytes =
      UInt64(try file.integer("witness_log_mib", default: 256, in: 1...65_536)) << 20
    return consensus
  }

  /// Makes the node's log.
  func initialize(joins: Bool) async throws {
    guard !master.members.isEmpty else {
      throw ConfigurationError.invalid(
        path: common.stateDirectory, key: "masters", line: nil,
        reason: "a master that is alone makes its log by itself")
    }
    _ = try SystemDisk().createDirectory(common.stateDirectory)
    // A state without its log is what a lost disk leaves: what the node promised is gone with the log.
    if (try? SystemDisk().open("\(common.stateDirectory)/state.sqlite", mode: .readOnly)) != nil {
      throw ConfigurationError.invalid(
        path: common.stateDirectory, key: "state_directory", line: nil,
        reason:
          "holds the state of a master already: a node is made once, and one that has lost its log is replaced"
      )
    }
    try await ConsensusFolder.create(
      in: common.stateDirectory, cluster: common.cluster, node: common.node,
      members: joins ? [] : master.members)
  }

  /// The way to the other voters: behind a cut that has healed, an old connection may stay silent for long.
  func peers(_ tls: TLSContext, _ context: DaemonContext) -> Dialer {
    var limits = common.rpc.limits
    let election = master.consensus.electionTicks
    limits.keepaliveMilliseconds = max(500, 2 * election)
    limits.keepaliveTimeoutMilliseconds = max(500, 2 * election)
    limits.handshakeMilliseconds = max(2000, 5 * election)
    limits.maximumReconnectMilliseconds = max(200, election)
    return Dialer(tls: tls, group: context.group, logger: context.logger, limits: limits)
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
