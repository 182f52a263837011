import Base
import Messages
import RPC

/// What the daemons said when asked how they are.
struct ClusterReport: Sendable {
  struct Daemon: Sendable {
    let role: Role
    let address: String
    var node = ""
    var status: NodeStatusReply?
    /// Of masters and the witness.
    var consensus: ConsensusStatusReply?
    /// Empty where all is well.
    var problem = ""
    var isReachable = true

    var leads: Bool { consensus.map { !$0.node.isEmpty && $0.leader == $0.node } ?? false }

    var state: String { !isReachable ? "unreachable" : problem.isEmpty ? "ok" : "problem" }
  }

  var cluster: String
  var operatorExpiresMilliseconds: UInt64
  var daemons: [Daemon] = []
  var state: ClusterStatusReply?

  var isHealthy: Bool {
    daemons.allSatisfy { $0.state == "ok" } && state != nil
      && state!.slaves.allSatisfy(Self.isWell) && (state!.care ?? CareStatus()).lostImages == 0
  }

  static func gather(_ cluster: ClusterConnection, timeout: Duration) async -> ClusterReport {
    async let keyControl = keyControl(cluster, timeout)
    async let masters = masters(cluster, timeout)
    async let state = state(cluster, timeout)
    async let owner = node(
      cluster.configuration.imageOwner, .imageOwner, ImageOwnerMethods.ownerStatus, cluster, timeout
    )
    async let user = node(
      cluster.configuration.imageUser, .imageUser, ImageUserMethods.userStatus, cluster, timeout)
    var report = ClusterReport(
      cluster: cluster.configuration.cluster,
      operatorExpiresMilliseconds: cluster.certificateExpiresMilliseconds)
    report.daemons.append(await keyControl)
    report.daemons += await masters
    report.state = await state
    report.daemons += [await owner, await user].compactMap { $0 }
    return report
  }

  private static func keyControl(
    _ cluster: ClusterConnection, _ timeout: Duration
  ) async -> Daemon {
    var daemon = Daemon(role: .keyControl, address: "\(cluster.configuration.keyControl)")
    do {
      _ = try await cluster.keyControl().unary(
        KeyControlMethods.listKeys, Empty(), CallOptions(timeout: timeout))
    } catch {
      daemon.isReachable = false
      daemon.problem = error.message
    }
    return daemon
  }

  private static func state(
    _ cluster: ClusterConnection, _ timeout: Duration
  ) async -> ClusterStatusReply? {
    try? await cluster.master().unary(
      MasterCloudMethods.clusterStatus, Empty(), CallOptions(timeout: timeout))
  }

  /// The masters that the configuration names, and the witness that they name.
  private static func masters(_ cluster: ClusterConnection, _ timeout: Duration) async -> [Daemon] {
    let targets = cluster.configuration.masters.map { endpoint in
      (endpoint.address, cluster.channel(to: endpoint.address, role: .master, node: endpoint.node))
    }
    var voters: [(Daemon, ConsensusStatusReply?)] = []
    await withTaskGroup(of: (Int, Daemon, ConsensusStatusReply?).self) { group in
      for (number, target) in targets.enumerated() {
        group.addTask {
          let (daemon, status) = await voter(.master, target.0, target.1, timeout)
          return (number, daemon, status)
        }
      }
      var answers: [(Int, Daemon, ConsensusStatusReply?)] = []
      for await answer in group { answers.append(answer) }
      voters = answers.sorted { $0.0 < $1.0 }.map { ($0.1, $0.2) }
    }
    var daemons = voters.map(\.0)
    for index in daemons.indices where daemons[index].node.isEmpty {
      daemons[index].node = cluster.configuration.masters[index].node ?? ""
    }
    let members = voters.compactMap(\.1).max { $0.commitIndex < $1.commitIndex }?.members ?? []
    for member in members where member.witness && !member.leaving {
      guard let address = Address(member.address) else { continue }
      let channel = cluster.channel(to: address, role: .witness, node: member.node)
      var (daemon, _) = await voter(.witness, address, channel, timeout)
      daemon.node = member.node
      daemons.append(daemon)
    }
    return daemons
  }

  private static func voter(
    _ role: Role, _ address: Address, _ channel: Channel, _ timeout: Duration
  ) async -> (Daemon, ConsensusStatusReply?) {
    var daemon = Daemon(role: role, address: "\(address)")
    do {
      let status = try await channel.unary(
        ConsensusMethods.consensusStatus, Empty(), CallOptions(timeout: timeout))
      daemon.node = status.node
      daemon.consensus = status
      daemon.problem =
        !status.halted.isEmpty
        ? status.halted
        : !status.alarm.isEmpty ? status.alarm : status.leader.isEmpty ? "no master leads" : ""
      return (daemon, status)
    } catch {
      daemon.isReachable = false
      daemon.problem = error.message
      return (daemon, nil)
    }
  }

  private static func node(
    _ address: Address?, _ role: Role, _ method: Method<Empty, NodeStatusReply>,
    _ cluster: ClusterConnection, _ timeout: Duration
  ) async -> Daemon? {
    guard let address else { return nil }
    var daemon = Daemon(role: role, address: "\(address)")
    do {
      let status = try await cluster.channel(to: address, role: role).unary(
        method, Empty(), CallOptions(timeout: timeout))
      daemon.node = status.node
      daemon.status = status
      daemon.problem = status.problem
    } catch {
      daemon.isReachable = false
      daemon.problem = error.message
    }
    return daemon
  }

  static func state(of slave: SlaveHealth) -> String {
    if slave.condition == .lost { return "lost" }
    if !slave.reachable { return slave.givenUp ? "given up" : "unreachable" }
    if slave.condition == .draining { return slave.placedShadows > 0 ? "draining" : "drained" }
    if slave.readOnly { return "read-only" }
    if slave.distrusted { return "distrusted" }
    if slave.badShadows > 0 { return "bad shadows" }
    return slave.freeBytes <= slave.reserveBytes ? "full" : "ok"
  }

  /// What is as an operator wants it: also one that is drained, or lost with nothing left to rebuild.
  private static func isWell(_ slave: SlaveHealth) -> Bool {
    switch state(of: slave) {
    case "ok", "draining", "drained": true
    case "lost": slave.placedShadows == 0
    default: false
    }
  }

  // MARK: printing

  func print(to output: Output) {
    emit(to: output)
    output.print(daemonTable)
    if let state {
      output.print()
      output.print(Self.slaveTable(state.slaves))
      output.print()
      output.print(Self.summary(of: state))
      printCare(state, to: output)
    }
    output.print(
      "operator certificate until \(Units.time(milliseconds: operatorExpiresMilliseconds))")
    for daemon in daemons where !daemon.problem.isEmpty {
      output.print(
        output.styled("\(daemon.role) \(daemon.address): \(printable(daemon.problem))", .red))
    }
  }

  private var daemonTable: Table {
    var table = Table([
      .init("role"), .init("node"), .init("address"), .init("state"), .init("model"),
      .init("image key", .right), .init("index key", .right), .init("certificate until"),
    ])
    for daemon in daemons {
      let status = daemon.status
      table.add([
        daemon.role.rawValue, daemon.node.isEmpty ? "-" : daemon.node, daemon.address,
        daemon.state + (daemon.leads ? ", leads" : ""),
        status.map { String($0.modelVersion.prefix(12)) } ?? "-",
        status.map { "v\($0.imageKeyVersion)" } ?? "-",
        status.map { "v\($0.indexKeyVersion)" } ?? "-",
        Units.time(milliseconds: status?.certificateExpiresMilliseconds ?? 0),
      ])
    }
    return table
  }

  private static func slaveTable(_ slaves: [SlaveHealth]) -> Table {
    var table = Table([
      .init("slave"), .init("address"), .init("state"), .init("shadows", .right),
      .init("stored", .right), .init("free", .right), .init("last full scrub"), .init("remark"),
    ])
    for slave in slaves {
      table.add([
        slave.node, slave.address, state(of: slave), "\(slave.shadows)",
        Units.bytes(slave.storedBytes), Units.bytes(slave.freeBytes),
        Units.time(milliseconds: slave.lastFullScrubMilliseconds),
        shortened(slave.message, to: 50),
      ])
    }
    return table
  }

  private func printCare(_ state: ClusterStatusReply, to output: Output) {
    let care = state.care ?? CareStatus()
    if care.off {
      output.print(output.styled("repair is turned off in the master's configuration", .yellow))
    } else if care.pendingShadows > 0 {
      let what = care.balancingShadows == care.pendingShadows ? "balancing" : "repair"
      output.print("\(what): \(CareLine.text(of: care))")
      if care.pendingImages > care.lostImages, care.fewestLossesSurvived == 0 {
        output.print(output.styled("some images survive no further loss", .yellow))
      }
    } else if care.waitingShadows > 0 {
      output.print(
        "repair: \(Units.count(Int(clamping: care.waitingShadows), "shadow")) wait for a slave without a shadow of"
          + " their image; 'sfmedir endangered' lists them")
    } else if care.doneShadows > 0 {
      output.print(
        "repair: done, \(Units.count(Int(clamping: care.doneShadows), "shadow"))"
          + " (\(Units.bytes(care.doneBytes))) made anew or moved")
    }
    if !care.lastProblem.isEmpty, care.pendingShadows > 0 || care.failedAttempts > 0 {
      output.print("last failed attempt: \(printable(care.lastProblem))")
    }
    if care.lostImages > 0 {
      output.print(
        output.styled(
          "\(Units.count(Int(clamping: care.lostImages), "image")) cannot be rebuilt now:"
            + " 'sfmedir endangered --lost' lists them", .red))
    }
  }

  private static func summary(of state: ClusterStatusReply) -> String {
    // Slaves say so themselves, and may say anything.
    let stored = state.slaves.reduce(UInt64(0)) {
      let (sum, overflow) = $0.addingReportingOverflow($1.storedBytes)
      return overflow ? .max : sum
    }
    var text = "\(Units.count(Int(clamping: state.images), "image"))"
    text += ", \(Units.bytes(state.imageBytes)) encrypted, \(Units.bytes(stored)) on the slaves"
    if state.pendingUploads > 0 { text += ", \(state.pendingUploads) uploads under way" }
    if state.pendingDeletions > 0 { text += ", \(state.pendingDeletions) shadows to be swept" }
    return text
  }

  private func emit(to output: Output) {
    for daemon in daemons { output.emit(Self.line(of: daemon)) }
    for slave in state?.slaves ?? [] { output.emit(Self.line(of: slave)) }
    var line: JSONObject = ["type": "cluster", "cluster": .string(cluster)]
    if let state {
      line["images"] = JSONValue(state.images)
      line["image_bytes"] = JSONValue(state.imageBytes)
      line["shadows"] = JSONValue(state.shadows)
      line["pending_uploads"] = JSONValue(state.pendingUploads)
      line["pending_deletions"] = JSONValue(state.pendingDeletions)
      line["applied_index"] = JSONValue(state.appliedIndex)
    }
    if let care = state?.care { line["care"] = .object(Self.line(of: care)) }
    line["operator_certificate_expires_milliseconds"] = JSONValue(operatorExpiresMilliseconds)
    line["healthy"] = .bool(isHealthy)
    output.emit(line)
  }

  static func line(of daemon: Daemon) -> JSONObject {
    var line: JSONObject = [
      "type": "daemon", "role": .string(daemon.role.rawValue), "address": .string(daemon.address),
      "state": .string(daemon.state), "node": .string(daemon.node),
    ]
    if let status = daemon.status {
      line["master"] = .string(status.master)
      line["model_version"] = .string(status.modelVersion)
      line["image_key_version"] = JSONValue(status.imageKeyVersion)
      line["index_key_version"] = JSONValue(status.indexKeyVersion)
      line["certificate_expires_milliseconds"] = JSONValue(status.certificateExpiresMilliseconds)
    }
    if let consensus = daemon.consensus {
      line["leads"] = .bool(daemon.leads)
      line["leader"] = .string(consensus.leader)
      line["term"] = JSONValue(consensus.term)
      line["commit_index"] = JSONValue(consensus.commitIndex)
      line["applied_index"] = JSONValue(consensus.appliedIndex)
      line["log_bytes"] = JSONValue(consensus.logBytes)
    }
    line["problem"] = .string(daemon.problem)
    return line
  }

  static func line(of slave: SlaveHealth) -> JSONObject {
    [
      "type": "slave", "node": .string(slave.node), "address": .string(slave.address),
      "reachable": .bool(slave.reachable), "shadows": JSONValue(slave.shadows),
      "stored_bytes": JSONValue(slave.storedBytes), "free_bytes": JSONValue(slave.freeBytes),
      "read_only": .bool(slave.readOnly), "corrupt_shadows": JSONValue(slave.corruptShadows),
      "last_seen_milliseconds": JSONValue(slave.lastSeenMilliseconds),
      "message": .string(slave.message), "state": .string(state(of: slave)),
      "condition": .string(SlaveText.name(of: slave.condition)),
      "replacement": .string(slave.replacement), "given_up": .bool(slave.givenUp),
      "host": .string(slave.host), "rack": .string(slave.rack), "zone": .string(slave.zone),
      "reserve_bytes": JSONValue(slave.reserveBytes), "bad_shadows": JSONValue(slave.badShadows),
      "placed_shadows": JSONValue(slave.placedShadows),
      "garbage_shadows": JSONValue(slave.garbageShadows), "distrusted": .bool(slave.distrusted),
      "last_audit_milliseconds": JSONValue(slave.lastAuditMilliseconds),
      "unknown_shadows": JSONValue(slave.unknownShadows),
      "last_full_scrub_milliseconds": JSONValue(slave.lastFullScrubMilliseconds),
      "scrubbed_bytes": JSONValue(slave.scrubbedBytes),
      "scrub_findings": JSONValue(slave.scrubFindings),
    ]
  }

  static func line(of care: CareStatus) -> JSONObject {
    [
      "pending_images": JSONValue(care.pendingImages),
      "pending_shadows": JSONValue(care.pendingShadows),
      "pending_bytes": JSONValue(care.pendingBytes),
      "balancing_shadows": JSONValue(care.balancingShadows),
      "waiting_shadows": JSONValue(care.waitingShadows),
      "done_shadows": JSONValue(care.doneShadows), "done_bytes": JSONValue(care.doneBytes),
      "failed_attempts": JSONValue(care.failedAttempts),
      "bytes_per_second": JSONValue(care.bytesPerSecond),
      "seconds_left": JSONValue(care.secondsLeft),
      "fewest_losses_survived": JSONValue(care.fewestLossesSurvived),
      "lost_images": JSONValue(care.lostImages), "rebuilt_shadows": JSONValue(care.rebuiltShadows),
      "copied_shadows": JSONValue(care.copiedShadows), "made_bytes": JSONValue(care.madeBytes),
      "passes": JSONValue(care.passes),
      "off": .bool(care.off),
      "last_problem": .string(care.lastProblem),
    ]
  }
}
