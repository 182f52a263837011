import Raft
import Replication

/// Bugs that the simulator must see.
public enum SimulationMutant: String, CaseIterable, Sendable {
  // Those of which the literature and our own models know.
  case witnessForgetsLog
  case forgetsVote
  case forgetsTerm
  case acknowledgesWithoutRecording
  case votesWithoutLogCheck
  case comparesTermOnly
  case comparesIndexOnly
  case commitsEarlierTerms
  case truncatesOnEveryAppend
  case dataNodeLosesTail
  // Canaries for checks that none of these has to set off.
  case answersReadsUnasked
  case trustsHeartbeats
  case appendsAnywhere
  case appliesDifferently
  case witnessKeepsLeading
  case journalMissesRot

  /// The checks of which at least one has to see it.
  public var seenBy: Set<Simulation.Violation.Kind> {
    switch self {
    case .forgetsVote: [.twoLeaders]
    case .forgetsTerm: [.twoLeaders, .lostCommit]
    case .acknowledgesWithoutRecording, .dataNodeLosesTail: [.halt]
    case .witnessForgetsLog, .votesWithoutLogCheck, .comparesTermOnly, .comparesIndexOnly,
      .commitsEarlierTerms:
      [.lostCommit]
    case .truncatesOnEveryAppend: [.lostCommit, .halt]
    case .answersReadsUnasked: [.history]
    case .trustsHeartbeats: [.staleness]
    case .appendsAnywhere: [.logMatching]
    case .appliesDifferently: [.state]
    case .witnessKeepsLeading: [.recovery]
    case .journalMissesRot: [.start]
    }
  }

  /// Those of the consensus itself, which no change of what goes in or out could imitate.
  var inside: RaftConfiguration.Mutant? {
    switch self {
    case .commitsEarlierTerms: .commitsEarlierTerms
    case .truncatesOnEveryAppend: .truncatesOnEveryAppend
    default: nil
    }
  }

  /// At a restart.
  func forget(_ stored: inout StoredLog, role: Member.Role) {
    switch self {
    case .witnessForgetsLog where role == .witness: stored.entries = []
    case .forgetsVote: stored.hardState.vote = nil
    case .dataNodeLosesTail where role == .data:
      stored.entries.removeLast(min(2, stored.entries.count))
    default: break
    }
  }

  /// On the way to the journal.
  func change(_ persist: inout Persist, at node: SimulatedNode) {
    switch self {
    case .acknowledgesWithoutRecording where node.role == .witness:
      // Only the term and the vote reach the disk.
      persist = Persist(number: persist.number, hardState: persist.hardState)
    case .forgetsTerm:
      // It is known no better than from the entries.
      let term = persist.entries.last?.term ?? persist.reset?.position.term ?? 0
      node.termOfEntries = max(node.termOfEntries, term)
      persist.hardState = HardState(term: node.termOfEntries)
    default: break
    }
  }

  /// On the way to a node.
  func change(_ message: inout Message, for receiver: Raft) {
    switch message.body {
    case .requestVote(var request):
      switch self {
      case .votesWithoutLogCheck: request.last = Position(term: .max, index: .max)
      case .comparesTermOnly: request.last.index = .max
      case .comparesIndexOnly:
        request.last.term = max(request.last.term, receiver.lastPosition.term)
      default: return
      }
      message.body = .requestVote(request)
    case .heartbeat(var heartbeat) where self == .trustsHeartbeats:
      heartbeat.answered = receiver.lastStamp
      message.body = .heartbeat(heartbeat)
    case .append(var append) where self == .appendsAnywhere:
      append.previous.term = receiver.term(at: append.previous.index) ?? append.previous.term
      message.body = .append(append)
    default: break
    }
  }

  /// Whether this node is in order to refuse the message.
  func loses(_ message: Message) -> Bool {
    if self == .witnessKeepsLeading, case .timeoutNow = message.body {
      return message.from.name.first == "w" || message.from.name.first == "v"
    }
    return false
  }
}
