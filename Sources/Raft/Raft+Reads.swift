extension Raft {
  mutating func read(_ request: UInt64) {
    guard role == .leader, !isWitness else {
      actions.append(.refused(id: request, .notLeader(leadership)))
      return
    }
    guard commit >= leading!.firstIndex else {
      actions.append(.refused(id: request, .notReady))
      return
    }
    if hasLease {
      actions.append(.readable(id: request, index: commit))
      return
    }
    // One heartbeat at a time serves all reads that came before it.
    let isUnderWay = leading!.reads.contains { $0.round <= leading!.round }
    leading!.reads.append(.init(id: request, round: leading!.round + 1, index: commit))
    if !isUnderWay { heartbeat() }
  }

  /// Whether nobody else can lead now: a quorum answered a heartbeat that was sent so recently that none of them votes
  /// for anybody yet (dissertation, section 6.4.1).
  public var hasLease: Bool {
    guard let leading, configuration.readsUseLease, !leading.hasForfeitedLease,
      let start = leading.leaseStart
    else { return false }
    return now < start + configuration.leaseTicks
  }

  /// A quorum has answered up to a later heartbeat than before.
  mutating func advanceRounds() {
    let round = membership.quorumValue { node in
      node == id ? leading!.round : leading!.progress[node]?.round ?? 0
    }
    guard round > leading!.quorumRound else { return }
    leading!.quorumRound = round
    if let sent = leading!.sentAt.last(where: { $0.round <= round }) {
      leading!.leaseStart = sent.tick
    }
    leading!.sentAt.removeAll { $0.round <= round }
    let ready = leading!.reads.filter { $0.round <= round }
    leading!.reads.removeAll { $0.round <= round }
    for read in ready { actions.append(.readable(id: read.id, index: read.index)) }
    if !leading!.reads.isEmpty && leading!.reads.allSatisfy({ $0.round > leading!.round }) {
      heartbeat()
    }
  }

  // MARK: handing over

  mutating func transfer(to target: NodeID?) {
    guard role == .leader, leading!.transfer == nil else { return }
    let candidates = membership.members.filter { $0.role == .data && $0.id != id }.map(\.id)
    let best = candidates.max { left, right in
      leading!.progress[left]!.match < leading!.progress[right]!.match
    }
    guard let chosen = target ?? best, candidates.contains(chosen) else { return }
    leading!.transfer = .init(target: chosen, deadline: now + configuration.electionTicks)
    handOver()
  }

  /// Tells the chosen one to stand for election once it has the whole log. A witness hands over by itself.
  mutating func handOver() {
    if isWitness && leading!.transfer == nil {
      let ready = membership.everyone.filter {
        $0.role == .data && leading!.progress[$0.id]?.match == log.lastIndex
      }
      // What has the log may be dead since.
      let best = ready.max { left, right in
        leading!.progress[left.id]!.lastHeard < leading!.progress[right.id]!.lastHeard
      }
      if let best {
        leading!.transfer = .init(target: best.id, deadline: now + configuration.electionTicks)
      }
    }
    guard let transfer = leading!.transfer, !transfer.isTold,
      leading!.progress[transfer.target]?.match == log.lastIndex
    else { return }
    leading!.transfer!.isTold = true
    leading!.hasForfeitedLease = true
    send(.timeoutNow, to: transfer.target)
  }
}
