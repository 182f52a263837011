import Messages
import Raft
import Replication

/// Messages of the consensus as they travel (`Protos/raft.proto`).
enum MessageCodec {
  static func encode(_ message: Message) -> RaftMessage {
    var result = RaftMessage()
    result.term = message.term
    switch message.body {
    case .requestVote(let request):
      var wire = RaftRequestVote()
      (wire.lastTerm, wire.lastIndex) = (request.last.term, request.last.index)
      (wire.preVote, wire.transfer) = (request.isPreVote, request.isTransfer)
      result.requestVote = wire
    case .vote(let vote):
      var wire = RaftVote()
      (wire.preVote, wire.granted) = (vote.isPreVote, vote.isGranted)
      result.vote = wire
    case .append(let append):
      var wire = RaftAppend()
      (wire.previousTerm, wire.previousIndex) = (append.previous.term, append.previous.index)
      wire.entries = EntryCodec.encode(append.entries)
      wire.commit = append.commit
      result.append = wire
    case .appended(let appended):
      var wire = RaftAppended()
      switch appended {
      case .matched(let index): (wire.matches, wire.matched) = (true, index)
      case .mismatched(let previous, let hint):
        wire.previous = previous
        (wire.hintTerm, wire.hintIndex) = (hint.term, hint.index)
      }
      result.appended = wire
    case .heartbeat(let heartbeat):
      var wire = RaftHeartbeat()
      (wire.commit, wire.matched) = (heartbeat.commit, heartbeat.matched)
      (wire.round, wire.answered) = (heartbeat.round, heartbeat.answered)
      wire.retained = heartbeat.retained
      result.heartbeat = wire
    case .heartbeatAnswer(let answer):
      var wire = RaftHeartbeatAnswer()
      (wire.round, wire.full, wire.stamp) = (answer.round, answer.isFull, answer.stamp)
      result.heartbeatAnswer = wire
    case .installBase(let base): result.installBase = encode(base)
    case .timeoutNow: result.timeoutNow = true
    }
    return result
  }

  /// Nil where it is none that a node sends.
  static func decode(_ wire: RaftMessage, from: NodeID, to: NodeID) -> Message? {
    body(wire).map { Message(from: from, to: to, term: wire.term, body: $0) }
  }

  private static func body(_ wire: RaftMessage) -> Message.Body? {
    if let request = wire.requestVote {
      return .requestVote(
        .init(
          last: Position(term: request.lastTerm, index: request.lastIndex),
          isPreVote: request.preVote, isTransfer: request.transfer))
    }
    if let vote = wire.vote {
      return .vote(.init(isPreVote: vote.preVote, isGranted: vote.granted))
    }
    if let append = wire.append {
      guard let entries = try? EntryCodec.decode(append.entries) else { return nil }
      return .append(
        .init(
          previous: Position(term: append.previousTerm, index: append.previousIndex),
          entries: entries, commit: append.commit))
    }
    if let appended = wire.appended {
      if appended.matches { return .appended(.matched(appended.matched)) }
      return .appended(
        .mismatched(
          previous: appended.previous,
          hint: Position(term: appended.hintTerm, index: appended.hintIndex)))
    }
    if let heartbeat = wire.heartbeat {
      return .heartbeat(
        .init(
          commit: heartbeat.commit, matched: heartbeat.matched, round: heartbeat.round,
          answered: heartbeat.answered, retained: heartbeat.retained))
    }
    if let answer = wire.heartbeatAnswer {
      return .heartbeatAnswer(.init(round: answer.round, isFull: answer.full, stamp: answer.stamp))
    }
    if let base = wire.installBase { return decode(base).map { .installBase($0) } }
    return wire.timeoutNow ? .timeoutNow : nil
  }

  static func encode(_ base: LogBase) -> RaftBase {
    var wire = RaftBase()
    (wire.term, wire.index) = (base.position.term, base.position.index)
    wire.membership = MembershipCodec.encode(base.membership)
    return wire
  }

  static func decode(_ wire: RaftBase) -> LogBase? {
    guard let membership = try? MembershipCodec.decode(wire.membership) else { return nil }
    return LogBase(
      position: Position(term: wire.term, index: wire.index), membership: membership)
  }
}
