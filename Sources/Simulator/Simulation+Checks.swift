import Raft

/// What has been seen of all nodes together, against which each step of each node is held.
struct Ledger {
  /// Who led in each term.
  private var leaders: [Term: NodeID] = [:]
  /// What is committed, for ever.
  private(set) var committed: [Entry] = []
  /// The state after each command, as the first who got there had it.
  private var states: [Index: UInt64] = [:]
  /// Of each node: term and commit when last looked at.
  private var seen: [NodeID: (term: Term, commit: Index)] = [:]

  var lastCommitted: Index { UInt64(committed.count) }

  mutating func restarted(_ raft: Raft) throws { seen[raft.id] = nil }

  mutating func look(_ raft: Raft, _ simulation: Simulation) throws {
    let before = seen[raft.id]
    seen[raft.id] = (raft.hardState.term, raft.commit)
    if let before, raft.hardState.term < before.term || raft.commit < before.commit {
      throw simulation.violation("\(raft.id) went back from \(before)")
    }
    if raft.role == .leader { try lead(raft, simulation) }
    for index in (before?.commit ?? raft.firstIndex - 1)..<raft.commit {
      try commit(index + 1, of: raft, simulation)
    }
  }

  private mutating func lead(_ raft: Raft, _ simulation: Simulation) throws {
    let term = raft.hardState.term
    guard leaders[term] == nil else {
      if leaders[term] != raft.id {
        throw simulation.violation("\(leaders[term]!) and \(raft.id) both lead in term \(term)")
      }
      return
    }
    leaders[term] = raft.id
    // Leader completeness (Raft, figure 3).
    guard raft.lastPosition.index > lastCommitted || lastCommitted == 0 else {
      throw simulation.violation(
        "\(raft.id) leads in term \(term), its log ends at \(raft.lastPosition), \(lastCommitted) is committed"
      )
    }
    guard raft.firstIndex <= lastCommitted else { return }
    for index in raft.firstIndex...lastCommitted
    where raft.entry(at: index) != committed[Int(index) - 1] {
      throw simulation.violation(
        "\(raft.id) leads in term \(term) without entry \(index), which is committed")
    }
  }

  private mutating func commit(_ index: Index, of raft: Raft, _ simulation: Simulation) throws {
    guard let entry = raft.entry(at: index) else {
      // Installed with a snapshot.
      guard index < raft.firstIndex, index <= lastCommitted else {
        throw simulation.violation("\(raft.id) commits \(index), which it does not have")
      }
      return
    }
    if index <= lastCommitted {
      guard committed[Int(index) - 1] == entry else {
        throw simulation.violation(
          "\(raft.id) commits \(entry.term)/\(index), \(committed[Int(index) - 1].term)/\(index) is committed"
        )
      }
    } else {
      guard index == lastCommitted + 1 else {
        throw simulation.violation("\(raft.id) commits \(index) behind \(lastCommitted)")
      }
      committed.append(entry)
    }
  }

  mutating func applied(
    _ entry: Entry, at index: Index, by node: NodeID, _ simulation: Simulation
  ) throws {
    // Commit and application happen in one step; the commit is looked at behind it.
    guard index > lastCommitted || committed[Int(index) - 1] == entry else {
      throw simulation.violation("\(node) applies another entry \(index) than was committed")
    }
  }

  mutating func state(
    _ machine: RegisterMachine, by node: NodeID, _ simulation: Simulation
  ) throws {
    let index = machine.base.position.index
    if let known = states[index], known != machine.hash {
      throw simulation.violation("\(node) has another state than others had at \(index)")
    }
    states[index] = machine.hash
  }
}

extension Simulation {
  mutating func check(_ raft: Raft) throws {
    try ledger.look(raft, self)
    // Comparing whole logs each time would make the simulation slow.
    if chance(2) { try checkLogMatching() }
  }

  /// Logs that agree in one entry agree in all before it (Raft, figure 3).
  func checkLogMatching() throws {
    let rafts = nodes.values.compactMap(\.raft)
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
              throw violation("\(left.id) and \(right.id) agree behind \(index) and not there")
            }
            doesAgree = true
          }
        }
      }
    }
  }

  /// After the faults: one leader, one log, one state, and a history that one register could have had.
  mutating func finish() throws {
    try checkLogMatching()
    report.commits = ledger.lastCommitted
    let leaders = nodes.values.filter { $0.raft?.role == .leader }
    guard leaders.count == 1, let leader = leaders.first, leader.role == .data else {
      throw violation("after the calm \(leaders.map(\.id)) lead")
    }
    let last = leader.raft!.lastPosition
    for member in leader.raft!.membership.members {
      guard let node = nodes[member.id], let raft = node.raft else {
        throw violation("after the calm \(member.id) is down")
      }
      guard raft.lastPosition == last, raft.commit == last.index, raft.applied == last.index else {
        throw violation(
          "after the calm \(member.id) has \(raft.lastPosition), commit \(raft.commit), applied \(raft.applied), "
            + "the leader \(leader.id) has \(last)")
      }
      guard node.role == .witness || node.machine == leader.machine else {
        throw violation("after the calm the states of \(member.id) and \(leader.id) differ")
      }
    }
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
          "register \(register): no order explains \(calls.count) operations; not placed: "
            + texts.joined(separator: "; "))
      case .undecided: throw violation("register \(register): the history is too long to decide")
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
