import Base
import Logging
import Messages
import RPC

/// A slave as the configuration names it.
public struct SlaveAddress: Sendable, Hashable {
  public var node: String
  public var address: Address

  public init(node: String, address: Address) {
    self.node = node
    self.address = address
  }
}

/// The slaves, a channel to each, and what is known of their health.
final class SlaveDirectory: Sendable {
  struct Health: Sendable {
    var reachable = false
    var lastSeenMilliseconds: UInt64 = 0
    var status: SlaveStatusReply?
    var corruptShadows: UInt64 = 0
    /// Answers in a row that came too late.
    var misses = 0
    /// Why it is not reachable, or read-only.
    var message = ""
  }

  struct Slave: Sendable {
    var address: SlaveAddress
    var channel: Channel
  }

  let slaves: [String: Slave]
  private let health: Locked<[String: Health]>
  private let logger: Logger
  private let clock = SystemClock()

  static let statusTimeout = Duration.seconds(5)
  /// A busy slave is late once or twice; a dead one refuses, or is late every time.
  private static let toleratedMisses = 2

  init(
    _ addresses: [SlaveAddress], cluster: String, dialer: Dialer, logger: Logger
  ) {
    var slaves: [String: Slave] = [:]
    for address in addresses {
      let channel = dialer.channel(
        to: address.address,
        expecting: PeerExpectation(cluster: cluster, role: .slave, node: address.node))
      slaves[address.node] = Slave(address: address, channel: channel)
    }
    self.slaves = slaves
    self.logger = logger
    health = Locked(slaves.mapValues { _ in Health() })
  }

  func channel(to node: String) throws(RPCError) -> Channel {
    guard let slave = slaves[node] else {
      throw RPCError(.failedPrecondition, "slave '\(node)' is not in the configuration")
    }
    return slave.channel
  }

  /// Nodes that answer and take new shadows.
  var writable: [String] {
    health.withLock { health in
      health.filter { $0.value.reachable && $0.value.status?.readOnly == false }.map(\.key)
    }.sorted()
  }

  func isReachable(_ node: String) -> Bool {
    health.withLock { $0[node]?.reachable ?? false }
  }

  /// Asks every slave once, all at the same time.
  func poll(timeout: Duration = SlaveDirectory.statusTimeout) async {
    await withTaskGroup(of: Void.self) { group in
      for (node, slave) in slaves { group.addTask { await self.poll(node, slave, timeout) } }
    }
  }

  private func poll(_ node: String, _ slave: Slave, _ timeout: Duration) async {
    do {
      let status = try await slave.channel.unary(
        SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: timeout))
      let wasReachable = health.withLock { health in
        defer {
          health[node]?.reachable = true
          health[node]?.misses = 0
          health[node]?.lastSeenMilliseconds = clock.wallMilliseconds()
          health[node]?.status = status
          health[node]?.message = Self.remark(on: status)
        }
        return health[node]?.reachable ?? false
      }
      if !wasReachable { logger.info("slave is there", metadata: ["slave": "\(node)"]) }
    } catch {
      reportFailure(of: node, error)
    }
  }

  /// What an operator has to know of a slave that answers; empty where all is well.
  static func remark(on status: SlaveStatusReply) -> String {
    if status.readOnly { return status.readOnlyReason }
    if status.badShadows > 0 { return "\(status.badShadows) unreadable shadows; its log has them" }
    return status.damages > 0 ? "\(status.damages) damaged records; its log has them" : ""
  }

  /// A call to the slave failed in a way that says more than about that call alone.
  func reportFailure(of node: String, _ error: RPCError) {
    let isLost = health.withLock { health in
      guard let known = health[node] else { return false }
      health[node]?.message = error.message
      if error.code == .deadlineExceeded {
        health[node]?.misses += 1
        if known.misses < Self.toleratedMisses { return false }
      }
      health[node]?.reachable = false
      return known.reachable
    }
    if isLost {
      logger.warning(
        "slave does not answer", metadata: ["slave": "\(node)", "reason": "\(error)"])
    }
  }

  /// A shadow came back other than it was stored.
  func reportCorruptShadow(on node: String, image: ImageID, index: UInt32) {
    health.withLock { $0[node]?.corruptShadows += 1 }
    logger.error(
      "corrupt shadow",
      metadata: ["slave": "\(node)", "image": "\(image)", "shadow": "\(index)"])
  }

  func summary() -> [SlaveHealth] {
    let health = self.health.withLock { $0 }
    return slaves.sorted { $0.key.compareNumerically(to: $1.key) }.map { node, slave in
      let known = health[node] ?? Health()
      var summary = SlaveHealth()
      summary.node = node
      summary.address = slave.address.address.description
      summary.reachable = known.reachable
      summary.lastSeenMilliseconds = known.lastSeenMilliseconds
      summary.shadows = known.status?.shadows ?? 0
      summary.storedBytes = known.status?.storedBytes ?? 0
      summary.freeBytes = known.status?.freeBytes ?? 0
      summary.readOnly = known.status?.readOnly ?? false
      summary.corruptShadows = known.corruptShadows
      summary.message = known.message
      return summary
    }
  }
}

extension String {
  /// "scs-9" before "scs-10": shorter first, as node numbers have no leading zeros.
  func compareNumerically(to other: String) -> Bool {
    (utf8.count, self) < (other.utf8.count, other)
  }
}
