import Foundation
import Testing

@testable import Raft

/// SplitMix64.
struct Dice: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed &* 0x2545_F491_4F6C_DD1D }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }
}

/// Bugs that are put in, to see that they would be seen.
enum Sabotage: String, CaseIterable, Codable {
  case commitsEarlierTerms, truncatesOnEveryAppend, forgottenVotes, forgottenTerms, lostTails

  var mutant: RaftConfiguration.Mutant? {
    switch self {
    case .commitsEarlierTerms: .commitsEarlierTerms
    case .truncatesOnEveryAppend: .truncatesOnEveryAppend
    default: nil
    }
  }
}

/// Two data nodes and a witness under everything that may happen to them, from a seed.
struct Ordeal {
  var group = Group()
  let checker = Checker()
  private var dice: Dice
  private var configuration = RaftConfiguration()
  private var requests: UInt64 = 0
  private var newcomers = 0
  private let sabotage: Sabotage?
  /// Leaders last for no longer than they must.
  private let isTurbulent: Bool

  init(seed: UInt64, sabotage: Sabotage? = nil) {
    dice = Dice(seed: seed)
    self.sabotage = sabotage
    configuration.seed = seed
    configuration.mutant = sabotage?.mutant
    configuration.heartbeatTicks = dice.chance(50) ? 20 : 60
    configuration.readsUseLease = dice.chance(70)
    configuration.maximumAppendBytes = [40, 100, 1000].randomElement(using: &dice)!
    isTurbulent = dice.chance(40)
    configuration.maximumInFlight = dice.chance(50) ? 2 : 8
    configuration.retainedLogBytes = dice.chance(50) ? 400 : 4000
    configuration.maximumWitnessLogBytes = dice.chance(30) ? 600 : 1 << 20
    configuration.compactionStep = dice.chance(50) ? 1 : 5
    configuration.sparesWitness = dice.chance(60)
    configuration.maximumWitnessLagBytes = dice.chance(50) ? 100 : 1 << 20
    let members = [
      Member(id: "a", role: .data), Member(id: "b", role: .data), Member(id: "w", role: .witness),
    ]
    for member in members { group.add(member, configuration, Membership(members)) }
    if dice.chance(50) { group.nodes["a"]!.checkpointsAtOnce = false }
    // Within what a lease leaves room for.
    for id in group.names { group.nodes[id]!.skewPercent = Int.random(in: -4...4, using: &dice) }
    group.watch = { [checker] in checker.watch($0, $1, $2) }
  }

  private mutating func someone() -> NodeID { group.names.randomElement(using: &dice)! }

  private mutating func leader() -> NodeID {
    let leaders = group.names.filter { group.isUp($0) && group.raft($0).role == .leader }
    return leaders.randomElement(using: &dice) ?? someone()
  }

  mutating func step() {
    let follower = someone()
    if group.isUp(follower) { checker.look(at: follower, in: group) }
    if isTurbulent && dice.chance(6) {
      upset()
      return
    }
    switch Int.random(in: 0..<1000, using: &dice) {
    case ..<560: carry()
    case ..<700: pass(UInt64.random(in: 1...30, using: &dice), to: 95)
    case ..<780: propose(dice.chance(90) ? leader() : someone())
    case ..<840: read(dice.chance(70) ? leader() : someone())
    case ..<900: for id in group.names where dice.chance(60) { group.persist(id) }
    case ..<915: group.nodes[someone()]!.isDiskHeld.toggle()
    case ..<925: group.checkpoint(checkpointed())
    case ..<937: crash(someone())
    case ..<952: for id in group.names where !group.isUp(id) && dice.chance(60) { group.start(id) }
    case ..<964: group.cut(someone(), someone())
    case ..<974: group.cuts = []
    case ..<982: group.happen(.transfer(to: dice.chance(50) ? someone() : nil), to: leader())
    case ..<986: group.happen(.unreachable(someone()), to: someone())
    case ..<988: part()
    case ..<990: replace()
    case ..<994: pass(UInt64.random(in: 100...700, using: &dice), to: 40)
    default: pass(UInt64.random(in: 200...300, using: &dice), to: 95)
    }
  }

  /// The leader goes, or is heard by nobody, and all others lose patience.
  private mutating func upset() {
    let leader = leader()
    for id in group.names where !group.isUp(id) { group.start(id) }
    group.cuts = []
    if dice.chance(50) {
      crash(leader)
    } else {
      for id in group.names where id != leader { group.cut(leader, id) }
    }
    pass(300, to: 70)
  }

  /// The leader and the other data node do not hear each other, or the leader hears nobody right after it has handed over.
  /// All else is quick, and whoever believes that it leads is asked: what leases and promises are for.
  private mutating func part() {
    for id in group.names {
      if !group.isUp(id) { group.start(id) }
      group.nodes[id]!.isDiskHeld = false
      group.persist(id)
    }
    group.cuts = []
    group.deliverAll()
    let leader = leader()
    let others = group.names.filter { $0 != leader && !group.nodes[$0]!.isWitness }
    guard let other = others.randomElement(using: &dice) else { return }
    var lost = [other]
    if dice.chance(30) {
      group.happen(.transfer(to: other), to: leader)
      while let next = group.pool.firstIndex(where: { $0.from == leader && $0.to == other }) {
        group.deliver(at: next)
      }
      lost = group.names.filter { $0 != leader }
    }
    for id in lost {
      group.cut(leader, id)
      group.cut(id, leader)
    }
    for _ in 0..<12 {
      pass(30, to: 100)
      group.deliverAll()
      let witness = someone()
      if group.nodes[witness]!.isWitness && dice.chance(30) {
        crash(witness)
        group.start(witness)
      }
      let leaders = group.names.filter { group.raft($0).role == .leader }
      // What the old leader commits keeps the other from winning.
      for id in leaders where leaders.count > 1 || dice.chance(10) {
        propose(id)
        group.deliverAll()
      }
      for id in leaders { read(id) }
    }
    group.cuts = []
  }

  private mutating func checkpointed() -> NodeID {
    let id = someone()
    return group.isUp(id) ? id : "a"
  }

  private mutating func carry() {
    guard !group.pool.isEmpty else { return }
    if group.pool.count > 100 { lose(0) }
    let isOrdered = dice.chance(70)
    let position = isOrdered ? 0 : Int.random(in: 0..<group.pool.count, using: &dice)
    switch Int.random(in: 0..<100, using: &dice) {
    case ..<5: lose(position)
    case ..<12: group.hear(group.pool[position])
    default: group.deliver(at: position)
    }
  }

  private mutating func lose(_ position: Int) { group.fail(group.pool.remove(at: position)) }

  private mutating func pass(_ ticks: Tick, to percent: Int) {
    group.now += ticks
    checker.now = group.now
    for id in group.names where dice.chance(percent) { group.happen(.tick, to: id) }
  }

  private mutating func propose(_ id: NodeID) {
    requests += 1
    let filler = Int.random(in: 0..<40, using: &dice)
    let command = Array("\(requests)".utf8) + [UInt8](repeating: 46, count: filler)
    group.happen(.propose(id: requests, command: command), to: id)
  }

  private mutating func read(_ id: NodeID) {
    requests += 1
    checker.asked(requests)
    group.happen(.read(id: requests), to: id)
  }

  private mutating func crash(_ id: NodeID) {
    guard group.isUp(id) else { return }
    // Of the writes under way the disk may have got some.
    while let write = group.nodes[id]!.writes.first, dice.chance(50) {
      group.nodes[id]!.writes.removeFirst()
      group.nodes[id]!.disk.write(write)
    }
    group.crash(id)
    switch sabotage {
    case .forgottenVotes: group.nodes[id]!.disk.hardState.vote = nil
    case .forgottenTerms:
      group.nodes[id]!.disk.hardState = HardState(term: group.nodes[id]!.disk.last.term)
    case .lostTails where group.nodes[id]!.disk.last > group.nodes[id]!.checkpoint.base.position:
      _ = group.nodes[id]!.disk.entries.popLast()
    default: break
    }
  }

  private mutating func replace() {
    let id = leader()
    guard group.isUp(id), newcomers < 3,
      let old = group.raft(id).membership.members.filter({ $0.id != id })
        .randomElement(using: &dice)
    else { return }
    newcomers += 1
    let new = Member(id: NodeID("n\(newcomers)"), role: old.role)
    group.add(new, configuration)
    requests += 1
    group.happen(.replace(id: requests, old: old.id, new: new), to: id)
  }

  /// All is well again: then a data node leads before long, and what it is given commits everywhere.
  mutating func recover() -> String? {
    group.cuts = []
    for id in group.names {
      if !group.isUp(id) { group.start(id) }
      group.nodes[id]!.isDiskHeld = false
      group.nodes[id]!.checkpointsAtOnce = true
      group.persist(id)
      group.checkpoint(id)
    }
    group.run(4000, step: 20)
    let leaders = group.names.filter { group.raft($0).role == .leader && !group.raft($0).isWitness }
    guard
      let leader = leaders.max(by: { group.raft($0).hardState.term < group.raft($1).hardState.term }
      )
    else {
      return "no data node leads"
    }
    propose(leader)
    read(leader)
    let last = group.raft(leader).lastPosition
    let answered = checker.readsAnswered
    group.run(400, step: 20)
    if checker.readsAnswered == answered - 1 { return "nobody answers a read" }
    for member in group.raft(leader).membership.members {
      let raft = group.raft(member.id)
      if raft.applied < last.index || raft.lastPosition != last {
        return "\(member.id) has applied \(raft.applied) of \(last)"
      }
    }
    return nil
  }
}

@Suite struct RandomTests {
  static let environment = ProcessInfo.processInfo.environment

  /// By the checker, or by the machine itself, which then stops.
  @Test(arguments: Sabotage.allCases) func bugsAreSeen(_ sabotage: Sabotage) async {
    await #expect(processExitsWith: .failure) { [sabotage] in
      for seed in 1...3000 as ClosedRange<UInt64> {
        var ordeal = Ordeal(seed: seed, sabotage: sabotage)
        for _ in 0..<1000 where ordeal.checker.faults.isEmpty { ordeal.step() }
        if let fault = ordeal.checker.faults.first {
          FileHandle.standardError.write(Data("\(sabotage), seed \(seed): \(fault)\n".utf8))
          exit(EXIT_FAILURE)
        }
      }
    }
  }

  @Test func everythingAtOnce() {
    let one = Self.environment["SFMEDIR_RAFT_SEED"].flatMap(UInt64.init)
    let count = Self.environment["SFMEDIR_RAFT_SEEDS"].flatMap(UInt64.init) ?? 300
    var elections = 0
    var reads = 0
    var ages = 0
    var committed: UInt64 = 0
    for seed in one.map({ $0...$0 }) ?? 1...count {
      var ordeal = Ordeal(seed: seed)
      if one != nil { ordeal.group.story = Story() }
      var step = 0
      while step < 700, ordeal.checker.faults.isEmpty {
        ordeal.step()
        step += 1
      }
      var fault = ordeal.checker.faults.first
      if fault == nil { fault = ordeal.recover() ?? ordeal.checker.faults.first }
      if one != nil { print(ordeal.group.story!.lines.joined(separator: "\n")) }
      if let fault {
        Issue.record("SFMEDIR_RAFT_SEED=\(seed), step \(step): \(fault)")
        return
      }
      elections += ordeal.checker.elections
      reads += ordeal.checker.readsAnswered
      ages += ordeal.checker.agesKnown
      committed += ordeal.checker.committed
    }
    guard one == nil else { return }
    #expect(elections > count * 3, "the schedules must be eventful")
    #expect(reads > count * 4)
    #expect(ages > count * 30)
    #expect(committed > count * 15)
  }
}
