import Messages
import RPC

/// What an operator asks of the master.
struct MasterCalls: Sendable {
  private let cluster: ClusterConnection
  private let timeouts: CallTimeouts

  init(_ cluster: ClusterConnection, _ timeouts: CallTimeouts) {
    self.cluster = cluster
    self.timeouts = timeouts
  }

  func call<Request, Reply>(
    _ method: Method<Request, Reply>, _ request: Request, during action: String,
    timeout: Duration? = nil
  ) async throws -> Reply {
    let master = try cluster.master()
    do {
      return try await master.unary(
        method, request, CallOptions(timeout: timeout ?? timeouts.small))
    } catch {
      var failure = CommandFailure(error, during: action)
      switch error.reason {
      case "NoSuchSlave": failure.advice = "'sfmedir node list' lists the slaves"
      case "SlaveAnswers": failure.advice = "stop its daemon, and run the command again"
      case "SlaveInUse":
        failure.advice =
          "drain it with 'sfmedir node drain', or give it up with 'sfmedir node replace'"
      default: break
      }
      throw failure
    }
  }

  func status() async throws -> ClusterStatusReply {
    try await call(MasterCloudMethods.clusterStatus, Empty(), during: "asking the master")
  }

  func slave(_ node: String) async throws -> SlaveHealth {
    guard let slave = try await status().slaves.first(where: { $0.node == node }) else {
      throw CommandFailure(.notFound, "the master has no slave '\(node)'")
    }
    return slave
  }

  func set(_ slave: String, _ condition: SlaveCondition, replacement: String) async throws {
    var request = SetSlaveConditionRequest()
    (request.slave, request.condition, request.replacement) = (slave, condition, replacement)
    _ = try await call(
      MasterCloudMethods.setSlaveCondition, request, during: "deciding about \(slave)")
  }
}

/// A slave's state in words.
enum SlaveText {
  static func name(of condition: SlaveCondition) -> String {
    switch condition {
    case .draining: "draining"
    case .lost: "lost"
    default: "active"
    }
  }

  static func condition(of slave: SlaveHealth) -> String {
    switch slave.condition {
    case .draining where slave.placedShadows == 0: "drained"
    case .draining: "draining, \(slave.placedShadows) to go"
    case .lost where slave.placedShadows == 0: "lost, replaced"
    case .lost: "lost, \(slave.placedShadows) to rebuild"
    default:
      ClusterReport.state(of: slave) == "ok"
        ? "active" : "active, \(ClusterReport.state(of: slave))"
    }
  }

  /// A failure domain's name; none where it is only that of what it holds.
  static func domain(_ name: String, unless inner: String) -> String { name == inner ? "-" : name }

  static func name(of state: ShadowState) -> String {
    switch state {
    case .good: "good"
    case .away: "away"
    case .leaving: "leaving"
    case .lost: "lost"
    case .bad: "bad"
    case .unread: "unread"
    default: "unknown"
    }
  }
}
