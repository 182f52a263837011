import Base
import Raft
import Replication
import SegmentStore

/// A cluster of two data nodes and a witness with its clients, on simulated clocks, network and disks: the real consensus,
/// replica and journal run in one thread, and a seed decides all that happens.
public struct Simulation {
  public struct Configuration: Sendable {
    /// Milliseconds with faults; and those that the cluster has to recover in afterwards.
    public var faultyMilliseconds: UInt64 = 20_000
    public var calmMilliseconds: UInt64 = 20_000
    public var clients = 4
    public var registers: UInt64 = 3
    public var mutant: SimulationMutant?
    /// Prints what happens.
    public var isVerbose = false

    public init() {}
  }

  /// What a run has done.
  public struct Report: Sendable {
    public var operations = 0
    public var unknownOperations = 0
    public var commits: Index = 0
    public var elections = 0
    public var crashes = 0
    public var cuts = 0
    public var snapshots = 0
    public var replacements = 0
    public var faults: [String: Int] = [:]
  }

  /// Something that must never be.
  public struct Violation: Error, CustomStringConvertible, Sendable {
    public let seed: UInt64
    public let time: UInt64
    public let text: String
    public var description: String { "seed \(seed), \(time) ms: \(text)" }
  }

  enum Happening {
    case tick(NodeID, incarnation: Int)
    case deliver(Message)
    case flush(NodeID, incarnation: Int)
    case checkpoint(NodeID)
    case start(NodeID)
    case snapshot(to: NodeID, term: Term, from: NodeID, RegisterMachine)
    case snapshotSent(by: NodeID, incarnation: Int, to: NodeID, installed: Index?)
    case request(to: NodeID, ClientRequest)
    case reply(client: Int, number: UInt64, ClientReply)
    case client(Int, number: UInt64)
    case crash(NodeID, incarnation: Int)
    case fault
    case heal(Healing)
  }

  let seed: UInt64
  let configuration: Configuration
  var raftConfiguration = RaftConfiguration()
  var random: SeededGenerator
  var queue = EventQueue<Happening>()
  var time: UInt64 = 0
  /// In order of their names; those that are gone stay.
  var nodes: [NodeID: SimulatedNode] = [:]
  var network = SimulatedLinks()
  var clients: [SimulatedClient] = []
  var waiting: [UInt64: Waiting] = [:]
  var nextRequest: UInt64 = 1
  var ledger = Ledger()
  var history: [Int: [Operation<RegisterInput, RegisterOutput>]] = [:]
  var report = Report()
  var isCalm = false
  var replacement: (old: NodeID, new: NodeID)?
  var nextName = 1
  /// Between two faults, at most; and until a process that ended runs again.
  var longestQuiet: UInt64 = 1500
  var longestOutage: UInt64 = 2500

  /// A request that a node has taken, and the process that did.
  struct Waiting {
    var request: ClientRequest
    var node: NodeID
    var incarnation: Int
  }

  public init(seed: UInt64, configuration: Configuration = Configuration()) {
    self.seed = seed
    self.configuration = configuration
    random = SeededGenerator(seed: seed)
  }

  /// Plays the whole run.
  public static func run(
    seed: UInt64, configuration: Configuration = Configuration()
  ) throws -> Report {
    var simulation = Simulation(seed: seed, configuration: configuration)
    try simulation.begin()
    try simulation.play(until: configuration.faultyMilliseconds)
    try simulation.calm()
    try simulation.play(until: configuration.faultyMilliseconds + configuration.calmMilliseconds)
    try simulation.finish()
    return simulation.report
  }

  func violation(_ text: String) -> Violation { Violation(seed: seed, time: time, text: text) }

  mutating func note(_ text: @autoclosure () -> String) {
    if configuration.isVerbose { print("\(time) ms  \(text())") }
  }

  private mutating func begin() throws {
    raftConfiguration.seed = seed
    raftConfiguration.mutant = configuration.mutant?.inside
    raftConfiguration.readsUseLease = chance(50)
    raftConfiguration.compactionStep = [5, 20, 100][Int(draw(0...2))]
    raftConfiguration.retainedLogBytes = [2_000, 20_000, 1 << 20][Int(draw(0...2))]
    raftConfiguration.maximumAppendBytes = [200, 2_000, 1 << 20][Int(draw(0...2))]
    raftConfiguration.maximumInFlight = [1, 4, 64][Int(draw(0...2))]
    raftConfiguration.maximumWitnessLogBytes = [6_000, 1 << 20][Int(draw(0...1))]
    if chance(50) { (longestQuiet, longestOutage) = (400, 300) }
    let membership = Membership([
      Member(id: "a", role: .data), Member(id: "b", role: .data), Member(id: "w", role: .witness),
    ])
    for member in membership.members { try add(member.id, member.role, membership) }
    for number in 0..<configuration.clients {
      clients.append(SimulatedClient(number: number))
      queue.add(.client(number, number: 0), at: draw(0...500))
    }
    queue.add(.fault, at: draw(500...2000))
  }

  mutating func add(_ id: NodeID, _ role: Member.Role, _ membership: Membership) throws {
    nodes[id] = try SimulatedNode(
      id: id, role: role, membership: membership,
      // A lease leaves a tenth for clocks that run differently.
      clockDrift: Int64(draw(0...80_000)) - 40_000, clockStart: draw(0...100_000))
    queue.add(.start(id), at: time + draw(0...50))
  }

  private mutating func play(until end: UInt64) throws {
    while let next = queue.nextTime, next <= end {
      let (time, event) = queue.next()!
      self.time = time
      try handle(event)
    }
    time = end
  }

  private mutating func handle(_ event: Happening) throws {
    if let node = concerned(event), node.pausedUntil > time {
      // A stopped process does nothing; what comes for it waits.
      queue.add(event, at: node.pausedUntil)
      return
    }
    switch event {
    case .tick(let id, let incarnation):
      guard let node = running(id, incarnation) else { return }
      queue.add(event, at: time + 10)
      try step(node, .tick)
    case .deliver(var message):
      guard let node = nodes[message.to], let raft = node.raft else { return }
      configuration.mutant?.change(&message, for: raft)
      try step(node, .received(message))
    case .flush(let id, let incarnation):
      if let node = running(id, incarnation) { try flush(node) }
    case .checkpoint(let id):
      queue.add(event, at: time + draw(200...3000))
      guard let node = nodes[id], node.isUp, node.role == .data else { return }
      node.checkpoint()
      try step(node, .checkpointed(node.machine.base.position.index))
    case .start(let id): try start(id)
    case .snapshot(let to, let term, let from, let machine):
      try receiveSnapshot(to: to, term: term, from: from, machine)
    case .snapshotSent(let by, let incarnation, let to, let installed):
      if let node = running(by, incarnation) {
        try step(node, .snapshotSent(to: to, installed: installed))
      }
    case .request(let to, let request): try serve(request, at: to)
    case .reply(let client, let number, let reply): answer(client, number, reply)
    case .client(let client, let number): act(client, number)
    case .crash(let id, let incarnation):
      if let node = running(id, incarnation), !isCalm { crash(node, losesPower: chance(50)) }
    case .fault: try injectFault()
    case .heal(let healing): heal(healing)
    }
  }

  private func concerned(_ event: Happening) -> SimulatedNode? {
    switch event {
    case .tick(let id, _), .flush(let id, _), .checkpoint(let id), .request(let id, _): nodes[id]
    case .deliver(let message): nodes[message.to]
    case .snapshot(let id, _, _, _), .snapshotSent(let id, _, _, _): nodes[id]
    default: nil
    }
  }

  private func running(_ id: NodeID, _ incarnation: Int) -> SimulatedNode? {
    guard let node = nodes[id], node.isUp, node.incarnation == incarnation else { return nil }
    return node
  }

  // MARK: nodes

  mutating func start(_ id: NodeID) throws {
    guard let node = nodes[id], !node.isUp, !node.isGone else { return }
    do {
      try node.start(at: time, configuration: raftConfiguration, mutant: configuration.mutant)
    } catch {
      // A full disk, one that fails while the journal is opened, or a power cut in that, is no loss.
      if let store = error as? SegmentStoreError, case .disk = store {
        note("\(id) cannot start yet: \(error)")
        crash(node, losesPower: true)
        return
      }
      throw violation("\(id) cannot start: \(error)")
    }
    note("\(id) starts: \(node.raft!.leadership), log ends at \(node.raft!.lastPosition)")
    try ledger.restarted(node.raft!)
    queue.add(.tick(id, incarnation: node.incarnation), at: time + draw(1...10))
    if node.incarnation == 1 { queue.add(.checkpoint(id), at: time + draw(200...3000)) }
  }

  mutating func step(_ node: SimulatedNode, _ event: Event) throws {
    let effects = node.replica!.step(event, at: node.clock(time))
    try perform(effects, at: node)
  }

  private mutating func perform(_ effects: [Replica.Effect], at node: SimulatedNode) throws {
    for effect in effects {
      guard node.isUp else { return }
      switch effect {
      case .send(let message): send(message)
      case .persist(let persist): write(persist, at: node)
      case .apply(let first, let entries, let proposals):
        try apply(entries, first: first, proposals, at: node)
        try perform(node.replica!.applied(through: first + UInt64(entries.count) - 1), at: node)
      case .failed(let id, let failure): fail(id, failure, at: node)
      case .readable(let id): read(id, at: node)
      case .sendSnapshot(let target, let term): sendSnapshot(to: target, term: term, from: node)
      case .installSnapshot:
        // Put in place by `receiveSnapshot`, which knows it.
        try perform(node.replica!.applied(through: node.machine.base.position.index), at: node)
      case .discardSnapshot: break
      case .compact(let base):
        node.journal!.compact(to: base)
        planFlush(node)
      case .leadership(let leadership):
        note("\(node.id): \(leadership)")
        if leadership.role == .leader { report.elections += 1 }
        if chance(5) { planCrash(of: node) }
      case .halt(let reason):
        // With our own disks, which lose nothing that they promised to keep, no node ever has a reason to stop.
        throw violation("\(node.id) halts: \(reason)")
      }
    }
    if let raft = node.raft { try check(raft) }
  }

  private mutating func write(_ persist: Persist, at node: SimulatedNode) {
    var persist = persist
    if configuration.mutant == .acknowledgesWithoutRecording && node.role == .witness {
      // Only the term and the vote reach the disk.
      persist = Persist(number: persist.number, hardState: persist.hardState)
    }
    node.journal!.write(persist)
    planFlush(node)
    // Promises are what a restart may forget.
    if persist.hardState?.vote != nil && chance(5) { planCrash(of: node) }
  }

  /// Right after a moment that matters.
  private mutating func planCrash(of node: SimulatedNode) {
    guard !isCalm else { return }
    queue.add(.crash(node.id, incarnation: node.incarnation), at: time + draw(0...40))
  }

  private mutating func planFlush(_ node: SimulatedNode) {
    guard !node.isFlushPlanned else { return }
    node.isFlushPlanned = true
    queue.add(
      .flush(node.id, incarnation: node.incarnation), at: time + draw(0...(2 * node.diskDelay)))
  }

  private mutating func flush(_ node: SimulatedNode) throws {
    node.isFlushPlanned = false
    let completion = node.completion
    node.journal!.flush { result in completion.withLock { $0 = result } }
    node.journal!.performWaitingWrites()
    switch completion.withLock({ $0.take() }) {
    case .success(let written)?:
      node.journal!.wrote(written)
      // What is let go of.
      node.journal!.performWaitingWrites()
      if let number = written.number { try step(node, .persisted(number: number)) }
    case .failure(let error)?:
      // What is on the disk is not known any more: the process ends, and the next one reads what is there.
      note("\(node.id) cannot write: \(error)")
      crash(node, losesPower: true)
    case nil: break
    }
  }

  private mutating func apply(
    _ entries: [Entry], first: Index, _ proposals: [Replica.Proposal], at node: SimulatedNode
  ) throws {
    var outputs: [RegisterOutput?] = []
    for (offset, entry) in entries.enumerated() {
      let index = first + UInt64(offset)
      try ledger.applied(entry, at: index, by: node.id, self)
      guard node.role == .data else { continue }
      guard node.machine.base.position.index + 1 == index else {
        throw violation("\(node.id) applies \(index) behind \(node.machine.base.position)")
      }
      outputs.append(node.machine.apply(entry))
      try ledger.state(node.machine, by: node.id, self)
    }
    guard node.role == .data else { return }
    node.durableMachines.append(node.machine)
    if node.durableMachines.count > 64 { node.durableMachines.removeFirst(32) }
    for proposal in proposals { finish(proposal.id, outputs[proposal.offset], at: node) }
  }

  // MARK: snapshots

  private mutating func sendSnapshot(to target: NodeID, term: Term, from node: SimulatedNode) {
    report.snapshots += 1
    let isLost = !network.isOpen(from: node.id, to: target) || chance(10)
    if isLost {
      queue.add(
        .snapshotSent(by: node.id, incarnation: node.incarnation, to: target, installed: nil),
        at: time + 200)
    } else {
      queue.add(
        .snapshot(to: target, term: term, from: node.id, node.machine), at: time + draw(5...300))
    }
  }

  private mutating func receiveSnapshot(
    to id: NodeID, term: Term, from: NodeID, _ machine: RegisterMachine
  ) throws {
    guard let node = nodes[id], node.isUp, let sender = nodes[from] else { return }
    let isNew = machine.base.position.index > node.raft!.commit
    if isNew && node.raft!.role != .leader {
      // The state is in place and durable before the log hears of it.
      node.machine = machine
      node.durableMachines = [machine]
    }
    if chance(10) && !isCalm {
      crash(node, losesPower: true)
    } else {
      try step(node, .snapshotArrived(from: from, term: term, base: machine.base))
    }
    queue.add(
      .snapshotSent(
        by: from, incarnation: sender.incarnation, to: id,
        installed: node.isUp ? machine.base.position.index : nil), at: time + draw(1...50))
  }

  // MARK: dice

  mutating func draw(_ range: ClosedRange<UInt64>) -> UInt64 {
    UInt64.random(in: range, using: &random)
  }

  mutating func chance(_ percent: UInt64) -> Bool { draw(0...99) < percent }

  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[Int(draw(0...UInt64(elements.count - 1)))]
  }
}
