@testable import Raft

/// Lines of what happened, for people to read.
struct Story {
  enum Detail { case everything, outcomes }

  var lines: [String] = []
  var detail = Detail.everything
  private var heading: String?

  mutating func say(_ line: String) {
    heading = nil
    lines.append(line)
  }

  /// Shown once something comes of it.
  mutating func head(_ line: String) { heading = line }

  mutating func note(_ id: NodeID, _ action: Action) {
    switch action {
    case .send, .persist, .compact:
      if detail == .outcomes { return }
    default: break
    }
    if let heading { lines.append(heading) }
    heading = nil
    lines.append("  \(id) \(text(action))")
  }

  mutating func note(_ parcel: Parcel, isUp: Bool) {
    guard detail == .everything else { return }
    let what =
      switch parcel {
      case .message(let message): "\(kind(message.body)), term \(message.term)"
      case .snapshot(let snapshot): "snapshot up to \(snapshot.state.base.position)"
      }
    say("\(parcel.from) -> \(parcel.to): \(what)" + (isUp ? "" : "; nobody listens"))
  }

  // MARK: words

  func text(_ action: Action) -> String {
    switch action {
    case .send(let message): "to \(message.to), term \(message.term): \(text(message.body))"
    case .persist(let persist): text(persist)
    case .apply(let first, let entries): "applies \(text(entries, from: first))"
    case .accepted(let id, let position): "takes proposal \(id) as \(position)"
    case .refused(let id, let refusal): "refuses request \(id): \(text(refusal))"
    case .readable(let id, let index): "may answer read \(id) at \(index)"
    case .sendSnapshot(let node, let term): "streams its state to \(node), term \(term)"
    case .installSnapshot(let base): "installs a snapshot up to \(base.position)"
    case .discardSnapshot: "discards the snapshot"
    case .compact(let base): "lets go of its log up to \(base.position)"
    case .leadership(let leadership): "is \(text(leadership))"
    case .halt(let reason): "halts: \(reason)"
    }
  }

  func text(_ leadership: Leadership) -> String {
    switch leadership.role {
    case .follower:
      "follower of \(leadership.leader?.name ?? "nobody") in term \(leadership.term)"
    case .preCandidate: "pre-candidate in term \(leadership.term)"
    case .candidate: "candidate in term \(leadership.term)"
    case .leader: "leader of term \(leadership.term)"
    }
  }

  private func text(_ persist: Persist) -> String {
    var parts: [String] = []
    if let state = persist.hardState {
      parts.append("term \(state.term), vote \(state.vote?.name ?? "free")")
    }
    if let base = persist.reset { parts.append("base \(base.position)") }
    if !persist.entries.isEmpty { parts.append(text(persist.entries, from: persist.first)) }
    return "writes #\(persist.number): " + parts.joined(separator: "; ")
  }

  func text(_ entries: [Entry], from first: Index) -> String {
    entries.enumerated().map { "\($1.term)/\(first + UInt64($0)) \(text($1.payload))" }
      .joined(separator: ", ")
  }

  private func text(_ payload: Payload) -> String {
    switch payload {
    case .nothing: "-"
    case .command(let bytes) where bytes.count > 20: "(\(bytes.count) bytes)"
    case .command(let bytes): String(decoding: bytes, as: UTF8.self)
    case .membership(let membership): text(membership)
    }
  }

  func text(_ membership: Membership) -> String {
    func set(_ members: [Member]) -> String {
      members.map { $0.id.name + ($0.role == .witness ? "(witness)" : "") }
        .joined(separator: " ")
    }
    return "{\(set(membership.members))"
      + (membership.previous.map { " and before \(set($0))" } ?? "") + "}"
  }

  private func text(_ refusal: Refusal) -> String {
    switch refusal {
    case .notLeader(let leadership): "not leader, but \(text(leadership))"
    case .transferring: "handing over"
    case .notReady: "its first entry has not committed"
    case .overloaded: "overloaded"
    case .logFull: "the witness's log is full"
    case .badReplacement: "bad replacement"
    }
  }

  private func kind(_ body: Message.Body) -> String {
    switch body {
    case .requestVote(let request): request.isPreVote ? "pre-vote?" : "vote?"
    case .vote(let vote):
      (vote.isPreVote ? "pre-vote " : "vote ") + (vote.isGranted ? "granted" : "refused")
    case .append(let append):
      "append " + text(append.entries, from: append.previous.index + 1)
    case .appended(let answer): text(answer)
    case .heartbeat(let heartbeat): "heartbeat \(heartbeat.round)"
    case .heartbeatAnswer(let answer):
      "heard heartbeat \(answer.round)" + (answer.isFull ? ", full" : "")
    case .installBase(let base): "base \(base.position)"
    case .timeoutNow: "stand now"
    }
  }

  private func text(_ answer: Message.Appended) -> String {
    switch answer {
    case .matched(let index): "matched \(index)"
    case .mismatched(let previous, let hint): "nothing such at \(previous), look at \(hint)"
    }
  }

  func text(_ body: Message.Body) -> String {
    switch body {
    case .requestVote(let request):
      kind(body) + " my log ends at \(request.last)"
        + (request.isTransfer ? ", the leader asked me" : "")
    case .append(let append):
      "append behind \(append.previous): "
        + (append.entries.isEmpty
          ? "nothing" : text(append.entries, from: append.previous.index + 1))
        + "; commit \(append.commit)"
    case .heartbeat(let heartbeat):
      "heartbeat \(heartbeat.round), commit \(heartbeat.commit), matched \(heartbeat.matched), "
        + "answered \(heartbeat.answered), retained \(heartbeat.retained)"
    case .installBase(let base): "base \(base.position) \(text(base.membership))"
    default: kind(body)
    }
  }
}
