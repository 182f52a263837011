import Base
import Messages
import RPC

/// How a node of a cluster on one machine is.
enum DevHealth: Sendable, Equatable {
  case ok
  /// It answers, and says what is wrong.
  case problem(String)
  case silent(String)
  case stopped

  var text: String {
    switch self {
    case .ok: "ok"
    case .problem(let problem): "problem: \(problem)"
    case .silent: "does not answer"
    case .stopped: "stopped"
    }
  }

  /// For programs.
  var name: String {
    switch self {
    case .ok: "ok"
    case .problem: "problem"
    case .silent: "silent"
    case .stopped: "stopped"
    }
  }
}

/// Asks nodes how they are, by the call that an operator may make to each role.
struct DevReadiness: Sendable {
  let connection: ClusterConnection
  /// Slaves that the master should reach.
  let expectedSlaves: Set<String>

  func health(of node: DevNode, timeout: Duration) async -> DevHealth {
    let options = CallOptions(timeout: timeout)
    let channel = connection.channel(to: node.address, role: node.role)
    do {
      switch node.role {
      case .keyControl:
        _ = try await channel.unary(KeyControlMethods.listKeys, Empty(), options)
      case .slave:
        let status = try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
        if status.readOnly { return .problem("read-only: \(status.readOnlyReason)") }
      case .master:
        let consensus = try await channel.unary(
          ConsensusMethods.consensusStatus, Empty(), options)
        if let problem = Self.problem(of: consensus) { return .problem(problem) }
        // Only the leader knows how the slaves are.
        guard consensus.leader == node.name else { return .ok }
        let status = try await channel.unary(MasterCloudMethods.clusterStatus, Empty(), options)
        let reached = Set(status.slaves.filter(\.reachable).map(\.node))
        let missing = expectedSlaves.subtracting(reached).sorted()
        if !missing.isEmpty {
          return .problem("does not reach \(missing.joined(separator: ", "))")
        }
      case .imageOwner:
        let status = try await channel.unary(ImageOwnerMethods.ownerStatus, Empty(), options)
        if !status.problem.isEmpty { return .problem(status.problem) }
      case .imageUser:
        let status = try await channel.unary(ImageUserMethods.userStatus, Empty(), options)
        if !status.problem.isEmpty { return .problem(status.problem) }
      case .witness:
        let status = try await channel.unary(ConsensusMethods.consensusStatus, Empty(), options)
        if let problem = Self.problem(of: status) { return .problem(problem) }
      case .operatorTool: break
      }
      return .ok
    } catch {
      return .silent(error.message)
    }
  }

  private static func problem(of status: ConsensusStatusReply) -> String? {
    if !status.halted.isEmpty { return status.halted }
    if !status.alarm.isEmpty { return status.alarm }
    return status.leader.isEmpty ? "no master leads" : nil
  }

  /// Returns when every node is well.
  ///
  /// - Throws: at the deadline, or as soon as a process has ended, naming the node and the last
  ///   lines of its log.
  func waitUntilReady(
    _ nodes: [DevNode], processes: DevProcesses, deadlineNanoseconds: UInt64
  ) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for node in nodes {
        group.addTask {
          try await waitUntilReady(node, processes, deadlineNanoseconds)
        }
      }
      try await group.waitForAll()
    }
  }

  private func waitUntilReady(
    _ node: DevNode, _ processes: DevProcesses, _ deadlineNanoseconds: UInt64
  ) async throws {
    while true {
      let health = await health(of: node, timeout: .seconds(2))
      if health == .ok { return }
      if processes.running(node) == nil {
        throw Self.failure("\(node.name) ended at its start", node, processes)
      }
      if SystemClock().monotonicNanoseconds() > deadlineNanoseconds {
        switch health {
        case .silent(let reason):
          throw Self.failure("\(node.name) does not answer: \(reason)", node, processes)
        default: throw Self.failure("\(node.name): \(health.text)", node, processes)
        }
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  static func failure(
    _ message: String, _ node: DevNode, _ processes: DevProcesses
  ) -> CommandFailure {
    let lines = processes.folder.lastLogLines(node.name, count: 8)
    let log =
      lines.isEmpty ? "its log is empty" : "its log ends:\n    " + lines.joined(separator: "\n    ")
    return CommandFailure(
      .unavailable, "\(message); \(log)",
      advice: "the whole log is \(processes.folder.log(node.name))")
  }
}
