import Testing

@testable import Raft

/// One test a rule of figure 2 of "In Search of an Understandable Consensus Algorithm" (Ongaro and Ousterhout, extended
/// version, 2014), in its order. Where this design says something else (pre-votes, refusals that say more than no), the
/// rule is tested in its sense.
@Suite struct PaperTests {
  private func position(_ term: Term, _ index: Index) -> Position {
    Position(term: term, index: index)
  }

  // MARK: state: "updated on stable storage before responding to RPCs"

  @Test func persistentState() {
    var raft = Alone("b").raft
    let request = Message(
      from: "a", to: "b", term: 3,
      body: .requestVote(.init(last: .zero, isPreVote: false)))
    let actions = raft.step(.received(request), at: 1000)
    let vote = HardState(term: 3, vote: "a")
    #expect(actions.contains(.persist(Persist(number: 1, hardState: vote))))
    #expect(!actions.contains { if case .send = $0 { true } else { false } })
    let answer = Message(
      from: "b", to: "a", term: 3, body: .vote(.init(isPreVote: false, isGranted: true)))
    #expect(raft.step(.persisted(number: 1), at: 1000).contains(.send(answer)))
  }

  // MARK: AppendEntries, receiver

  @Test func appendEntries1_refuseAnEarlierTerm() {
    var node = Alone("b", terms: [1], term: 3)
    let said = node.append(term: 2, behind: position(1, 1), [2])
    #expect(node.terms == [1])
    // Its term is all that the sender needs to hear.
    #expect(said.map(\.term) == [3])
    #expect(said.answers.isEmpty)
  }

  @Test func appendEntries2_refuseWithoutThePreviousEntry() {
    var node = Alone("b", terms: [1, 1, 2])
    #expect(
      node.append(term: 5, behind: position(4, 7), [5]).answers
        == [.mismatched(previous: 7, hint: position(2, 3))])
    #expect(
      node.append(term: 5, behind: position(3, 3), [5]).answers
        == [.mismatched(previous: 3, hint: position(2, 3))])
    // What is of a later term than the leader's entry cannot be the leader's.
    #expect(
      node.append(term: 5, behind: position(1, 3), [5]).answers
        == [.mismatched(previous: 3, hint: position(1, 2))])
    #expect(node.terms == [1, 1, 2])
  }

  @Test func appendEntries3_removeWhatConflicts() {
    var node = Alone("b", terms: [1, 1, 2, 2, 2])
    #expect(node.append(term: 3, behind: position(1, 2), [3]).answers == [.matched(3)])
    #expect(node.terms == [1, 1, 3])
  }

  @Test func appendEntries4_appendWhatIsNotThere() {
    var node = Alone("b", terms: [1])
    #expect(node.append(term: 2, behind: position(1, 1), [2, 2]).answers == [.matched(3)])
    #expect(node.append(term: 2, behind: position(2, 2), [2, 2]).answers == [.matched(4)])
    #expect(node.terms == [1, 2, 2, 2])
    // A late message takes nothing away.
    #expect(node.append(term: 2, behind: position(1, 1), [2]).answers == [.matched(2)])
    #expect(node.append(term: 2, behind: position(1, 1)).answers == [.matched(1)])
    #expect(node.terms == [1, 2, 2, 2])
  }

  @Test func appendEntries5_commitNoMoreThanTheLastNewEntry() {
    var node = Alone("b", terms: [1, 1, 1])
    node.append(term: 2, behind: position(1, 1), commit: 3)
    #expect(node.raft.commit == 1)
    node.append(term: 2, behind: position(1, 1), [1], commit: 3)
    #expect(node.raft.commit == 2)
    // Nor does a heartbeat, which names no entry, commit what may not be the leader's.
    node.heartbeat(term: 2, commit: 3)
    #expect(node.raft.commit == 2)
    node.append(term: 2, behind: position(1, 2), [1])
    node.heartbeat(term: 2, commit: 3)
    #expect(node.raft.commit == 3)
  }

  // MARK: RequestVote, receiver

  @Test func requestVote1_refuseAnEarlierTerm() {
    var node = Alone("b", term: 3)
    #expect(node.vote(for: "a", term: 2, last: position(9, 9)) == false)
    #expect(node.raft.hardState == HardState(term: 3))
  }

  @Test func requestVote2_oneVoteATerm() {
    var node = Alone("b")
    #expect(node.vote(for: "a", term: 1, last: .zero) == true)
    #expect(node.vote(for: "w", term: 1, last: .zero) == false)
    #expect(node.vote(for: "a", term: 1, last: .zero) == true)
    #expect(node.vote(for: "w", term: 2, last: .zero) == true)
  }

  @Test func requestVote2_theVoteSurvivesARestart() {
    var node = Alone("b", term: 1, vote: "a")
    #expect(node.vote(for: "w", term: 1, last: .zero) == false)
    #expect(node.vote(for: "a", term: 1, last: .zero) == true)
  }

  @Test(arguments: [
    (Position(term: 2, index: 3), true), (Position(term: 2, index: 2), false),
    (Position(term: 2, index: 4), true), (Position(term: 1, index: 9), false),
    (Position(term: 3, index: 1), true),
  ]) func requestVote2_onlyForALogThatIsUpToDate(_ last: Position, _ isGranted: Bool) {
    var node = Alone("b", terms: [1, 1, 2])
    #expect(node.vote(for: "a", term: 4, last: last) == isGranted)
    // It learns the term all the same.
    #expect(node.raft.hardState.term == 4)
    #expect(node.vote(for: "a", term: 5, last: last, isPreVote: true) == isGranted)
  }

  // MARK: rules for all servers

  @Test func allServers1_applyWhatIsCommittedInOrder() {
    var node = Alone("b")
    node.append(term: 1, [1, 1, 1], commit: 0)
    #expect(node.raft.applied == 0)
    node.append(term: 1, behind: position(1, 3), commit: 2)
    #expect(node.actions.contains(.apply(first: 1, entries: Alone.entries([1, 1]))))
    node.append(term: 1, behind: position(1, 3), commit: 3)
    #expect(node.actions.contains(.apply(first: 3, entries: Alone.entries([1]))))
    node.append(term: 1, behind: position(1, 3), commit: 3)
    #expect(!node.actions.contains { if case .apply = $0 { true } else { false } })
  }

  @Test(arguments: [
    Message.Body.append(.init(previous: .zero, entries: [], commit: 0)),
    .appended(.matched(0)), .heartbeatAnswer(.init(round: 1, stamp: 0)),
    .vote(.init(isPreVote: false, isGranted: false)), .timeoutNow,
    .requestVote(.init(last: .zero, isPreVote: false, isTransfer: true)),
  ]) func allServers2_aLaterTermMakesAFollower(_ body: Message.Body) {
    var node = Alone("a")
    node.lead()
    #expect(node.raft.role == .leader)
    node.hear(body, from: "b", term: 5)
    #expect(node.raft.role == .follower)
    #expect(node.hardState.term == 5)
  }

  // MARK: followers

  @Test func followers1_answer() {
    var node = Alone("b")
    #expect(!node.append(term: 1, [1]).isEmpty)
    #expect(!node.heartbeat(term: 1, matched: 1).isEmpty)
    node.now += 300
    #expect(node.vote(for: "a", term: 2, last: position(1, 1)) != nil)
  }

  @Test func followers2_standWhenNobodyLeads() {
    var node = Alone("b")
    node.heartbeat(term: 1)
    node.now += 199
    #expect(node.happen(.tick).isEmpty)
    node.heartbeat(term: 1)
    node.now += 199
    #expect(node.happen(.tick).isEmpty)
    node.now += 101
    #expect(node.happen(.tick).count == 2)
    #expect(node.raft.role == .preCandidate)
  }

  @Test func followers2_aGrantedVotePostponesTheNextElection() {
    var node = Alone("b")
    #expect(node.vote(for: "a", term: 1, last: .zero) == true)
    node.now += 199
    #expect(node.happen(.tick).isEmpty)
  }

  // MARK: candidates

  @Test func candidates1_standForElection() {
    var node = Alone("a", terms: [1])
    node.happen(.tick)
    node.hear(.vote(.init(isPreVote: true, isGranted: true)), from: "b", term: 2)
    #expect(node.raft.role == .candidate)
    #expect(node.hardState == HardState(term: 2, vote: "a"))
    let request = Message.Body.requestVote(.init(last: position(1, 1), isPreVote: false))
    #expect(node.said.map(\.body) == [request, request])
    #expect(node.said.map(\.to) == ["b", "w"])
    node.now += 199
    #expect(node.happen(.tick).isEmpty)
  }

  @Test func candidates2_leadByAMajority() {
    let members = ["a", "b", "c", "d", "e"].map { Member(id: NodeID($0), role: .data) }
    var node = Alone("a", members: members)
    node.happen(.tick)
    for voter in ["b", "c"] {
      node.hear(.vote(.init(isPreVote: true, isGranted: true)), from: NodeID(voter), term: 1)
    }
    let granted = Message.Body.vote(.init(isPreVote: false, isGranted: true))
    node.hear(granted, from: "b", term: 1)
    node.hear(granted, from: "b", term: 1)
    node.hear(granted, from: "stranger", term: 1)
    #expect(node.raft.role == .candidate)
    node.hear(granted, from: "e", term: 1)
    #expect(node.raft.role == .leader)
  }

  @Test func candidates3_followWhoeverLeads() {
    var node = Alone("a")
    node.happen(.tick)
    node.hear(.vote(.init(isPreVote: true, isGranted: true)), from: "b", term: 1)
    #expect(node.raft.role == .candidate)
    node.heartbeat(from: "b", term: 1)
    #expect(node.raft.role == .follower)
    #expect(node.raft.leader == "b")
  }

  @Test func candidates4_standAgain() {
    var node = Alone("a")
    node.happen(.tick)
    node.hear(.vote(.init(isPreVote: true, isGranted: true)), from: "b", term: 1)
    node.now += 300
    node.happen(.tick)
    #expect(node.raft.role == .preCandidate)
    node.hear(.vote(.init(isPreVote: true, isGranted: true)), from: "b", term: 2)
    #expect(node.hardState == HardState(term: 2, vote: "a"))
  }

  // MARK: leaders

  @Test func leaders1_sayAtOnceAndAlwaysThatTheyLead() {
    var node = Alone("a")
    let said = node.lead()
    for other in ["b", "w"] as [NodeID] {
      #expect(
        said.to(other).contains { if case .heartbeat = $0.body { true } else { false } })
    }
    node.now += 40
    #expect(node.happen(.tick).count == 2)
  }

  @Test func leaders2_appendAndAnswerOnceApplied() {
    var node = Alone("a")
    node.lead()
    node.happen(.propose(id: 7, command: [1]))
    #expect(node.actions.contains(.accepted(id: 7, position: position(1, 2))))
    #expect(node.raft.applied == 0)
    node.hear(.appended(.matched(2)), from: "b", term: 1)
    #expect(node.raft.applied == 2)
  }

  @Test func leaders3_sendFromTheNextEntryOn() {
    var node = Alone("a", terms: [1, 1])
    let first = node.lead().to("b").appends
    #expect(first.map(\.previous) == [position(1, 2)])
    #expect(first.map(\.entries.count) == [1])
    node.hear(.appended(.matched(3)), from: "b", term: 2)
    let second = node.happen(.propose(id: 1, command: [1])).to("b").appends
    #expect(second.map(\.previous) == [position(2, 3)])
    // Not waiting for an answer.
    let third = node.happen(.propose(id: 2, command: [2])).to("b").appends
    #expect(third.map(\.previous) == [position(2, 4)])
  }

  @Test func leaders3_aRefusalMovesBack() {
    var node = Alone("a", terms: [1, 1, 1, 2])
    node.lead()
    let said = node.hear(
      .appended(.mismatched(previous: 4, hint: position(1, 2))), from: "b", term: 3)
    #expect(said.appends.map(\.previous) == [position(1, 2)])
    #expect(said.appends.map(\.entries.count) == [3])
    // An answer to what was asked before says nothing new.
    #expect(
      node.hear(
        .appended(.mismatched(previous: 4, hint: position(1, 2))), from: "b", term: 3
      ).isEmpty)
  }

  @Test func leaders4_commitByMajorityAndOnlyOfTheirOwnTerm() {
    var node = Alone("a", terms: [1, 1])
    node.lead()
    node.hear(.appended(.matched(2)), from: "b", term: 2)
    #expect(node.raft.commit == 0)
    node.hear(.appended(.matched(3)), from: "b", term: 2)
    #expect(node.raft.commit == 3)
  }

  @Test func leaders4_countThemselvesOnceTheEntryIsDurable() {
    var node = Alone("a")
    node.lead()
    node.hear(.appended(.matched(1)), from: "b", term: 1)
    var raft = node.raft
    _ = raft.step(.propose(id: 1, command: [1]), at: node.now)
    let matched = Message(from: "b", to: "a", term: 1, body: .appended(.matched(2)))
    _ = raft.step(.received(matched), at: node.now)
    #expect(raft.commit == 1)
    _ = raft.step(.persisted(number: 3), at: node.now)
    #expect(raft.commit == 2)
  }

  @Test func leaders_neverTakeEntriesAway() {
    var node = Alone("a", terms: [1, 1])
    node.lead()
    node.append(from: "b", term: 2, behind: .zero, [2])
    // Two leaders of one term: it must not go on.
    #expect(node.raft.isHalted)
    #expect(node.terms == [1, 1, 2])
  }
}
