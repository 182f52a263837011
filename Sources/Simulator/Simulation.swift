import Base
import Raft
import Replication
import SegmentStore

/// A cluster of two data nodes and a witness with its clients, on simulated clocks, network and disks: the real consensus,
/// replica and journal run in one thread, and a seed decides all that happens.
public struct Simulation {
  public struct Configuration: Sendable {
    /// Milliseconds with faults; and those that the cluster has to recover in afterwards.
    public var faultyMilliseconds: UInt64 = 14_000
    public var calmMilliseconds: UInt64 = 20_000
    public var clients = 4
    public var registers: UInt64 = 3
    public var mutant: SimulationMutant?
    /// Prints what happens.
    public var isVerbose = false

    public init() {}
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
    case ballast
    case crash(NodeID, incarnation: Int)
    case isolate(NodeID)
    case fault
    case heal(Healing)
  }

  let seed: UInt64
  let configuration: Configuration
  var raftConfiguration: RaftConfiguration
  let style: SimulationStyle
  var random: SeededGenerator
  var queue = EventQueue<Happening>()
  var time: UInt64 = 0
  /// In order of their names; those that are gone stay.
  private(set) var nodes: [SimulatedNode] = []
  var network: SimulatedLinks
  var clients: [SimulatedClient] = []
  var waiting: [UInt64: Waiting] = [:]
  var nextRequest: UInt64 = 1
  var ledger = Ledger()
  var history: [Int: [Operation<RegisterInput, RegisterOutput>]] = [:]
  var report = Report()
  var operationsInCalm = 0
  var isCalm = false
  /// Nobody's process stands still after this.
  var pausedUntil: UInt64 = 0
  var replacement: (old: NodeID, new: NodeID)?
  var nextName = 1

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
    style = SimulationStyle(seed: seed, &random)
    raftConfiguration = style.configuration
    raftConfiguration.mutant = configuration.mutant?.inside
    network = SimulatedLinks(style)
  }

  /// Plays the whole run.
  public static func run(
    seed: UInt64, configuration: Configuration = Configuration()
  ) throws -> Report {
    var simulation = Simulation(seed: seed, configuration: configuration)
    try simulation.begin()
    try simulation.play(until: configuration.faultyMilliseconds)
    try simulation.calm()
    try simulation.recover()
    try simulation.finish()
    return simulation.report
  }

  func violation(_ kind: Violation.Kind, _ text: String) -> Violation {
    Violation(seed: seed, time: time, kind: kind, text: text)
  }

  func note(_ text: @autoclosure () -> String) {
    if configuration.isVerbose { print("\(time) ms  \(text())") }
  }

  private mutating func begin() throws {
    note("\(style)")
    let membership = Membership([
      Member(id: "a", role: .data), Member(id: "b", role: .data), Member(id: "w", role: .witness),
    ])
    for member in membership.members { try add(member.id, member.role, membership) }
    for number in 0..<configuration.clients {
      clients.append(SimulatedClient(number: number))
      queue.add(.client(number, number: 0), at: draw(0...500))
    }
    if style.ballast > 0 { queue.add(.ballast, at: draw(0...500)) }
    queue.add(.fault, at: draw(500...2000))
  }

  mutating func add(_ id: NodeID, _ role: Member.Role, _ membership: Membership) throws {
    let node = try SimulatedNode(
      id: id, role: role, membership: membership,
      // A lease leaves a tenth for clocks that run differently.
      clockDrift: Int64(draw(0...80_000)) - 40_000, clockStart: draw(0...100_000))
    nodes.append(node)
    nodes.sort { $0.id < $1.id }
    queue.add(.start(id), at: time + draw(0...50))
  }

  func node(_ id: NodeID) -> SimulatedNode? { nodes.first { $0.id == id } }

  private mutating func play(until end: UInt64) throws {
    while let next = queue.nextTime, next <= end {
      let (time, event) = queue.next()!
      self.time = time
      try handle(event)
    }
    time = end
  }

  /// Until all is well again, or for as long as it may take.
  private mutating func recover() throws {
    let end = configuration.faultyMilliseconds + configuration.calmMilliseconds
    repeat { try play(until: min(end, time + 500)) } while time < end && !isSettled
  }

  private mutating func handle(_ event: Happening) throws {
    if time < pausedUntil, let node = concerned(event), node.pausedUntil > time {
      // A stopped process does nothing; what comes for it waits.
      queue.add(event, at: node.pausedUntil)
      return
    }
    switch event {
    case .tick(let id, let incarnation):
      guard let node = running(id, incarnation) else { return }
      queue.add(event, at: time + 10)
      try step(node, .tick)
    case .deliver(let message): try deliver(message)
    case .flush(let id, let incarnation):
      if let node = running(id, incarnation) { try flush(node) }
    case .checkpoint(let id):
      queue.add(event, at: time + draw(200...3000))
      guard let node = node(id), node.isUp, node.role == .data else { return }
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
    case .ballast: try proposeBallast()
    case .crash(let id, let incarnation):
      if let node = running(id, incarnation), !isCalm { crash(node, losesPower: chance(50)) }
    case .isolate(let id): if !isCalm { isolate(id) }
    case .fault: try injectFault()
    case .heal(let healing): try heal(healing)
    }
  }

  private func concerned(_ event: Happening) -> SimulatedNode? {
    switch event {
    case .tick(let id, _), .flush(let id, _), .checkpoint(let id), .request(let id, _): node(id)
    case .deliver(let message): node(message.to)
    case .snapshot(let id, _, _, _), .snapshotSent(let id, _, _, _): node(id)
    default: nil
    }
  }

  private func running(_ id: NodeID, _ incarnation: Int) -> SimulatedNode? {
    guard let node = node(id), node.isUp, node.incarnation == incarnation else { return nil }
    return node
  }

  // MARK: dice

  mutating func draw(_ range: ClosedRange<UInt64>) -> UInt64 {
    UInt64.random(in: range, using: &random)
  }

  mutating func chance(_ percent: UInt64) -> Bool { percent > 0 && draw(0...99) < percent }

  mutating func pick<Element>(_ elements: [Element]) -> Element {
    elements[Int(draw(0...UInt64(elements.count - 1)))]
  }
}
