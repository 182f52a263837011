import Raft
import Testing

@testable import Replication

/// A data node with a witness, whose answers the tests make up.
private struct Pair {
  var replica: Replica
  var now: Tick = 0
  private var persisted: UInt64 = 0

  init() {
    let membership = Membership([
      Member(id: "a", role: .data), Member(id: "b", role: .data), Member(id: "w", role: .witness),
    ])
    var configuration = RaftConfiguration()
    configuration.readsUseLease = false
    replica = Replica(
      Raft(
        id: "a", configuration: configuration, base: LogBase(membership: membership), applied: 0,
        now: 0))
  }

  /// Hands an event over; what it has to write is durable at once.
  mutating func step(_ event: Event) -> [Replica.Effect] {
    var effects = replica.step(event, at: now)
    while let number = effects.compactMap(\.persistNumber).last, number > persisted {
      persisted = number
      effects += replica.step(.persisted(number: number), at: now)
    }
    return effects
  }

  mutating func receive(_ body: Message.Body, from node: NodeID = "w", term: Term)
    -> [Replica.Effect]
  {
    step(.received(Message(from: node, to: "a", term: term, body: body)))
  }

  mutating func lead() {
    now += 1000
    _ = step(.tick)
    let term = replica.raft.hardState.term + 1
    _ = receive(.vote(.init(isPreVote: true, isGranted: true)), term: term)
    _ = receive(.vote(.init(isPreVote: false, isGranted: true)), term: term)
    #expect(replica.raft.role == .leader)
  }

  /// The witness has everything.
  mutating func acknowledge() -> [Replica.Effect] {
    let raft = replica.raft
    return receive(.appended(.matched(raft.lastPosition.index)), term: raft.hardState.term)
  }
}

extension Replica.Effect {
  fileprivate var persistNumber: UInt64? {
    if case .persist(let persist) = self { persist.number } else { nil }
  }
}

/// In words: what of the effects concerns those who wait.
private func answers(_ effects: [Replica.Effect]) -> [String] {
  effects.flatMap { effect -> [String] in
    switch effect {
    case .apply(let first, _, let proposals):
      proposals.map { "\($0.id) applied at \(first + UInt64($0.offset))" }
    case .failed(let id, .refused): ["\(id) refused"]
    case .failed(let id, let failure): ["\(id) \(failure)"]
    case .readable(let id): ["\(id) readable"]
    default: []
    }
  }
}

@Suite struct ReplicaTests {
  @Test func proposalsAreAnsweredWhereTheyStand() {
    var pair = Pair()
    #expect(answers(pair.step(.propose(id: 1, command: [1]))) == ["1 refused"])
    pair.lead()
    _ = pair.step(.propose(id: 2, command: [2]))
    _ = pair.step(.propose(id: 3, command: [3]))
    // The leader's own first entry is nobody's.
    #expect(answers(pair.acknowledge()) == ["2 applied at 2", "3 applied at 3"])
    _ = pair.step(.propose(id: 4, command: [4]))
    #expect(answers(pair.acknowledge()) == ["4 applied at 4"])
  }

  @Test func whoNoLongerLeadsDoesNotKnow() {
    var pair = Pair()
    pair.lead()
    _ = pair.acknowledge()
    _ = pair.step(.propose(id: 7, command: [7]))
    _ = pair.step(.propose(id: 8, command: [8]))
    let heartbeat = Message.Heartbeat(commit: 1, matched: 0, round: 1, answered: 0, retained: 0)
    #expect(
      answers(pair.receive(.heartbeat(heartbeat), from: "b", term: 5))
        == ["7 unknown", "8 unknown"])
    // Nobody is answered twice, whatever becomes of it.
    let append = Message.Append(
      previous: Position(term: 1, index: 1),
      entries: [Entry(term: 5, payload: .nothing), Entry(term: 5, payload: .command([9]))],
      commit: 3)
    #expect(answers(pair.receive(.append(append), from: "b", term: 5)) == [])
    #expect(pair.replica.raft.applied == 3)
  }

  @Test func readsWaitForApplication() {
    var pair = Pair()
    #expect(answers(pair.step(.read(id: 1))) == ["1 refused"])
    pair.lead()
    #expect(answers(pair.step(.read(id: 2))) == ["2 refused"], "its first entry is not committed")
    _ = pair.step(.propose(id: 3, command: [3]))
    _ = pair.acknowledge()
    #expect(answers(pair.step(.read(id: 4))) == [])
    // A quorum has confirmed that this node leads; the state has applied nothing yet.
    let answer = Message.HeartbeatAnswer(round: 9, stamp: 1)
    #expect(answers(pair.receive(.heartbeatAnswer(answer), term: 1)) == [])
    #expect(answers(pair.replica.applied(through: 1)) == [])
    #expect(answers(pair.replica.applied(through: 2)) == ["4 readable"])
    #expect(answers(pair.replica.applied(through: 2)) == [])
  }

  @Test func aConfirmedReadOutlivesTheLeadership() {
    var pair = Pair()
    pair.lead()
    _ = pair.acknowledge()
    _ = pair.step(.read(id: 1))
    _ = pair.receive(.heartbeatAnswer(.init(round: 9, stamp: 1)), term: 1)
    _ = pair.step(.read(id: 2))
    let heartbeat = Message.Heartbeat(commit: 1, matched: 0, round: 1, answered: 0, retained: 0)
    // The second was not confirmed.
    #expect(answers(pair.receive(.heartbeat(heartbeat), from: "b", term: 5)) == ["2 refused"])
    #expect(answers(pair.replica.applied(through: 1)) == ["1 readable"])
  }
}
