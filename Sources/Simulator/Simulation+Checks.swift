import Raft

/// What has been seen of all nodes together, against which each step of each node is held.
struct Ledger {
  /// Who led in each term.
  private var leaders: [Term: NodeID] = [:]
  /// What is committed, for ever.
  private(set) var committed: [Entry] = []
  /// The state after each command, as the first who got there had it.
  private var states: [Index: UInt64] = [:]
  /// When each entry was first seen to be, and the term of the node at which it was.
  private var committedAt: [UInt64] = []
  private var committedIn: [Term] = []

  var lastCommitted: Index { UInt64(committed.count) }

  mutating func look(_ node: SimulatedNode, _ simulation: Simulation) throws {
    let (term, commit) = (node.replica!.raft.hardState.term, node.replica!.raft.commit)
    let before = node.seen
    if let before, before == (term, commit), node.replica!.raft.role != .leader { return }
    node.seen = (term, commit)
    if let before, term < before.term || commit < before.commit {
      throw simulation.violation(.wentBack, "\(node.id) went back from \(before)")
    }
    if node.replica!.raft.role == .leader, leaders[term] != node.id {
      try lead(node.raft!, simulation)
    }
    guard before?.commit != commit else { return }
    let raft = node.raft!
    for index in (before?.commit ?? raft.firstIndex - 1)..<commit {
      try self.commit(index + 1, of: raft, simulation)
    }
  }

  private mutating func lead(_ raft: Raft, _ simulation: Simulation) throws {
    let term = raft.hardState.term
    if let other = leaders.updateValue(raft.id, forKey: term) {
      throw simulation.violation(
        .twoLeaders, "\(other) and \(raft.id) both lead in term \(term)")
    }
    // Leader completeness (Raft, figure 3). Of what a later leader has committed meanwhile, it knows nothing.
    let last = UInt64(committedIn.lastIndex { $0 < term }.map { $0 + 1 } ?? 0)
    guard raft.lastPosition.index > last || last == 0 else {
      throw simulation.violation(
        .lostCommit,
        "\(raft.id) leads in term \(term), its log ends at \(raft.lastPosition), \(last) is committed"
      )
    }
    guard raft.firstIndex <= last else { return }
    for index in raft.firstIndex...last where raft.entry(at: index) != committed[Int(index) - 1] {
      throw simulation.violation(
        .lostCommit,
        "\(raft.id) leads in term \(term) without entry \(index), which is committed")
    }
  }

  private mutating func commit(_ index: Index, of raft: Raft, _ simulation: Simulation) throws {
    guard let entry = raft.entry(at: index) else {
      // Installed with a snapshot.
      guard index < raft.firstIndex, index <= lastCommitted else {
        throw simulation.violation(
          .lostCommit, "\(raft.id) commits \(index), which it does not have")
      }
      return
    }
    if index <= lastCommitted {
      guard committed[Int(index) - 1] == entry else {
        throw simulation.violation(
          .lostCommit,
          "\(raft.id) commits \(entry.term)/\(index), \(committed[Int(index) - 1].term)/\(index) is committed"
        )
      }
    } else {
      guard index == lastCommitted + 1 else {
        throw simulation.violation(
          .lostCommit, "\(raft.id) commits \(index) behind \(lastCommitted)")
      }
      committed.append(entry)
      committedAt.append(simulation.time)
      committedIn.append(raft.hardState.term)
    }
  }

  mutating func applied(
    _ entry: Entry, at index: Index, by node: NodeID, _ simulation: Simulation
  ) throws {
    // Commit and application happen in one step; the commit is looked at behind it.
    guard index > lastCommitted || committed[Int(index) - 1] == entry else {
      throw simulation.violation(
        .lostCommit, "\(node) applies another entry \(index) than was committed")
    }
  }

  mutating func state(
    _ machine: RegisterMachine, by node: NodeID, _ simulation: Simulation
  ) throws {
    let index = machine.base.position.index
    if let known = states[index], known != machine.hash {
      throw simulation.violation(.state, "\(node) has another state than others had at \(index)")
    }
    states[index] = machine.hash
  }
}

extension Ledger {
  /// Whether everything that had committed at a time stands at or before the index.
  func includes(_ index: Index, committedBy time: UInt64) -> Bool {
    index >= lastCommitted || committedAt[Int(index)] >= time
  }
}

extension Simulation {
  /// Logs that agree in one entry agree in all before it (Raft, figure 3).
  func checkLogMatching() throws {
    let rafts = nodes.compactMap(\.raft)
    for left in rafts {
      for right in rafts where left.id < right.id {
        let first = max(left.firstIndex, right.firstIndex)
        let last = min(left.lastPosition.index, right.lastPosition.index)
        guard first <= last else { continue }
        var doesAgree = false
        for index in (first...last).reversed() {
          let isSameTerm = left.term(at: index) == right.term(at: index)
          if doesAgree || isSameTerm {
            guard left.entry(at: index) == right.entry(at: index) else {
              throw violation(
                .logMatching, "\(left.id) and \(right.id) agree behind \(index) and not there")
            }
            doesAgree = true
          }
        }
      }
    }
  }

  /// Why the cluster is not well yet; nil when it is: one leader, one log, one state, and nobody waits for anything.
  func trouble() -> Violation? {
    let leaders = nodes.filter { $0.raft?.role == .leader }
    guard leaders.count == 1, let leader = leaders.first, leader.role == .data else {
      return violation(.recovery, "after the calm \(leaders.map(\.id)) lead")
    }
    if let (old, new) = replacement {
      return violation(.recovery, "after the calm \(new) has not taken the place of \(old)")
    }
    let last = leader.raft!.lastPosition
    for member in leader.raft!.membership.members {
      guard let node = node(member.id), let raft = node.raft else {
        return violation(.recovery, "after the calm \(member.id) is down")
      }
      guard raft.lastPosition == last, raft.commit == last.index, raft.applied == last.index else {
        return violation(
          .recovery,
          "after the calm \(member.id) has \(raft.lastPosition), commit \(raft.commit), applied \(raft.applied), "
            + "the leader \(leader.id) has \(last)")
      }
      guard node.role == .witness || node.machine == leader.machine else {
        return violation(
          .state, "after the calm the states of \(member.id) and \(leader.id) differ")
      }
    }
    if let client = clients.first(where: { $0.current != nil }) {
      return violation(.recovery, "after the calm client \(client.number) waits for an answer")
    }
    return nil
  }

  /// Whether clients have stopped, and all that they asked for is done.
  var isSettled: Bool { !mayBegin && trouble() == nil }

  /// After the faults: all is well, and one register could have had each history.
  mutating func finish() throws {
    try checkLogMatching()
    report.commits = ledger.lastCommitted
    report.fingerprint = random.next()
    if let trouble = trouble() { throw trouble }
    guard operationsInCalm > 0 else { throw violation(.recovery, "nothing was done in the calm") }
    let leader = nodes.first { $0.raft?.role == .leader }!
    closeHistories()
    readEverything(leader.machine)
    let checker = LinearizabilityChecker(RegisterModel())
    for (register, calls) in history.sorted(by: { $0.key < $1.key }) {
      switch checker.check(calls) {
      case .linearizable: break
      case .violated(let unplaced):
        let texts = unplaced.prefix(6).map { number in
          let call = calls[number]
          return
            "client \(call.client) \(call.input) -> \(call.output!) in \(call.invoked)...\(call.completed)"
        }
        throw violation(
          .history,
          "register \(register): no order explains \(calls.count) operations; not placed: "
            + texts.joined(separator: "; "))
      case .undecided:
        throw violation(.simulator, "register \(register): the history is too long to decide")
      }
    }
  }

  /// What is there at the end must be explained too: so no acknowledged write is lost.
  private mutating func readEverything(_ machine: RegisterMachine) {
    for register in 0..<configuration.registers {
      history[Int(register), default: []].append(
        Operation(
          client: .max, input: .read, output: .value(machine.value(of: register)),
          invoked: time + 1, completed: time + 2))
    }
  }
}
