extension Raft {
  mutating func tick() {
    guard role != .leader else {
      leaderTick()
      return
    }
    guard now >= electionDeadline else {
      // A voter may have heard the last leader a little later, and not have listened when it was asked before.
      if role == .preCandidate && now >= nextPreVote { askForPreVotes() }
      return
    }
    postponeElection()
    // Nobody has led for so long: also who does not stand says so.
    if role == .follower { leader = nil }
    // A node that is being replaced too: until that has committed, it may be the only one that can lead.
    guard let member = membership.member(id) else { return }
    // A witness stands only for the sake of a data node that cannot win because it is behind.
    guard member.role == .data || hasSeenCandidateBehind else { return }
    campaign(.pre)
  }

  mutating func postponeElection() {
    electionDeadline =
      now + configuration.electionTicks + draw(below: configuration.electionSpreadTicks + 1)
  }

  enum Campaign { case pre, real, transfer }

  mutating func campaign(_ kind: Campaign) {
    votes = [:]
    campaignNumber = nil
    leading = nil
    leader = nil
    postponeElection()
    if kind == .pre {
      role = .preCandidate
      askForPreVotes()
      count(vote: true, from: id)
    } else {
      role = .candidate
      enter(HardState(term: hardState.term + 1, vote: id))
      for node in others {
        sendWhenDurable(
          .requestVote(
            .init(last: log.last, isPreVote: false, isTransfer: kind == .transfer)), to: node)
      }
      // Its own vote counts once it is durable.
    }
  }

  private mutating func askForPreVotes() {
    nextPreVote = now + configuration.heartbeatTicks
    for node in others where votes[node] != true {
      actions.append(
        .send(
          Message(
            from: id, to: node, term: hardState.term + 1,
            body: .requestVote(.init(last: log.last, isPreVote: true)))))
    }
  }

  /// Begins a term.
  private mutating func enter(_ state: HardState) {
    hardState = state
    hasNewHardState = true
    matchedIndex = 0
    freshness.reset()
  }

  var others: [NodeID] { membership.everyone.map(\.id).filter { $0 != id } }

  mutating func count(vote: Bool, from node: NodeID) {
    if votes[node] == nil { votes[node] = vote }
    if membership.isQuorum({ votes[$0] == true }) {
      if role == .preCandidate { campaign(.real) } else { becomeLeader() }
    } else if membership.isQuorum({ votes[$0] == false }) {
      becomeFollower(of: nil)
    }
  }

  /// Back to following, in this term or a later one.
  mutating func becomeFollower(of leader: NodeID?, term: Term? = nil) {
    if let term, term > hardState.term { enter(HardState(term: term)) }
    if role != .follower || self.leader != leader { postponeElection() }
    role = .follower
    self.leader = leader
    if let leading {
      self.leading = nil
      for read in leading.reads {
        actions.append(.refused(id: read.id, .notLeader(leadership)))
      }
    }
  }

  // MARK: messages

  mutating func receive(_ message: Message) {
    precondition(message.to == id, "\(id) was given a message to \(message.to)")
    if case .requestVote(let request) = message.body {
      vote(on: request, by: message.from, term: message.term)
      return
    }
    if case .vote(let vote) = message.body {
      voted(vote, by: message.from, term: message.term)
      return
    }
    if message.term < hardState.term {
      // A leader of an earlier term cannot know; told, it follows.
      switch message.body {
      case .append, .heartbeat, .installBase, .timeoutNow:
        sendWhenDurable(.heartbeatAnswer(.init(round: 0, stamp: 0)), to: message.from)
      default: break
      }
      return
    }
    switch message.body {
    case .append, .heartbeat, .installBase:
      guard role != .leader || message.term > hardState.term else {
        halt("\(message.from) leads in term \(message.term), as this node does")
        return
      }
      if message.term > hardState.term || leader != message.from || role != .follower {
        becomeFollower(of: message.from, term: message.term)
      }
      lastHeard = now
      hasSeenCandidateBehind = false
      postponeElection()
    default:
      if message.term > hardState.term { becomeFollower(of: nil, term: message.term) }
    }
    switch message.body {
    case .append(let append): receive(append, from: message.from)
    case .heartbeat(let heartbeat): receive(heartbeat, from: message.from)
    case .installBase(let base): receive(base, from: message.from)
    case .appended(let answer): appended(answer, by: message.from)
    case .heartbeatAnswer(let answer): answered(answer, by: message.from)
    case .timeoutNow: timeoutNow(from: message.from)
    case .requestVote, .vote: break
    }
  }

  private mutating func timeoutNow(from node: NodeID) {
    guard role == .follower, leader == node, membership.member(id)?.role == .data else { return }
    campaign(.transfer)
  }

  /// Whether this node has promised to stand by a leader for now.
  private var isBound: Bool {
    if role == .leader { return true }
    if now < mutedUntil { return true }
    return lastHeard.map { now < $0 + configuration.electionTicks } ?? false
  }

  private mutating func vote(on request: Message.RequestVote, by node: NodeID, term: Term) {
    // Not even the term of somebody who stands against a living leader is taken over (dissertation, section 4.2.3).
    if isBound && !request.isTransfer { return }
    if !request.isPreVote && term > hardState.term { becomeFollower(of: nil, term: term) }
    let isUpToDate = request.last >= log.last
    let isFree =
      request.isPreVote
      ? term > hardState.term
      : term == hardState.term && (hardState.vote == node || hardState.vote == nil)
        && leader == nil
    if !isUpToDate && term >= hardState.term && isWitness
      && membership.member(node)?.role == .data && !hasSeenCandidateBehind
    {
      hasSeenCandidateBehind = true
      electionDeadline = now + draw(below: configuration.heartbeatTicks)
    }
    if request.isPreVote {
      // What is granted is the term asked for; a refusal names the one that stands against it.
      let answer = Message(
        from: id, to: node, term: isFree && isUpToDate ? term : hardState.term,
        body: .vote(.init(isPreVote: true, isGranted: isFree && isUpToDate)))
      actions.append(.send(answer))
      return
    }
    if isFree && isUpToDate {
      if hardState.vote != node {
        hardState.vote = node
        hasNewHardState = true
      }
      postponeElection()
      sendWhenDurable(.vote(.init(isPreVote: false, isGranted: true)), to: node)
    } else {
      sendWhenDurable(.vote(.init(isPreVote: false, isGranted: false)), to: node)
    }
  }

  private mutating func voted(_ vote: Message.Vote, by node: NodeID, term: Term) {
    if vote.isPreVote && vote.isGranted {
      guard role == .preCandidate, term == hardState.term + 1 else { return }
    } else {
      if term > hardState.term {
        becomeFollower(of: nil, term: term)
        return
      }
      guard term == hardState.term, role == (vote.isPreVote ? .preCandidate : .candidate) else {
        return
      }
    }
    guard membership.member(node) != nil else { return }
    count(vote: vote.isGranted, from: node)
  }

  /// Whoever listened there does not any more: no need to wait for a random while longer.
  mutating func unreachable(_ node: NodeID) {
    if role == .leader {
      if let state = leading!.progress[node]?.state, state == .replicate {
        leading!.progress[node]!.probe(from: leading!.progress[node]!.match + 1)
      }
    } else if node == leader, let lastHeard {
      electionDeadline = min(electionDeadline, lastHeard + configuration.electionTicks)
    }
  }
}
