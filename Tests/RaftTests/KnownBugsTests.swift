import Testing

@testable import Raft

/// What went wrong elsewhere and must not here. `Transcripts` tell some of these at length.
@Suite struct KnownBugsTests {
  private func position(_ term: Term, _ index: Index) -> Position {
    Position(term: term, index: index)
  }

  /// A story whose trace is not looked at, only its end.
  private func play(_ commands: String) throws -> Group {
    var script = Script()
    for line in commands.split(separator: "\n") { try script.perform(String(line)) }
    return script.group
  }

  private let members = "new a b w(witness)\nelect a\n"

  /// Prior-term entries committed by counting: logcabin #44, canonical/raft #220, raftscope PR #15; Raft, figure 8.
  @Test func entriesOfEarlierTermsDoNotCommitByCounting() {
    var node = Alone("a", terms: [1, 2])
    node.lead()
    node.hear(.appended(.matched(2)), from: "b", term: 3)
    node.hear(.appended(.matched(2)), from: "w", term: 3)
    #expect(node.raft.commit == 0)
    node.hear(.appended(.matched(3)), from: "w", term: 3)
    #expect(node.raft.commit == 3)
  }

  /// The witness acknowledged more than the data node that is left has: nobody could be elected. dragonboat #106, tikv/rfcs
  /// PR #31, braft PR #398.
  @Test func aWitnessAheadOfEveryDataNodeLeadsForAWhile() throws {
    let group = try play(
      members + "isolate b\npropose a x\ndeliver\ncrash a\nheal\nrun 900\npropose b y\nrun 40")
    #expect(group.raft("b").role == .leader)
    #expect(group.nodes["b"]!.state.commands == [Array("x".utf8), Array("y".utf8)])
  }

  /// The temporary witness leader was asked for a snapshot, and had nothing: braft PR #398 (review), TiKV PR 12972. Here it
  /// has none to send, and hands over to a node that has.
  @Test func aWitnessThatLeadsSendsNoSnapshot() throws {
    var script = Script()
    let commands =
      "set step 1\n" + members
        + """
        propose a x
        run 100
        add d
        replace a b by d
        deliver a->b
        deliver a->w
        cut a->b
        propose a y
        deliver a->w
        crash a
        drop
        heal
        run 2000
        """
    for line in commands.split(separator: "\n") { try script.perform(String(line)) }
    let lines = script.group.story!.lines
    #expect(lines.contains { $0.contains("w is leader") })
    #expect(!lines.contains { $0.contains("w streams") })
    #expect(lines.contains { $0.contains("b streams its state to d") })
    #expect(script.group.nodes["d"]!.state.commands == [Array("x".utf8), Array("y".utf8)])
  }

  /// A scheduler kept moving the leadership to a witness: tikv #14268.
  @Test func nobodyTransfersToAWitness() {
    var node = Alone("a")
    node.lead()
    for voter in ["b", "w"] as [NodeID] {
      node.hear(.appended(.matched(1)), from: voter, term: 1)
    }
    #expect(node.happen(.transfer(to: "w")).isEmpty)
    node.happen(.propose(id: 1, command: []))
    #expect(node.actions.contains(.accepted(id: 1, position: position(1, 2))))
    var witness = Alone("w")
    witness.heartbeat(from: "a", term: 1)
    witness.hear(.timeoutNow, from: "a", term: 1)
    #expect(witness.raft.role == .follower)
  }

  /// With nobody named, the transfer goes to the data node even where the witness has more.
  @Test func aTransferToAnybodyIsToADataNode() {
    var node = Alone("a")
    node.lead(by: "w")
    node.hear(.appended(.matched(1)), from: "w", term: 1)
    #expect(node.happen(.transfer(to: nil)).isEmpty)
    #expect(
      node.hear(.appended(.matched(1)), from: "b", term: 1).contains {
        $0.to == "b" && $0.body == .timeoutNow
      })
  }

  /// Entries that a lagging peer needs were let go of: tikv #12876, kvproto PR #999. The witness keeps what a data node has
  /// not got; a leader does within its bound.
  @Test func theWitnessKeepsWhatALaggingDataNodeNeeds() throws {
    let group = try play(
      "set step 1\nset retainedBytes 1\n" + members
        + "isolate b\npropose a x\npropose a y\nrun 200")
    #expect(group.raft("a").firstIndex == 4)
    #expect(group.raft("w").firstIndex == 2)
    let restarted = try play(
      "set step 1\nset retainedBytes 1\n" + members
        + "isolate b\npropose a x\npropose a y\nrun 200\nrestart w\nrun 300")
    #expect(restarted.raft("w").firstIndex == 2)
  }

  /// A witness that forgets goes back in time: dragonboat PR #92. Its vote and log are on its disk before it answers.
  @Test func aWitnessAnswersOnceItIsDurable() throws {
    let group = try play(members + "hold w\ncrash b\npropose a x\nrun 100")
    #expect(group.raft("a").commit == 1)
    #expect(group.raft("w").lastPosition.index == 2)
    #expect(group.nodes["w"]!.disk.lastIndex == 1)
  }

  /// A blank witness counted before it had what the old one protected: tarantool #12973. A newcomer votes and acknowledges
  /// as one that has nothing, and the old majority must agree to its coming.
  @Test func aBlankNodeCountsForWhatItHas() throws {
    var script = Script()
    let commands =
      members
      + "isolate b\npropose a x\ndeliver\nadd v(witness)\ncut a->w\ncut a->b\nreplace a w by v(witness)\nrun 200"
    for line in commands.split(separator: "\n") { try script.perform(String(line)) }
    // a and v have it: a majority of the new set, but not of the old.
    #expect(script.group.raft("v").lastPosition.index == 3)
    #expect(script.group.raft("a").commit == 2)
    // What v has not got it does not acknowledge; and b, which is behind, does not get the vote of a node that is not.
    var newcomer = Alone("v", members: [])
    #expect(
      newcomer.append(term: 1, behind: position(1, 3), [1]).answers
        == [.mismatched(previous: 3, hint: .zero)])
    newcomer.append(term: 1, [1, 1, 1])
    newcomer.now += 300
    #expect(newcomer.vote(for: "b", term: 2, last: position(1, 1)) == false)
  }

  /// A follower that comes back stalled all writes until it had caught up: extended-raft, discussion.tex.
  @Test func aNodeThatComesBackStallsNothing() throws {
    var script = Script()
    let commands =
      "set appendBytes 1\nset flight 1\n" + members
      + "isolate b\n"
      + (1...50).map { "propose a \($0)\n" }.joined()
      + "run 100\nheal\nhold b\nrun 60\npropose a new\nonce a->w"
    for line in commands.split(separator: "\n") { try script.perform(String(line)) }
    try script.perform("run 10")
    #expect(script.group.raft("a").applied == 52)
    #expect(script.group.raft("b").applied < 52)
  }

  /// Without check-quorum a leader that nobody hears keeps its followers' ear in part: cockroach PR 104042. And without the
  /// voters' refusal while they hear a leader, the one that does not disturbs all.
  @Test func partialPartitionsNeitherDisturbNorStall() throws {
    let undisturbed = try play(members + "cut a-b\nrun 3000\npropose a x\nrun 40")
    #expect(undisturbed.raft("a").role == .leader)
    #expect(undisturbed.raft("a").hardState.term == 1)
    #expect(undisturbed.raft("a").applied == 2)
    // a is heard and hears nobody: it must let another lead.
    let replaced = try play(members + "cut b->a\ncut w->a\nrun 1000\npropose b x\nrun 40")
    #expect(replaced.raft("a").role != .leader)
    #expect(replaced.raft("b").applied == 3)
  }

  /// A snapshot's log was cut before its state was there: tikv #11746. The state comes first, then the log begins anew.
  @Test func aSnapshotIsInPlaceBeforeTheLogIsCut() {
    var node = Alone("b", terms: [1])
    node.heartbeat(term: 2)
    let base = LogBase(position: position(2, 9), membership: Membership(Alone.trio))
    node.happen(.snapshotArrived(from: "a", term: 2, base: base))
    #expect(node.actions.first == .installSnapshot(base))
    #expect(node.actions.contains(.persist(Persist(number: 2, reset: base, first: 10))))
    #expect(node.said.answers == [.matched(9)])
    // Again, or older than what it has: of no use.
    node.happen(.snapshotArrived(from: "a", term: 2, base: base))
    #expect(node.actions == [.discardSnapshot])
  }

  /// A leader changed the members before it knew whether the last change had committed: raft-dev, "bug in single-server
  /// membership changes", 2015.
  @Test func noReplacementBeforeTheFirstEntryCommits() {
    var node = Alone("a", terms: [1])
    node.lead()
    let new = Member(id: "d", role: .data)
    node.happen(.replace(id: 1, old: "b", new: new))
    #expect(node.actions == [.refused(id: 1, .notReady)])
    node.hear(.appended(.matched(2)), from: "b", term: 2)
    node.happen(.replace(id: 2, old: "b", new: new))
    #expect(node.actions.contains(.accepted(id: 2, position: position(2, 3))))
  }

  /// Reads served before the leader's first entry commits are stale: Ongaro's dissertation, section 6.4.
  @Test func noReadBeforeTheFirstEntryCommits() {
    var node = Alone("a", terms: [1])
    node.lead()
    node.hear(.heartbeatAnswer(.init(round: 1, stamp: 0)), from: "b", term: 2)
    #expect(node.raft.hasLease)
    node.happen(.read(id: 1))
    #expect(node.actions == [.refused(id: 1, .notReady)])
  }

  /// A lease was counted from when the answer came, not from when the question was sent: Ongaro's dissertation, section 6.4.1.
  @Test func aLeaseBeginsWhenTheHeartbeatWasSent() {
    var node = Alone("a")
    node.lead()
    node.hear(.appended(.matched(1)), from: "b", term: 1)
    node.now += 150
    node.hear(.heartbeatAnswer(.init(round: 1, stamp: 0)), from: "b", term: 1)
    node.now += 29
    node.happen(.read(id: 1))
    #expect(node.actions == [.readable(id: 1, index: 1)])
    node.now += 1
    node.happen(.read(id: 2))
    #expect(!node.actions.contains(.readable(id: 2, index: 1)))
    #expect(!node.raft.hasLease)
  }

  /// A term that is no longer current came back through a leader's own acknowledgements: Howard et al., "Raft Refloated", 2015.
  @Test func answersOfEarlierTermsCountForNothing() {
    var node = Alone("a", terms: [1])
    node.lead()
    node.hear(.appended(.matched(2)), from: "b", term: 1)
    node.hear(.heartbeatAnswer(.init(round: 1, stamp: 0)), from: "b", term: 1)
    #expect(node.raft.commit == 0)
    #expect(!node.raft.hasLease)
  }
}
