import Base
import Logging
import Messages
import RPC

/// A slave as the configuration names it.
public struct SlaveAddress: Sendable, Hashable {
  public var node: String
  public var address: Address
  public var location: SlaveLocation

  /// - Parameter location: what fails together with it; by default nothing does.
  public init(node: String, address: Address, location: SlaveLocation? = nil) {
    self.node = node
    self.address = address
    self.location = location ?? SlaveLocation(host: node)
  }
}

/// How far a slave's shadows can be counted on.
enum SlaveStanding: Hashable, Sendable {
  case good
  /// It does not answer, and may come back.
  case away
  /// An operator is emptying it.
  case leaving
  /// Declared lost, silent for too long, or not in the configuration any more.
  case lost
}

/// The slaves, a channel to each, and what is known of their health.
final class SlaveDirectory: Sendable {
  struct Health: Sendable {
    var reachable = false
    var lastSeenMilliseconds: UInt64 = 0
    /// On the monotonic clock; nil while it answers.
    var silentSinceNanoseconds: UInt64?
    /// How often it was there again after it had not been, or had opened its segments anew: what it holds may have changed.
    var arrivals: UInt64 = 0
    var status: SlaveStatusReply?
    var lastAuditMilliseconds: UInt64 = 0
    /// Answers in a row that came too late.
    var misses = 0
    /// Why it is not reachable, or read-only.
    var message = ""
  }

  struct Slave: Sendable {
    var address: SlaveAddress
    var channel: Channel
  }

  private struct State {
    var health: [String: Health]
    var decisions: [String: SlaveDecision] = [:]
    var unknownShadows: [String: UInt64] = [:]
  }

  let slaves: [String: Slave]
  private let state: Locked<State>
  private let repairAfter: Duration
  private let bad: BadShadows
  private let logger: Logger
  private let clock: any Clock

  static let statusTimeout = Duration.seconds(5)
  /// A busy slave is late once or twice; a dead one refuses, or is late every time.
  private static let toleratedMisses = 2

  /// - Parameter repairAfter: a slave that is silent for longer is no longer counted on.
  init(
    _ addresses: [SlaveAddress], cluster: String, dialer: Dialer, repairAfter: Duration,
    bad: BadShadows, clock: any Clock = SystemClock(), logger: Logger
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
    self.clock = clock
    self.repairAfter = repairAfter
    self.bad = bad
    let now = clock.monotonicNanoseconds()
    state = Locked(
      State(health: slaves.mapValues { _ in Health(silentSinceNanoseconds: now) }))
  }

  func channel(to node: String) throws(RPCError) -> Channel {
    guard let slave = slaves[node] else {
      throw RPCError(.failedPrecondition, "slave '\(node)' is not in the configuration")
    }
    return slave.channel
  }

  func location(of node: String) -> SlaveLocation {
    slaves[node]?.address.location ?? SlaveLocation(host: node)
  }

  // MARK: what is known of them

  /// What operators decided, from the replicated state.
  func set(_ decisions: [String: SlaveDecision]) { state.withLock { $0.decisions = decisions } }

  func decision(on node: String) -> SlaveDecision {
    state.withLock { $0.decisions[node] ?? SlaveDecision() }
  }

  func isReachable(_ node: String) -> Bool {
    state.withLock { $0.health[node]?.reachable ?? false }
  }

  func standing(of node: String) -> SlaveStanding { standings(of: [node])[node] ?? .lost }

  /// Of all that are configured, and of those named.
  func standings(of others: some Sequence<String> = []) -> [String: SlaveStanding] {
    let now = clock.monotonicNanoseconds()
    return state.withLock { state in
      var standings: [String: SlaveStanding] = [:]
      for node in others { standings[node] = .lost }
      for (node, health) in state.health {
        let decision = state.decisions[node] ?? SlaveDecision()
        standings[node] =
          if decision.condition == .lost {
            .lost
          } else if let since = health.silentSinceNanoseconds, !health.reachable {
            now - min(now, since) >= repairAfter.wholeNanoseconds ? .lost : .away
          } else {
            decision.condition == .draining ? .leaving : .good
          }
      }
      return standings
    }
  }

  /// For what a shadow is written.
  enum Purpose { case upload, care }

  /// Slaves that answer and take such shadows: not those that drain, and not those that are nearly full.
  func candidates(for purpose: Purpose) -> [SlaveCandidate] {
    state.withLock { state in
      state.health.compactMap { node, health in
        guard health.reachable, let status = health.status, !status.readOnly,
          (state.decisions[node] ?? SlaveDecision()).condition == .active,
          !isDistrusted(node, status), let slave = slaves[node]
        else { return nil }
        // What keeps images alive may use half of what new ones must leave.
        let reserve = purpose == .upload ? status.reserveBytes : status.reserveBytes / 2
        guard status.freeBytes > reserve else { return nil }
        return SlaveCandidate(
          node: node, location: slave.address.location,
          availableBytes: status.freeBytes - reserve)
      }
    }
  }

  /// A disk that loses one shadow in ten, and not just a few, gets no more of them.
  private func isDistrusted(_ node: String, _ status: SlaveStatusReply) -> Bool {
    let found = bad.found(on: node)
    return found >= Self.toleratedLosses && found >= status.shadows / 10
  }

  static let toleratedLosses: UInt64 = 100

  struct Fullness: Sendable {
    var candidate: SlaveCandidate
    var storedBytes: UInt64
    /// Part of what it could hold that it holds.
    var fraction: Double {
      let room = Double(storedBytes) + Double(candidate.availableBytes)
      return room > 0 ? Double(storedBytes) / room : 1
    }
  }

  func fullness() -> [Fullness] {
    let candidates = candidates(for: .upload)
    return state.withLock { state in
      candidates.map {
        Fullness(
          candidate: $0, storedBytes: state.health[$0.node]?.status?.storedBytes ?? 0)
      }
    }
  }

  func arrivals(of node: String) -> UInt64 { state.withLock { $0.health[node]?.arrivals ?? 0 } }

  /// As the slave said when it was asked last.
  func ownBadShadows(of node: String) -> UInt64 {
    state.withLock { $0.health[node]?.status?.badShadows ?? 0 }
  }

  func setAudited(_ node: String, unknownShadows: UInt64) {
    let now = clock.wallMilliseconds()
    state.withLock { state in
      state.unknownShadows[node] = unknownShadows
      state.health[node]?.lastAuditMilliseconds = now
    }
  }

  // MARK: asking them

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
      let wasReachable = state.withLock { state in
        var health = state.health[node] ?? Health()
        let wasReachable = health.reachable
        health.reachable = true
        health.silentSinceNanoseconds = nil
        health.misses = 0
        health.lastSeenMilliseconds = clock.wallMilliseconds()
        health.message = Self.remark(on: status)
        if !wasReachable || health.status?.instance != status.instance { health.arrivals += 1 }
        health.status = status
        state.health[node] = health
        return wasReachable
      }
      if !wasReachable { logger.info("slave is there", metadata: ["slave": "\(node)"]) }
    } catch {
      reportFailure(of: node, error)
    }
  }

  /// What an operator has to know of a slave that answers; empty where all is well.
  static func remark(on status: SlaveStatusReply) -> String {
    if status.readOnly { return status.readOnlyReason }
    if status.reserveBytes > 0, status.freeBytes <= status.reserveBytes {
      return "nearly full: it takes no new images"
    }
    if status.badShadows > 0 { return "\(status.badShadows) unreadable shadows; its log has them" }
    return status.damages > 0 ? "\(status.damages) damaged records; its log has them" : ""
  }

  /// A call to the slave failed in a way that says more than about that call alone.
  func reportFailure(of node: String, _ error: RPCError) {
    let now = clock.monotonicNanoseconds()
    let isLost = state.withLock { state in
      guard var health = state.health[node] else { return false }
      defer { state.health[node] = health }
      health.message = error.message
      if error.code == .deadlineExceeded {
        health.misses += 1
        if health.misses <= Self.toleratedMisses { return false }
      }
      let wasReachable = health.reachable
      health.reachable = false
      health.silentSinceNanoseconds = health.silentSinceNanoseconds ?? now
      return wasReachable
    }
    if isLost {
      logger.warning(
        "slave does not answer", metadata: ["slave": "\(node)", "reason": "\(error)"])
    }
  }

  // MARK: telling of them

  /// - Parameter counts: shadows that images have there, and garbage, of those slaves for which it was counted.
  func summary(_ counts: [String: (placed: Int, garbage: Int)]) -> [SlaveHealth] {
    let standings = standings()
    let state = self.state.withLock { $0 }
    return slaves.sorted { $0.key.compareNumerically(to: $1.key) }.map { node, slave in
      let known = state.health[node] ?? Health()
      let decision = state.decisions[node] ?? SlaveDecision()
      let location = slave.address.location
      var summary = SlaveHealth()
      summary.node = node
      summary.address = slave.address.address.description
      summary.reachable = known.reachable
      summary.lastSeenMilliseconds = known.lastSeenMilliseconds
      summary.corruptShadows = bad.found(on: node)
      summary.badShadows = UInt64(bad.count(on: node))
      summary.message = known.message
      summary.condition = decision.condition
      summary.replacement = decision.replacement
      (summary.host, summary.rack, summary.zone) = (location.host, location.rack, location.zone)
      summary.placedShadows = UInt64(counts[node]?.placed ?? 0)
      summary.garbageShadows = UInt64(counts[node]?.garbage ?? 0)
      summary.lastAuditMilliseconds = known.lastAuditMilliseconds
      summary.unknownShadows = state.unknownShadows[node] ?? 0
      summary.givenUp = standings[node] == .lost
      if let status = known.status {
        summary.take(status)
        summary.distrusted = isDistrusted(node, status)
        if summary.distrusted, summary.message.isEmpty || status.badShadows > 0 {
          summary.message =
            "lost \(summary.corruptShadows) shadows; no new ones until it is activated"
        }
      }
      return summary
    }
  }
}

extension SlaveHealth {
  fileprivate mutating func take(_ status: SlaveStatusReply) {
    shadows = status.shadows
    storedBytes = status.storedBytes
    freeBytes = status.freeBytes
    readOnly = status.readOnly
    reserveBytes = status.reserveBytes
    lastFullScrubMilliseconds = status.lastFullScrubMilliseconds
    scrubbedBytes = status.scrubbedBytes
    scrubFindings = status.scrubFindings
  }
}

extension String {
  /// "scs-9" before "scs-10": shorter first, as node numbers have no leading zeros.
  func compareNumerically(to other: String) -> Bool {
    (utf8.count, self) < (other.utf8.count, other)
  }
}
