import Raft
import Replication

enum SimulatedFault: String, CaseIterable {
  case cutOneWay, cutBothWays, isolate, crash, crashInWrite, losePowerEverywhere, loseTwo, pause
  case slowDisk, fullDisk, failedSynchronization, badNetwork, clockJump, transfer, lostDisk
  case rottenDisk
}

/// The end of a fault that lasts.
enum Healing {
  case links([SimulatedLinks.Link])
  case quality
  case disk(NodeID)
  case room(NodeID)
  case replace
}

extension Simulation {
  mutating func injectFault() throws {
    guard !isCalm else { return }
    queue.add(.fault, at: time + draw(50...style.longestQuiet))
    let fault = pick(style.faults)
    let living = nodes.filter { $0.isUp && !$0.isGone }
    guard !living.isEmpty else { return }
    let leader = chance(style.aimed) ? living.first { $0.raft!.role == .leader } : nil
    let node = leader ?? pick(living)
    report.faults[fault.rawValue, default: 0] += 1
    note("fault: \(fault) at \(node.id)")
    switch fault {
    case .cutOneWay:
      let other = pick(nodes.filter { $0.id != node.id }).id
      cut(chance(50) ? [.init(from: node.id, to: other)] : [.init(from: other, to: node.id)])
    case .cutBothWays:
      let other = pick(nodes.filter { $0.id != node.id }).id
      cut([.init(from: node.id, to: other), .init(from: other, to: node.id)])
    case .isolate: isolate(node.id)
    case .crash: crash(node, losesPower: chance(60))
    case .crashInWrite:
      node.disk.cutPower(atOperation: node.disk.operations + Int(draw(0...6)))
    case .losePowerEverywhere: for node in living { crash(node, losesPower: true) }
    case .loseTwo:
      for other in living where other.id != node.id { crash(other, losesPower: chance(60)) }
    case .pause:
      node.pausedUntil = time + draw(10...2000)
      pausedUntil = max(pausedUntil, node.pausedUntil)
    case .slowDisk:
      node.diskDelay = draw(20...300)
      queue.add(.heal(.disk(node.id)), at: time + draw(500...4000))
    case .fullDisk: fillDisk(of: node)
    case .failedSynchronization:
      node.disk.fail(operation: node.disk.operations + Int(draw(0...5)), code: 5)
    case .badNetwork:
      network.loss = draw(0...40)
      network.duplication = draw(0...40)
      network.longestDelay = chance(20) ? draw(150...1000) : draw(1...150)
      queue.add(.heal(.quality), at: time + draw(500...5000))
    case .clockJump:
      // A lease rests on clocks that run at nearly the same speed; a jump of seconds breaks it, and we do not promise
      // otherwise. Everything else has to hold.
      if !raftConfiguration.readsUseLease { node.clockJumps += draw(200...8000) }
    case .transfer: try step(node, .transfer(to: nil))
    case .lostDisk:
      if mayLose(node) {
        node.stop()
        try replaceLost(node)
      }
    case .rottenDisk: if mayLose(node) { rot(node) }
    }
  }

  private mutating func cut(_ links: [SimulatedLinks.Link]) {
    report.cuts += 1
    network.close(links)
    queue.add(.heal(.links(links)), at: time + draw(100...style.longestCut))
  }

  mutating func isolate(_ id: NodeID) {
    cut(
      nodes.map(\.id).filter { $0 != id }.flatMap {
        [.init(from: id, to: $0), .init(from: $0, to: id)]
      })
  }

  mutating func fillDisk(of node: SimulatedNode) {
    node.disk.limitCapacity(node.disk.usedBytes + Int(draw(0...500)))
    queue.add(.heal(.room(node.id)), at: time + draw(500...4000))
  }

  mutating func crash(_ node: SimulatedNode, losesPower: Bool) {
    report.crashes += 1
    if losesPower || node.disk.isWithoutPower {
      node.losePower(pick(CrashModel.allCases), &random)
    } else {
      node.stop()
    }
    queue.add(
      .start(node.id),
      at: time + (chance(style.quickRestart) ? draw(0...30) : draw(0...style.longestOutage)))
  }

  // MARK: disks that are lost

  /// One at a time, and only of what others hold too: more than that nobody promises to survive.
  private func mayLose(_ lost: SimulatedNode) -> Bool {
    guard replacement == nil, report.replacements < 2, lost.raft?.role != .leader,
      nodes.allSatisfy({ !$0.isRotten || $0.isGone }),
      let leader = nodes.first(where: {
        $0.raft.map { $0.role == .leader && !$0.isWitness && $0.membership.previous == nil }
          ?? false
      }), leader.raft!.membership.member(lost.id) != nil
    else { return false }
    return leader.raft!.membership.members.compactMap { node($0.id) }.allSatisfy {
      $0.isUp && $0.raft!.durableIndex >= ledger.lastCommitted
    }
  }

  /// A bit flips in the middle of the journal while its node is stopped.
  private mutating func rot(_ node: SimulatedNode) {
    // What lies before the last write cannot be a torn one, and the mark behind a write is there when only the process ends.
    guard !node.disk.isWithoutPower,
      let path = node.disk.paths.filter({ $0.hasSuffix(".segment") }).last,
      var bytes = node.disk.content(path), bytes.count >= 600
    else { return }
    crash(node, losesPower: false)
    let place = Int(draw(0...UInt64(bytes.count / 2)))
    if configuration.mutant != .journalMissesRot { bytes[place] ^= 1 << UInt8(draw(0...7)) }
    node.disk.setContent(path, bytes)
    node.isRotten = true
  }

  /// The node is gone for good, and another takes its place.
  mutating func replaceLost(_ lost: SimulatedNode) throws {
    let new = NodeID("\(lost.role == .data ? "d" : "v")\(nextName)")
    nextName += 1
    lost.isGone = true
    report.replacements += 1
    try add(new, lost.role, Membership([]))
    replacement = (lost.id, new)
    queue.add(.heal(.replace), at: time + draw(50...1000))
  }

  /// The operator asks whoever leads, until it is done.
  private mutating func replace() throws {
    guard let (old, new) = replacement else { return }
    for node in nodes where node.isUp {
      guard let raft = node.raft, raft.role == .leader else { continue }
      if raft.membership.previous == nil && raft.membership.member(new) != nil {
        note("\(new) has taken the place of \(old)")
        replacement = nil
        return
      }
      let number = nextRequest
      nextRequest += 1
      let member = Member(id: new, role: self.node(new)!.role)
      try step(node, .replace(id: number, old: old, new: member))
    }
    queue.add(.heal(.replace), at: time + 300)
  }

  mutating func heal(_ healing: Healing) throws {
    switch healing {
    case .links(let links): network.open(links)
    case .quality: network.setQuality(isCalm ? nil : style)
    case .disk(let id): node(id)!.diskDelay = 1
    case .room(let id): node(id)!.disk.limitCapacity(.max)
    case .replace: try replace()
    }
  }

  /// The faults are over.
  mutating func calm() throws {
    isCalm = true
    note("calm")
    network = SimulatedLinks()
    for node in nodes {
      node.diskDelay = 1
      node.pausedUntil = 0
      node.disk.limitCapacity(.max)
      // A cut that waits for its write would come late.
      if node.isUp { crash(node, losesPower: true) }
    }
  }
}
