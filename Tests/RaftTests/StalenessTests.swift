import Testing

@testable import Raft

/// How old a follower's state may be: it must never believe itself younger than it is.
@Suite struct StalenessTests {
  @Test func anAnswerDatesWhatTheLeaderSaysAfterIt() {
    var node = Alone("b")
    node.append(term: 1, [1], commit: 1)
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 1)
    #expect(node.raft.staleness(at: 1000) == nil)
    node.now = 1040
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 2, answered: 1)
    let known = node.raft.staleness(at: 1050)
    #expect(known?.ticks == 50)
    #expect(known?.index == 1)
  }

  /// The leader repeats the stamp of the answer that was given at 1000: not of one to a doubled message at 1100.
  @Test func aDoubledHeartbeatMakesNothingYounger() {
    var node = Alone("b")
    node.append(term: 1, [1], commit: 1)
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 1)
    node.now = 1100
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 1)
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 2, answered: 1)
    #expect(node.raft.staleness(at: 1100)?.ticks == 100)
  }

  @Test func aLateHeartbeatMakesNothingYounger() {
    var node = Alone("b")
    node.append(term: 1, [1], commit: 1)
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 2)
    node.now = 1100
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 1)
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 3, answered: 1)
    #expect(node.raft.staleness(at: 1100)?.ticks == 100)
  }

  /// Three of five may have another leader already.
  @Test func aLeaderAndOneFollowerMustBeAQuorum() {
    let members = ["a", "b", "c", "d", "e"].map { Member(id: NodeID($0), role: .data) }
    var node = Alone("b", members: members)
    node.append(term: 1, [1], commit: 1)
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 1)
    node.heartbeat(term: 1, commit: 1, matched: 1, round: 2, answered: 1)
    #expect(node.raft.staleness(at: 1000) == nil)
  }
}
