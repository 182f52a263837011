import Testing

@testable import Raft

/// A witness that is needed for no commit is told of entries with the heartbeats only.
@Suite struct SparingTests {
  /// Leads, and its follower has all of its log.
  private func together() -> Alone {
    var node = Alone("a")
    node.lead()
    node.hear(.appended(.matched(1)), from: "b", term: 1)
    node.hear(.appended(.matched(1)), from: "w", term: 1)
    pass(&node, matched: 1)
    return node
  }

  /// A heartbeat that both others answer; what was said with it.
  @discardableResult
  private func pass(_ node: inout Alone, matched: Index) -> [Message] {
    node.now += 40
    let said = node.happen(.tick)
    for other in ["b", "w"] as [NodeID] {
      for case .heartbeat(let heartbeat) in said.to(other).map(\.body) {
        node.hear(
          .heartbeatAnswer(.init(round: heartbeat.round, isFull: false, stamp: 1)), from: other,
          term: 1)
      }
    }
    node.hear(.appended(.matched(matched)), from: "b", term: 1)
    return said
  }

  @Test func itHearsOfEntriesWithTheNextHeartbeat() {
    var node = together()
    for number in 2...4 as ClosedRange<Index> {
      let said = node.happen(.propose(id: number, command: [UInt8(number)]))
      #expect(said.to("b").appends.count == 1)
      #expect(said.to("w").appends.isEmpty)
      node.hear(.appended(.matched(number)), from: "b", term: 1)
      // With the follower's disk and its own.
      #expect(node.raft.commit == number)
    }
    #expect(pass(&node, matched: 4).to("w").appends.map(\.entries.count) == [3])
    #expect(node.happen(.propose(id: 5, command: [5])).to("w").appends.isEmpty)
  }

  @Test func aFollowerThatIsSilentCannotBeReliedOn() {
    var node = together()
    for _ in 0..<2 {
      node.now += 40
      node.happen(.tick)
    }
    #expect(node.happen(.propose(id: 2, command: [2])).to("w").appends.count == 1)
    node.hear(.appended(.matched(2)), from: "w", term: 1)
    #expect(node.raft.commit == 2)
  }

  /// It answers, and its disk does not.
  @Test func aFollowerThatFallsBehindCannotBeReliedOn() {
    var node = together()
    #expect(node.happen(.propose(id: 2, command: [2])).to("w").appends.isEmpty)
    pass(&node, matched: 1)
    pass(&node, matched: 1)
    #expect(node.happen(.propose(id: 3, command: [3])).to("w").appends.count == 1)
  }

  @Test func aFollowerThatIsGoneCannotBeReliedOn() {
    var node = together()
    node.happen(.unreachable("b"))
    #expect(node.happen(.propose(id: 2, command: [2])).to("w").appends.count == 1)
  }

  @Test func itIsNotLetFallFarBehind() {
    var configuration = RaftConfiguration()
    configuration.maximumWitnessLagBytes = 1000
    var node = Alone("a", configuration: configuration)
    node.lead()
    node.hear(.appended(.matched(1)), from: "b", term: 1)
    node.hear(.appended(.matched(1)), from: "w", term: 1)
    pass(&node, matched: 1)
    var told = 0
    for number in 2...40 as ClosedRange<Index> {
      let said = node.happen(.propose(id: number, command: [UInt8](repeating: 0, count: 100)))
      told += said.to("w").appends.count
      node.hear(.appended(.matched(number)), from: "b", term: 1)
    }
    #expect(told >= 2)
    #expect(told <= 5)
  }

  @Test func whoTurnsItOffIsObeyed() {
    var configuration = RaftConfiguration()
    configuration.sparesWitness = false
    var node = Alone("a", configuration: configuration)
    node.lead()
    node.hear(.appended(.matched(1)), from: "b", term: 1)
    node.hear(.appended(.matched(1)), from: "w", term: 1)
    #expect(node.happen(.propose(id: 2, command: [2])).to("w").appends.count == 1)
  }
}
