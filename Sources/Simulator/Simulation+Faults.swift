import Raft
import Replication

/// The end of a fault that lasts.
enum Healing {
  case links([SimulatedLinks.Link])
  case quality
  case disk(NodeID)
  case room(NodeID)
  case replace
}

extension Simulation {
  private enum Fault: String, CaseIterable {
    case cutOneWay, cutBothWays, isolate, crash, crashInWrite, losePowerEverywhere, pause, slowDisk
    case fullDisk, failedSynchronization, badNetwork, transfer, lostDisk
  }

  mutating func injectFault() throws {
    guard !isCalm else { return }
    queue.add(.fault, at: time + draw(50...longestQuiet))
    let fault = pick(Fault.allCases)
    let living = nodes.values.filter { $0.isUp && !$0.isGone }.sorted { $0.id < $1.id }
    guard !living.isEmpty else { return }
    let node = pick(living)
    let others = nodes.keys.filter { $0 != node.id }.sorted()
    report.faults[fault.rawValue, default: 0] += 1
    note("fault: \(fault) at \(node.id)")
    switch fault {
    case .cutOneWay:
      let other = pick(others)
      cut(chance(50) ? [.init(from: node.id, to: other)] : [.init(from: other, to: node.id)])
    case .cutBothWays:
      let other = pick(others)
      cut([.init(from: node.id, to: other), .init(from: other, to: node.id)])
    case .isolate:
      cut(others.flatMap { [.init(from: node.id, to: $0), .init(from: $0, to: node.id)] })
    case .crash: crash(node, losesPower: chance(60))
    case .crashInWrite:
      node.disk.cutPower(atOperation: node.disk.operations + Int(draw(0...6)))
    case .losePowerEverywhere: for node in living { crash(node, losesPower: true) }
    case .pause: node.pausedUntil = time + draw(10...2000)
    case .slowDisk:
      node.diskDelay = draw(20...300)
      queue.add(.heal(.disk(node.id)), at: time + draw(500...4000))
    case .fullDisk:
      node.disk.limitCapacity(node.disk.usedBytes + Int(draw(0...500)))
      queue.add(.heal(.room(node.id)), at: time + draw(500...4000))
    case .failedSynchronization:
      node.disk.fail(operation: node.disk.operations + Int(draw(0...5)), code: 5)
    case .badNetwork:
      network.loss = draw(0...40)
      network.duplication = draw(0...40)
      network.longestDelay = chance(20) ? draw(150...1000) : draw(1...150)
      queue.add(.heal(.quality), at: time + draw(500...5000))
    case .transfer: try step(node, .transfer(to: nil))
    case .lostDisk: try loseDisk(node)
    }
  }

  private mutating func cut(_ links: [SimulatedLinks.Link]) {
    report.cuts += 1
    network.close(links)
    queue.add(.heal(.links(links)), at: time + draw(100...5000))
  }

  mutating func crash(_ node: SimulatedNode, losesPower: Bool) {
    report.crashes += 1
    if losesPower || node.disk.isWithoutPower {
      node.losePower(pick(CrashModel.allCases), &random)
    } else {
      node.stop()
    }
    queue.add(.start(node.id), at: time + (chance(30) ? draw(0...30) : draw(0...longestOutage)))
  }

  /// One loss at a time, and only of what others hold too: more than that nobody promises to survive.
  private mutating func loseDisk(_ lost: SimulatedNode) throws {
    guard replacement == nil, report.replacements < 2, lost.raft?.role != .leader,
      let leader = nodes.values.first(where: {
        $0.raft.map { $0.role == .leader && !$0.isWitness && $0.membership.previous == nil }
          ?? false
      }), leader.raft!.membership.member(lost.id) != nil
    else { return }
    let members = leader.raft!.membership.members.compactMap { nodes[$0.id] }
    guard members.allSatisfy({ $0.isUp && $0.raft!.durableIndex >= ledger.lastCommitted }) else {
      return
    }
    let new = NodeID("\(lost.role == .data ? "d" : "v")\(nextName)")
    nextName += 1
    lost.stop()
    lost.isGone = true
    report.replacements += 1
    try add(new, lost.role, Membership([]))
    replacement = (lost.id, new)
    queue.add(.heal(.replace), at: time + draw(50...1000))
  }

  /// The operator asks whoever leads, until it is done.
  private mutating func replace() {
    guard let (old, new) = replacement else { return }
    for node in nodes.values.sorted(by: { $0.id < $1.id }) where node.isUp {
      guard let raft = node.raft, raft.role == .leader else { continue }
      if raft.membership.previous == nil && raft.membership.member(new) != nil {
        note("\(new) has taken the place of \(old)")
        replacement = nil
        return
      }
      let member = Member(id: new, role: nodes[new]!.role)
      let number = nextRequest
      nextRequest += 1
      try? step(node, .replace(id: number, old: old, new: member))
    }
    queue.add(.heal(.replace), at: time + 300)
  }

  mutating func heal(_ healing: Healing) {
    switch healing {
    case .links(let links): network.open(links)
    case .quality: (network.loss, network.duplication, network.longestDelay) = (0, 0, 2)
    case .disk(let id): nodes[id]!.diskDelay = 1
    case .room(let id): nodes[id]!.disk.limitCapacity(.max)
    case .replace: replace()
    }
  }

  /// The faults are over.
  mutating func calm() throws {
    isCalm = true
    note("calm")
    network.healAll()
    for node in nodes.values.sorted(by: { $0.id < $1.id }) {
      node.diskDelay = 1
      node.pausedUntil = 0
      node.disk.limitCapacity(.max)
      // A cut that waits for its write would come late.
      if node.isUp { crash(node, losesPower: true) }
    }
  }
}
