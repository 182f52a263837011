import Raft
import Testing

@testable import Simulator

/// What no bug that is played sets off.
@Suite struct LedgerTests {
  @Test(arguments: [(9, 0), (0, 9)] as [(Term, Index)])
  func whoGoesBackIsSeen(_ seen: (Term, Index)) throws {
    let simulation = Simulation(seed: 1)
    let membership = Membership([Member(id: "a", role: .data)])
    let node = try SimulatedNode(
      id: "a", role: .data, membership: membership, clockDrift: 0, clockStart: 0)
    try node.start(at: 0, configuration: RaftConfiguration(), mutant: nil)
    var ledger = Ledger()
    try ledger.look(node, simulation)
    node.seen = seen
    let violation = #expect(throws: Simulation.Violation.self) {
      try ledger.look(node, simulation)
    }
    #expect(violation?.kind == .wentBack)
  }

  @Test func eventsComeInOrderOfTimeAndThenOfPlanning() {
    var queue = EventQueue<Int>()
    var dice = SeededGenerator(seed: 3)
    var planned: [(time: UInt64, number: Int)] = []
    var happened: [(time: UInt64, number: Int)] = []
    for number in 0..<2000 {
      let time = (happened.last?.time ?? 0) + UInt64.random(in: 0...20, using: &dice)
      planned.append((time, number))
      queue.add(number, at: time)
      if number % 3 == 0, let (time, event) = queue.next() { happened.append((time, event)) }
    }
    while let (time, event) = queue.next() { happened.append((time, event)) }
    #expect(happened.map(\.time) == happened.map(\.time).sorted())
    #expect(happened.map(\.number).sorted() == Array(0..<2000))
    for (left, right) in zip(happened, happened.dropFirst()) where left.time == right.time {
      #expect(left.number < right.number)
    }
    #expect(happened.allSatisfy { planned[$0.number].time == $0.time })
  }
}
