extension Raft {
  mutating func receive(_ append: Message.Append, from node: NodeID) {
    // Terms never fall along a log, nor rise above the leader's: whatever says otherwise was made by nobody who leads.
    var term = append.previous.term
    for entry in append.entries {
      guard entry.term >= term, entry.term <= hardState.term else { return }
      term = entry.term
    }
    // What lies before the base is committed, and so is the same there.
    let known = log.base.position.index
    let skipped =
      append.previous.index < known
      ? Int(min(known - append.previous.index, UInt64(append.entries.count))) : 0
    let previousIndex = append.previous.index + UInt64(skipped)
    if previousIndex < known {
      sendWhenDurable(.appended(.matched(known)), to: node)
      return
    }
    if skipped == 0 && log.term(at: previousIndex) != append.previous.term {
      refuse(append, from: node)
      return
    }
    var entries = append.entries.dropFirst(skipped)
    var next = previousIndex + 1
    let end = previousIndex + UInt64(entries.count)
    let isTruncating = configuration.mutant == .truncatesOnEveryAppend
    while let entry = entries.first, log.term(at: next) == entry.term, !isTruncating {
      entries = entries.dropFirst()
      next += 1
    }
    if !entries.isEmpty || isTruncating {
      if next <= log.lastIndex {
        guard next > commit || isTruncating else {
          halt(
            "the leader \(node) of term \(hardState.term) contradicts entry \(next), which was committed"
          )
          return
        }
        cut(from: max(next, commit + 1))
        let missing = Int(log.lastIndex + 1 - next)
        entries = entries.dropFirst(missing)
      }
      self.append(Array(entries))
    }
    matchedIndex = max(matchedIndex, end)
    commit = max(commit, min(append.commit, matchedIndex))
    refreshMembership()
    sendWhenDurable(.appended(.matched(end)), to: node)
  }

  private mutating func cut(from index: Index) {
    guard index <= log.lastIndex else { return }
    log.truncate(from: index)
    firstNewIndex = min(firstNewIndex ?? .max, index)
    refreshMembership()
  }

  /// Says where to look next: the last entry here that is not behind `previous` in index or term.
  private mutating func refuse(_ append: Message.Append, from node: NodeID) {
    var index = min(append.previous.index, log.lastIndex)
    while index > log.base.position.index, log.term(at: index)! > append.previous.term {
      index -= 1
    }
    let hint = Position(term: log.term(at: index)!, index: index)
    sendWhenDurable(
      .appended(.mismatched(previous: append.previous.index, hint: hint)), to: node)
  }

  mutating func receive(_ heartbeat: Message.Heartbeat, from node: NodeID) {
    guard heartbeat.matched <= log.lastIndex else {
      halt(
        "entries up to \(heartbeat.matched) were acknowledged to \(node) in term \(hardState.term), the log ends at "
          + "\(log.last)")
      return
    }
    matchedIndex = max(matchedIndex, heartbeat.matched)
    commit = max(commit, min(heartbeat.commit, matchedIndex))
    retained = max(retained, heartbeat.retained)
    refreshMembership()
    // Where others than it and the leader are a quorum, another leader may have been elected by then.
    let isBacked = membership.isQuorum { $0 == id || $0 == node }
    let stamp = freshness.heard(heartbeat, isBacked: isBacked, at: now)
    let answer = Message.Body.heartbeatAnswer(
      .init(round: heartbeat.round, isFull: isWitness && isLogFull, stamp: stamp))
    // It says that this node is in this term; nothing about the log, for which a slow disk may still be busy.
    if hasNewHardState || durability.hardStateNumber > durability.doneNumber {
      sendWhenDurable(answer, to: node)
    } else {
      send(answer, to: node)
    }
  }

  /// A witness keeps no state: to know where the log begins is all the snapshot it needs.
  mutating func receive(_ base: LogBase, from node: NodeID) {
    guard isWitness else { return }
    if base.position.index > commit { reset(to: base) }
    sendWhenDurable(.appended(.matched(base.position.index)), to: node)
  }

  /// A snapshot holds only what is committed: whoever sent it, it is right.
  mutating func install(_ base: LogBase) {
    guard base.position.index > commit, role != .leader, !isWitness else {
      actions.append(.discardSnapshot)
      return
    }
    actions.append(.installSnapshot(base))
    reset(to: base)
    if let leader {
      sendWhenDurable(.appended(.matched(base.position.index)), to: leader)
    }
  }

  private mutating func reset(to base: LogBase) {
    if log.term(at: base.position.index) == base.position.term {
      // What stands behind it agrees with it, and may have been acknowledged.
      log.compact(through: base.position.index)
    } else {
      log.reset(to: base)
    }
    newBase = log.base
    commit = base.position.index
    applied = base.position.index
    checkpoint = base.position.index
    matchedIndex = max(matchedIndex, base.position.index)
    refreshMembership()
  }
}

/// How old a follower's knowledge may be, by its own clock alone: a leader that repeats the stamp of an answer spoke after that
/// answer was given.
struct Freshness: Sendable {
  /// Of the last answer. Another process of the same node, earlier or later, has others: what a leader repeats of those says
  /// nothing of this one's clock.
  private(set) var stamp: UInt64
  private var answers: [(stamp: UInt64, tick: Tick)] = []
  /// At this time no more than this had been committed. That stays true, whatever leaders come.
  private(set) var point: (tick: Tick, commit: Index)?

  init(stamp: UInt64) { self.stamp = stamp }

  /// Returns the stamp of the answer.
  mutating func heard(_ heartbeat: Message.Heartbeat, isBacked: Bool, at now: Tick) -> UInt64 {
    if isBacked, let answer = answers.last(where: { $0.stamp == heartbeat.answered }),
      answer.tick >= point?.tick ?? 0
    {
      point = (answer.tick, heartbeat.commit)
    }
    stamp &+= 1
    answers.append((stamp, now))
    // As many as may be on their way there and back over the slowest link.
    if answers.count > 512 { answers.removeFirst(256) }
    return stamp
  }

  /// Another leader repeats nothing that was said to an earlier one.
  mutating func reset() { answers = [] }
}

extension Raft {
  /// This node's state, once it has applied the index given, is no older than so many ticks. Nil where nothing is known.
  /// It grows old, and is known all the same, while nobody leads.
  public func staleness(at now: Tick) -> (ticks: Tick, index: Index)? {
    guard let point = freshness.point, now >= point.tick else { return nil }
    return (now - point.tick, point.commit)
  }

  /// For the simulator's bugs.
  package var lastStamp: UInt64 { freshness.stamp }
}
