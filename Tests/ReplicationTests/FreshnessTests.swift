import Raft
import Testing

/// How old a follower may say its knowledge is. Found by the simulator: each of these once claimed too much.
@Suite struct FreshnessTests {
  private let membership = Membership([
    Member(id: "a", role: .data), Member(id: "b", role: .data), Member(id: "w", role: .witness),
  ])

  private func follower(startedAt now: Tick = 0) -> Raft {
    Raft(
      id: "b", configuration: RaftConfiguration(), hardState: HardState(term: 1),
      base: LogBase(membership: membership), applied: 0, now: now)
  }

  /// A heartbeat of the leader a in term 1, heard by b; returns the stamp of b's answer.
  private func hear(
    _ follower: inout Raft, round: UInt64, answered: UInt64, at now: Tick
  ) throws -> UInt64 {
    let heartbeat = Message.Heartbeat(
      commit: 0, matched: 0, round: round, answered: answered, retained: 0)
    let message = Message(from: "a", to: "b", term: 1, body: .heartbeat(heartbeat))
    let stamps = follower.step(.received(message), at: now).compactMap { action -> UInt64? in
      guard case .send(let answer) = action, case .heartbeatAnswer(let body) = answer.body
      else { return nil }
      return body.stamp
    }
    return try #require(stamps.first)
  }

  @Test func isAsOldAsTheAnswerThatTheLeaderRepeats() throws {
    var b = follower()
    #expect(b.staleness(at: 0) == nil)
    let stamp = try hear(&b, round: 1, answered: 0, at: 10)
    #expect(b.staleness(at: 20) == nil, "nothing was repeated yet")
    _ = try hear(&b, round: 2, answered: stamp, at: 50)
    #expect(b.staleness(at: 60)?.ticks == 50)
  }

  /// What was so once stays so: nobody leads any more, and the age is known.
  @Test func ageGrowsWhileNobodyLeads() throws {
    var b = follower()
    let stamp = try hear(&b, round: 1, answered: 0, at: 10)
    _ = try hear(&b, round: 2, answered: stamp, at: 50)
    _ = b.step(.tick, at: 2000)
    #expect(b.leadership.role == .preCandidate)
    #expect(b.staleness(at: 3000)?.ticks == 2990)
  }

  /// The leader had the first answer long before it came again.
  @Test func aHeartbeatThatComesAgainIsNoNews() throws {
    var b = follower()
    let stamp = try hear(&b, round: 1, answered: 0, at: 10)
    _ = try hear(&b, round: 1, answered: 0, at: 500)
    _ = try hear(&b, round: 2, answered: stamp, at: 510)
    #expect(b.staleness(at: 510)?.ticks == 500)
  }

  /// What the process before it answered, the leader may have repeated before this one began.
  @Test func aRestartKnowsNothingOfEarlierAnswers() throws {
    var b = follower()
    var stamps: [UInt64] = []
    for round in 1...5 { stamps.append(try hear(&b, round: UInt64(round), answered: 0, at: 10)) }
    for stamp in stamps {
      var restarted = follower(startedAt: 400)
      _ = try hear(&restarted, round: 2, answered: 0, at: 410)
      _ = try hear(&restarted, round: 3, answered: stamp, at: 420)
      #expect(restarted.staleness(at: 420) == nil)
    }
  }

  /// Until its own first entry has committed, a leader does not know what had.
  @Test func aNewLeaderRepeatsNothing() throws {
    var a = Raft(
      id: "a", configuration: RaftConfiguration(), base: LogBase(membership: membership),
      applied: 0, now: 0)
    var now: Tick = 0
    func send(_ body: Message.Body, term: Term) -> [Action] {
      a.step(.received(Message(from: "b", to: "a", term: term, body: body)), at: now)
    }
    func repeated(_ actions: [Action]) -> [UInt64] {
      actions.compactMap { action in
        guard case .send(let message) = action, message.to == "b",
          case .heartbeat(let heartbeat) = message.body
        else { return nil }
        return heartbeat.answered
      }
    }
    while a.role == .follower {
      now += 10
      _ = a.step(.tick, at: now)
    }
    _ = send(.vote(.init(isPreVote: true, isGranted: true)), term: 1)
    _ = a.step(.persisted(number: 1), at: now)
    _ = send(.vote(.init(isPreVote: false, isGranted: true)), term: 1)
    #expect(a.role == .leader)
    _ = send(.heartbeatAnswer(.init(round: 1, stamp: 77)), term: 1)
    now += 40
    #expect(repeated(a.step(.tick, at: now)) == [0])
    _ = a.step(.persisted(number: 2), at: now)
    _ = send(.appended(.matched(1)), term: 1)
    now += 40
    #expect(repeated(a.step(.tick, at: now)) == [77])
  }
}
