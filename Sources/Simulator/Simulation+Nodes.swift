import Raft
import Replication
import SegmentStore

/// What a node's driver does: it hands over what happens, and performs what comes of it.
extension Simulation {
  mutating func start(_ id: NodeID) throws {
    guard let node = node(id), !node.isUp, !node.isGone else { return }
    do {
      try node.start(at: time, configuration: raftConfiguration, mutant: configuration.mutant)
    } catch {
      // A full disk, one that fails while the journal is opened, or a power cut in that, is no loss.
      if let store = error as? SegmentStoreError, case .disk = store {
        note("\(id) cannot start yet: \(error)")
        crash(node, losesPower: true)
        return
      }
      guard node.isRotten, error is JournalDamage else {
        throw violation(.start, "\(id) cannot start: \(error)")
      }
      note("\(id) refuses its journal: \(error)")
      try replaceLost(node)
      return
    }
    guard !node.isRotten else { throw violation(.start, "\(id) starts from a rotten journal") }
    note("\(id) starts: \(node.raft!.leadership), log ends at \(node.raft!.lastPosition)")
    queue.add(.tick(id, incarnation: node.incarnation), at: time + draw(1...10))
    if node.incarnation == 1 { queue.add(.checkpoint(id), at: time + draw(200...3000)) }
  }

  mutating func step(_ node: SimulatedNode, _ event: Event) throws {
    if !node.proposed.isEmpty {
      let proposed = node.proposed
      node.proposed = []
      try stepAlone(node, .propose(proposed))
      guard node.isUp else { return }
    }
    try stepAlone(node, event)
  }

  /// Now, or with others.
  mutating func propose(_ id: UInt64, _ command: [UInt8], at node: SimulatedNode) throws {
    guard chance(50) else {
      node.proposed.append(.init(id: id, command: command))
      return
    }
    try step(node, .propose(id: id, command: command))
  }

  private mutating func stepAlone(_ node: SimulatedNode, _ event: Event) throws {
    let effects = node.replica!.step(event, at: node.clock(time))
    if !effects.isEmpty { try perform(effects, at: node) }
    guard node.isUp else { return }
    try ledger.look(node, self)
    // Comparing whole logs each time would make the simulation slow.
    if !effects.isEmpty && chance(1) { try checkLogMatching() }
  }

  private mutating func perform(_ effects: [Replica.Effect], at node: SimulatedNode) throws {
    for effect in effects {
      guard node.isUp else { return }
      switch effect {
      case .send(let message): send(message)
      case .persist(let persist): write(persist, at: node)
      case .apply(let first, let entries, let proposals):
        try apply(entries, first: first, proposals, at: node)
        try perform(node.replica!.applied(through: first + UInt64(entries.count) - 1), at: node)
      case .failed(let id, let failure): fail(id, failure, at: node)
      case .readable(let id): read(id, at: node)
      case .sendSnapshot(let target, let term): sendSnapshot(to: target, term: term, from: node)
      case .installSnapshot:
        // Put in place by `receiveSnapshot`, which knows it.
        try perform(node.replica!.applied(through: node.machine.base.position.index), at: node)
      case .discardSnapshot: break
      case .compact(let base):
        node.journal!.compact(to: base)
        if style.faults.contains(.fullDisk) && !isCalm && chance(10) { fillDisk(of: node) }
        planFlush(node)
      case .leadership(let leadership):
        note("\(node.id): \(leadership)")
        if leadership.role == .leader { elected(node) }
      case .halt(let reason):
        // With our own disks, which lose nothing that they promised to keep, no node ever has a reason to stop.
        throw violation(.halt, "\(node.id) halts: \(reason)")
      }
    }
  }

  private mutating func elected(_ node: SimulatedNode) {
    report.elections += 1
    guard !isCalm else { return }
    if chance(style.leaderCrash) { planCrash(of: node) }
    if chance(style.leaderCut) {
      queue.add(.isolate(node.id), at: time + draw(0...style.blowWithin))
    }
  }

  private mutating func write(_ persist: Persist, at node: SimulatedNode) {
    var persist = persist
    configuration.mutant?.change(&persist, at: node)
    node.journal!.write(persist)
    planFlush(node)
    // Promises are what a restart may forget; what a candidate promises itself is less often of interest.
    if let vote = persist.hardState?.vote,
      chance(vote == node.id ? style.voterCrash / 4 : style.voterCrash)
    {
      planCrash(of: node)
    }
  }

  /// Right after a moment that matters.
  private mutating func planCrash(of node: SimulatedNode) {
    guard !isCalm else { return }
    queue.add(
      .crash(node.id, incarnation: node.incarnation), at: time + draw(0...style.blowWithin))
  }

  private mutating func planFlush(_ node: SimulatedNode) {
    guard !node.isFlushPlanned else { return }
    node.isFlushPlanned = true
    queue.add(
      .flush(node.id, incarnation: node.incarnation), at: time + draw(0...(2 * node.diskDelay)))
  }

  mutating func flush(_ node: SimulatedNode) throws {
    node.isFlushPlanned = false
    let completion = node.completion
    node.journal!.flush { result in completion.withLock { $0 = result } }
    node.journal!.performWaitingWrites()
    switch completion.withLock({ $0.take() }) {
    case .success(let written)?:
      node.journal!.wrote(written)
      // What is let go of.
      node.journal!.performWaitingWrites()
      if let number = written.number { try step(node, .persisted(number: number)) }
    case .failure(let error)?:
      // What is on the disk is not known any more: the process ends, and the next one reads what is there.
      note("\(node.id) cannot write: \(error)")
      crash(node, losesPower: true)
    case nil: break
    }
  }

  private mutating func apply(
    _ entries: [Entry], first: Index, _ proposals: [Replica.Proposal], at node: SimulatedNode
  ) throws {
    var outputs: [RegisterOutput?] = []
    let isWrong = configuration.mutant == .appliesDifferently && node.id == "b"
    for (offset, entry) in entries.enumerated() {
      let index = first + UInt64(offset)
      try ledger.applied(entry, at: index, by: node.id, self)
      guard node.role == .data else { continue }
      guard node.machine.base.position.index + 1 == index else {
        throw violation(.state, "\(node.id) applies \(index) behind \(node.machine.base.position)")
      }
      outputs.append(node.machine.apply(entry, isWrong: isWrong && index % 64 == 0))
      try ledger.state(node.machine, by: node.id, self)
    }
    guard node.role == .data else { return }
    node.keep()
    for proposal in proposals { finish(proposal.id, outputs[proposal.offset], at: node) }
  }

  // MARK: snapshots

  private mutating func sendSnapshot(to target: NodeID, term: Term, from node: SimulatedNode) {
    report.snapshots += 1
    let isLost = !network.isOpen(from: node.id, to: target) || chance(10)
    if isLost {
      queue.add(
        .snapshotSent(by: node.id, incarnation: node.incarnation, to: target, installed: nil),
        at: time + 200)
    } else {
      queue.add(
        .snapshot(to: target, term: term, from: node.id, node.machine), at: time + draw(5...300))
    }
  }

  mutating func receiveSnapshot(
    to id: NodeID, term: Term, from: NodeID, _ machine: RegisterMachine
  ) throws {
    guard let node = node(id), node.isUp, let sender = self.node(from) else { return }
    let blow = isCalm || !chance(25) ? 0 : draw(1...3)
    if blow == 1 {
      // In the middle of coming in: nothing of it is in place.
      crash(node, losesPower: true)
    } else {
      if machine.base.position.index > node.raft!.commit && node.raft!.role != .leader {
        // The state is in place and durable before the log hears of it.
        node.machine = machine
        node.durableMachines = [machine]
      }
      if blow == 2 {
        crash(node, losesPower: true)
      } else {
        // Or in the middle of the write that has the log begin anew.
        if blow == 3 { node.disk.cutPower(atOperation: node.disk.operations + Int(draw(0...3))) }
        try step(node, .snapshotArrived(from: from, term: term, base: machine.base))
      }
    }
    queue.add(
      .snapshotSent(
        by: from, incarnation: sender.incarnation, to: id,
        installed: node.isUp ? machine.base.position.index : nil), at: time + draw(1...50))
  }
}
