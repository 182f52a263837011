extension Raft {
  mutating func becomeLeader() {
    role = .leader
    leader = id
    // Never below what it held as a follower: a leader does not cut its log.
    leading = LeaderState(firstIndex: log.lastIndex + 1, nextHeartbeat: now)
    refreshMembership()
    append([Entry(term: hardState.term, payload: .nothing)])
    heartbeat()
  }

  mutating func leaderTick() {
    let isHeard = membership.isQuorum { node in
      node == id
        || leading!.progress[node].map {
          now < $0.lastHeard + configuration.longestElectionTicks
        } ?? false
    }
    guard isHeard else {
      // Check-quorum: others may have elected somebody (dissertation, section 6.2).
      becomeFollower(of: nil)
      return
    }
    if let transfer = leading!.transfer, now >= transfer.deadline { leading!.transfer = nil }
    if now >= leading!.nextHeartbeat {
      heartbeat()
      leading!.transfer?.isTold = false
      handOver()
    }
  }

  mutating func heartbeat() {
    leading!.round += 1
    leading!.sentAt.append((leading!.round, now))
    leading!.nextHeartbeat = now + configuration.heartbeatTicks
    let (last, _) = leading!.lastIndexAtHeartbeats
    leading!.lastIndexAtHeartbeats = (log.lastIndex, last)
    for (node, progress) in leading!.progress.sorted(by: { $0.key < $1.key }) {
      leading!.progress[node]!.isDue = true
      let retained = leading!.progress.filter { $0.key != node }.map(\.value.match).min()
      send(
        .heartbeat(
          .init(
            commit: commit, matched: progress.match, round: leading!.round,
            answered: speaksForAll(with: node) ? progress.stamp : 0,
            retained: min(retained ?? .max, durability.index))), to: node)
    }
    advanceRounds()
  }

  /// Whether what is committed here is all that was committed when the node last answered: earlier leaders' entries are known,
  /// and as of the answer nobody else could have been elected without one of the two.
  private func speaksForAll(with node: NodeID) -> Bool {
    commit >= leading!.firstIndex && membership.isQuorum { $0 == id || $0 == node }
  }

  // MARK: proposals

  mutating func propose(_ request: UInt64, _ payload: Payload) {
    guard role == .leader, !isWitness else {
      actions.append(.refused(id: request, .notLeader(leadership)))
      return
    }
    if let refusal = refusal(of: payload) {
      actions.append(.refused(id: request, refusal))
      return
    }
    append([Entry(term: hardState.term, payload: payload)])
    actions.append(.accepted(id: request, position: log.last))
  }

  private func refusal(of payload: Payload) -> Refusal? {
    if leading!.transfer != nil { return .transferring }
    // The only way to make room may be to replace the node that is away.
    if case .membership = payload { return nil }
    let isFull = leading!.progress.contains { $0.value.isFull }
    // Without the witness nothing commits unless all the others answer.
    if isFull
      && !membership.isQuorum({ node in
        node == id
          || leading!.progress[node].map {
            !$0.isFull && now < $0.lastHeard + configuration.longestElectionTicks
          } ?? false
      })
    {
      return .logFull
    }
    let uncommitted = log.sizeBytes - log.bytes(through: commit)
    return uncommitted >= configuration.maximumUncommittedBytes ? .overloaded : nil
  }

  mutating func replace(_ request: UInt64, _ old: NodeID, _ new: Member) {
    guard role == .leader, !isWitness else {
      actions.append(.refused(id: request, .notLeader(leadership)))
      return
    }
    // Before its first entry has committed, a leader may not know the membership (raft-dev list, 2015).
    guard commit >= leading!.firstIndex else {
      actions.append(.refused(id: request, .notReady))
      return
    }
    guard old != id, let changed = membership.replacing(old, by: new) else {
      actions.append(.refused(id: request, .badReplacement))
      return
    }
    propose(request, .membership(changed))
  }

  // MARK: replication

  mutating func advanceCommit() {
    let index = membership.quorumValue { node in
      node == id ? durability.index : leading!.progress[node]?.match ?? 0
    }
    guard index > commit,
      log.term(at: index) == hardState.term || configuration.mutant == .commitsEarlierTerms
    else { return }
    commit = index
    let change = log.latestMembership.index
    if commit >= change && membership.previous != nil {
      // Both majorities have it: the old members are dismissed, by an entry, so that nobody has to know the commit.
      append([Entry(term: hardState.term, payload: .membership(membership.settled))])
    } else if commit >= change && !membership.members.contains(where: { $0.id == id }) {
      // Replaced: the entry that says so is committed, and the others go on.
      becomeFollower(of: nil)
      return
    }
    handOver()
  }

  mutating func replicate() {
    let areTogether = configuration.sparesWitness && dataNodesAreTogether
    for node in leading!.progress.keys.sorted() {
      if areTogether && isSpared(node) { continue }
      sendEntries(to: node)
      if let progress = leading?.progress[node], progress.next > log.lastIndex {
        leading!.progress[node]!.isDue = false
      }
    }
  }

  /// All other data nodes answer, and have what the log held two heartbeats ago: what is proposed now will commit without the
  /// witness.
  private var dataNodesAreTogether: Bool {
    guard !isWitness, membership.previous == nil else { return false }
    let others = membership.members.filter { $0.role == .data && $0.id != id }
    return !others.isEmpty
      && others.allSatisfy { member in
        guard let progress = leading!.progress[member.id] else { return false }
        return progress.state == .replicate
          && now < progress.lastHeard + 2 * configuration.heartbeatTicks
          && progress.match >= leading!.lastIndexAtHeartbeats.earlier
      }
  }

  private func isSpared(_ node: NodeID) -> Bool {
    guard let progress = leading!.progress[node], !progress.isDue, progress.state == .replicate,
      membership.member(node)?.role == .witness
    else { return false }
    return log.bytes(through: log.lastIndex) - log.bytes(through: progress.next - 1)
      < configuration.maximumWitnessLagBytes
  }

  private mutating func sendEntries(to node: NodeID) {
    while role == .leader, let progress = leading!.progress[node] {
      guard progress.state != .snapshot, !progress.isPaused else { return }
      if progress.state == .replicate {
        guard progress.next <= log.lastIndex,
          progress.inFlight.count < configuration.maximumInFlight
        else { return }
      } else if progress.match == log.lastIndex {
        return
      }
      guard let previousTerm = log.term(at: progress.next - 1) else {
        sendState(to: node)
        return
      }
      let entries = log.slice(from: progress.next, maximumBytes: configuration.maximumAppendBytes)
      send(
        .append(
          .init(
            previous: Position(term: previousTerm, index: progress.next - 1), entries: entries,
            commit: commit)), to: node)
      if progress.state == .probe {
        leading!.progress[node]!.isPaused = true
        return
      }
      leading!.progress[node]!.next += UInt64(entries.count)
      leading!.progress[node]!.inFlight.append(progress.next + UInt64(entries.count) - 1)
    }
  }

  /// Its next entry has been let go of.
  private mutating func sendState(to node: NodeID) {
    if membership.member(node)?.role == .witness {
      send(.installBase(log.base), to: node)
      leading!.progress[node]!.isPaused = true
    } else {
      leading!.progress[node]!.state = .snapshot
      // A witness has no state to send; a data node that is up to date will.
      if !isWitness { actions.append(.sendSnapshot(to: node, term: hardState.term)) }
    }
  }

  mutating func snapshotSent(_ node: NodeID, _ installed: Index?) {
    guard role == .leader, var progress = leading!.progress[node], progress.state == .snapshot
    else { return }
    // What it has, it says itself when it answers the probe.
    progress.probe(from: (installed ?? progress.match) + 1)
    // After a failure, not before it answers again.
    progress.isPaused = installed == nil
    leading!.progress[node] = progress
  }

  mutating func appended(_ answer: Message.Appended, by node: NodeID) {
    guard role == .leader, var progress = leading!.progress[node] else { return }
    progress.lastHeard = now
    switch answer {
    case .matched(let index):
      // Beyond the log: not an answer to anything this leader sent.
      if index <= log.lastIndex {
        if progress.state == .snapshot && index + 1 >= log.firstIndex {
          progress.probe(from: index + 1)
        }
        progress.matched(index)
      }
    case .mismatched(let previous, let hint):
      let isCurrent =
        progress.state == .probe ? previous == progress.next - 1 : previous > progress.match
      if progress.state != .snapshot && isCurrent {
        progress.probe(from: nextProbe(before: previous, hint))
      }
    }
    leading!.progress[node] = progress
    advanceCommit()
    if role == .leader { handOver() }
  }

  /// The last index here, not behind the hint, at which the logs may agree.
  private func nextProbe(before previous: Index, _ hint: Position) -> Index {
    var index = min(hint.index, previous - 1, log.lastIndex)
    while index > log.base.position.index, log.term(at: index)! > hint.term { index -= 1 }
    return index + 1
  }

  mutating func answered(_ answer: Message.HeartbeatAnswer, by node: NodeID) {
    guard role == .leader, var progress = leading!.progress[node] else { return }
    progress.lastHeard = now
    if answer.round >= progress.round {
      progress.isFull = answer.isFull
      progress.stamp = answer.stamp
    }
    progress.round = max(progress.round, min(answer.round, leading!.round))
    progress.isPaused = false
    if progress.state == .replicate && progress.match < log.lastIndex {
      // If an append was lost, the answer to this one shows it.
      if let previousTerm = log.term(at: progress.next - 1) {
        send(
          .append(
            .init(
              previous: Position(term: previousTerm, index: progress.next - 1), entries: [],
              commit: commit)), to: node)
      } else {
        // What is on its way may be lost, and cannot be sent again.
        progress.probe(from: progress.match + 1)
      }
    }
    leading!.progress[node] = progress
    advanceRounds()
  }
}
