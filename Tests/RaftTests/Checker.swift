@testable import Raft

/// What must hold whatever happens (Raft, figure 3), looked at after every action.
final class Checker {
  private(set) var faults: [String] = []
  /// Up to here somebody knew entries as committed.
  private(set) var committed: Index = 0
  private(set) var elections = 0
  private(set) var readsAnswered = 0
  private(set) var agesKnown = 0
  var now: Tick = 0
  private var commits: [(tick: Tick, index: Index)] = []
  private var chosen: [Index: Entry] = [:]
  private var leaders: [Term: NodeID] = [:]
  private struct Ballot: Hashable {
    let node: NodeID
    let term: Term
  }
  private var votes: [Ballot: NodeID] = [:]
  /// Every entry that was ever in a log, and the term before it.
  private var seen: [Position: (entry: Entry, previous: Term)] = [:]
  /// What had committed when a read was asked.
  private var floors: [UInt64: Index] = [:]

  func asked(_ read: UInt64) { floors[read] = committed }

  private func fault(_ text: String) { faults.append(text) }

  /// What a follower believes of its age is true.
  func look(at id: NodeID, in group: Group) {
    let clock = group.clock(of: id)
    guard let staleness = group.raft(id).staleness(at: clock) else { return }
    agesKnown += 1
    let then = (clock - staleness.ticks) * 100 / UInt64(100 + group.nodes[id]!.skewPercent)
    let index = commits.last { $0.tick < then }?.index ?? 0
    if index > staleness.index {
      fault("\(id) knows \(staleness.index) as of \(then), \(index) had committed")
    }
  }

  func watch(_ id: NodeID, _ action: Action, _ node: Node) {
    switch action {
    case .send(let message): sent(message, by: node)
    case .persist(let persist): logged(persist, by: node.raft!)
    case .apply(let first, let entries): applied(entries, from: first, by: id, node)
    case .leadership(let leadership) where leadership.role == .leader:
      elected(id, leadership.term, node.raft!)
    case .readable(let read, let index):
      readsAnswered += 1
      if index < floors[read]! {
        fault("\(id) answers read \(read) at \(index), \(floors[read]!) had committed")
      }
    case .installSnapshot(let base):
      if base != node.arrived?.base { fault("\(id) installs \(base), \(node.arrived!.base) came") }
      if let entry = chosen[base.position.index], entry.term != base.position.term {
        fault("\(id) installs \(base.position), of term \(entry.term) is what was chosen there")
      }
    case .halt(let reason): fault("\(id) halts: \(reason)")
    default: break
    }
    look(at: id, node.raft!)
  }

  /// What a node says of its disk is true.
  private func sent(_ message: Message, by node: Node) {
    switch message.body {
    case .vote(let vote) where vote.isGranted && !vote.isPreVote:
      let expected = HardState(term: message.term, vote: message.to)
      if node.disk.hardState != expected {
        fault("\(message.from) says \(expected), its disk \(node.disk.hardState)")
      }
      cast(message.to, by: message.from, message.term)
    case .requestVote(let request) where !request.isPreVote:
      cast(message.from, by: message.from, message.term)
    case .appended(.matched(let index)):
      if node.disk.lastIndex < index || node.disk.hardState.term < message.term {
        fault("\(message.from) has \(index), its disk \(node.disk.lastIndex)")
      }
    default: break
    }
  }

  private func cast(_ candidate: NodeID, by id: NodeID, _ term: Term) {
    let ballot = Ballot(node: id, term: term)
    if let other = votes[ballot], other != candidate {
      fault("\(id) votes for \(candidate) and \(other) in term \(term)")
    }
    votes[ballot] = candidate
  }

  /// Log matching: an entry's term and index say what it is and what stands before it.
  private func logged(_ persist: Persist, by raft: Raft) {
    guard !persist.entries.isEmpty, var previous = raft.term(at: persist.first - 1) else { return }
    for (offset, entry) in persist.entries.enumerated() {
      let position = Position(term: entry.term, index: persist.first + UInt64(offset))
      if let known = seen[position], known != (entry, previous) {
        fault("\(raft.id) has \(entry) behind \(previous) at \(position), others \(known)")
      }
      seen[position] = (entry, previous)
      previous = entry.term
    }
  }

  private func applied(_ entries: [Entry], from first: Index, by id: NodeID, _ node: Node) {
    let expected = node.state.base.position.index + 1
    if !node.isWitness, first != expected {
      fault("\(id) applies \(first), next is \(expected)")
    }
    for (offset, entry) in entries.enumerated() { choose(entry, at: first + UInt64(offset), id) }
  }

  private func choose(_ entry: Entry, at index: Index, _ id: NodeID) {
    if let known = chosen[index], known != entry {
      fault("\(id) has chosen \(entry) at \(index), before it was \(known)")
    }
    chosen[index] = entry
    if index > committed {
      committed = index
      commits.append((now, index))
    }
  }

  /// State machine safety.
  private func look(at id: NodeID, _ raft: Raft) {
    var index = raft.commit
    while let entry = raft.entry(at: index) {
      if chosen[index] == entry { break }
      choose(entry, at: index, id)
      index -= 1
    }
  }

  /// Election safety, leader completeness.
  private func elected(_ id: NodeID, _ term: Term, _ raft: Raft) {
    elections += 1
    if let other = leaders[term], other != id { fault("\(id) and \(other) lead in term \(term)") }
    leaders[term] = id
    for index in raft.firstIndex...max(raft.firstIndex, committed) {
      if let entry = chosen[index], raft.entry(at: index) != entry {
        fault("\(id) leads in term \(term) without entry \(entry) at \(index)")
      }
    }
  }
}
