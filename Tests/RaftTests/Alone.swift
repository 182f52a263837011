@testable import Raft

/// One node, whose disk is done at once, and what it says to whatever it is told.
struct Alone {
  static let trio = [
    Member(id: "a", role: .data), Member(id: "b", role: .data), Member(id: "w", role: .witness),
  ]

  var raft: Raft
  /// Long enough after the start for it to vote.
  var now: Tick = 1000
  private(set) var said: [Message] = []
  private(set) var actions: [Action] = []
  private(set) var hardState: HardState

  /// - Parameter terms: of the entries of its log, from 1 on.
  init(
    _ id: NodeID, terms: [Term] = [], term: Term? = nil, vote: NodeID? = nil,
    members: [Member] = Alone.trio, configuration: RaftConfiguration = RaftConfiguration()
  ) {
    hardState = HardState(term: term ?? terms.last ?? 0, vote: vote)
    raft = Raft(
      id: id, configuration: configuration, hardState: hardState,
      base: LogBase(membership: Membership(members)), entries: Self.entries(terms), applied: 0,
      now: 0)
  }

  static func entries(_ terms: [Term]) -> [Entry] {
    terms.map { Entry(term: $0, payload: .command(Array("\($0)".utf8))) }
  }

  var terms: [Term] {
    raft.lastPosition.index < raft.firstIndex
      ? [] : (raft.firstIndex...raft.lastPosition.index).map { raft.term(at: $0)! }
  }

  /// What it says in answer.
  @discardableResult
  mutating func happen(_ event: Event) -> [Message] {
    var events = [event]
    (actions, said) = ([], [])
    while !events.isEmpty {
      for action in raft.step(events.removeFirst(), at: now) {
        actions.append(action)
        if case .send(let message) = action { said.append(message) }
        if case .persist(let persist) = action {
          hardState = persist.hardState ?? hardState
          events.append(.persisted(number: persist.number))
        }
      }
    }
    return said
  }

  @discardableResult
  mutating func hear(_ body: Message.Body, from: NodeID, term: Term) -> [Message] {
    happen(.received(Message(from: from, to: raft.id, term: term, body: body)))
  }

  @discardableResult
  mutating func append(
    from: NodeID = "a", term: Term, behind previous: Position = .zero, _ terms: [Term] = [],
    commit: Index = 0
  ) -> [Message] {
    hear(
      .append(.init(previous: previous, entries: Self.entries(terms), commit: commit)),
      from: from, term: term)
  }

  @discardableResult
  mutating func heartbeat(
    from: NodeID = "a", term: Term, commit: Index = 0, matched: Index = 0, round: UInt64 = 1,
    answered: UInt64 = 0
  ) -> [Message] {
    hear(
      .heartbeat(
        .init(commit: commit, matched: matched, round: round, answered: answered, retained: 0)),
      from: from, term: term)
  }

  /// Whether it votes, if it says.
  mutating func vote(
    for candidate: NodeID, term: Term, last: Position, isPreVote: Bool = false,
    isTransfer: Bool = false
  ) -> Bool? {
    let answer = hear(
      .requestVote(.init(last: last, isPreVote: isPreVote, isTransfer: isTransfer)),
      from: candidate, term: term)
    guard case .vote(let vote) = answer.first?.body else { return nil }
    return vote.isGranted
  }

  /// Stands for election and wins by the vote of `voter`; returns what it says as leader.
  @discardableResult
  mutating func lead(by voter: NodeID = "b") -> [Message] {
    now += 300
    happen(.tick)
    hear(
      .vote(.init(isPreVote: true, isGranted: true)), from: voter, term: raft.hardState.term + 1)
    return hear(
      .vote(.init(isPreVote: false, isGranted: true)), from: voter, term: raft.hardState.term)
  }
}

extension [Message] {
  var appends: [Message.Append] {
    compactMap { if case .append(let append) = $0.body { append } else { nil } }
  }
  var answers: [Message.Appended] {
    compactMap { if case .appended(let answer) = $0.body { answer } else { nil } }
  }
  func to(_ id: NodeID) -> [Message] { filter { $0.to == id } }
}
