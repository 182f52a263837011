@testable import Raft

/// What a node would find again after its power was cut.
struct Disk {
  var hardState = HardState()
  var base: LogBase
  var entries: [Entry] = []

  var lastIndex: Index { base.position.index + UInt64(entries.count) }

  var last: Position {
    entries.last.map { Position(term: $0.term, index: lastIndex) } ?? base.position
  }

  mutating func write(_ persist: Persist) {
    if let state = persist.hardState { hardState = state }
    if let reset = persist.reset {
      base = reset
      entries = persist.entries
    } else if persist.first > 0 {
      entries.removeLast(Int(lastIndex + 1 - persist.first))
      entries += persist.entries
    }
  }

  mutating func compact(to newBase: LogBase) {
    guard newBase.position.index > base.position.index else { return }
    entries.removeFirst(Int(newBase.position.index - base.position.index))
    base = newBase
  }

  func term(at index: Index) -> Term? {
    if index == base.position.index { return base.position.term }
    guard index > base.position.index, index <= lastIndex else { return nil }
    return entries[Int(index - base.position.index) - 1].term
  }
}

/// A state machine that remembers where it stands, and what was in force there.
struct State: Hashable {
  var base: LogBase
  var commands: [[UInt8]] = []

  mutating func apply(_ entry: Entry) {
    base.position = Position(term: entry.term, index: base.position.index + 1)
    switch entry.payload {
    case .nothing: break
    case .command(let bytes): commands.append(bytes)
    case .membership(let membership): base.membership = membership.settled
    }
  }
}

struct Snapshot: Hashable {
  var from: NodeID
  var to: NodeID
  var term: Term
  var state: State
}

enum Parcel: Hashable {
  case message(Message)
  case snapshot(Snapshot)

  var from: NodeID {
    switch self {
    case .message(let message): message.from
    case .snapshot(let snapshot): snapshot.from
    }
  }
  var to: NodeID {
    switch self {
    case .message(let message): message.to
    case .snapshot(let snapshot): snapshot.to
    }
  }
}

struct Node {
  let isWitness: Bool
  let configuration: RaftConfiguration
  /// By how much its clock is fast.
  var skewPercent = 0
  /// Nil while it is down.
  var raft: Raft?
  var disk: Disk
  /// Begun, not yet durable.
  var writes: [Persist] = []
  var isDiskHeld = false
  var state: State
  /// What a restart finds of the state.
  var checkpoint: State
  var checkpointsAtOnce = true
  /// On its way from the stream to the state's place.
  var arrived: State?
}

struct Link: Hashable {
  var from: NodeID
  var to: NodeID
}

/// Nodes, what they have said and not heard yet, and their disks: the driver's part, under a test's control.
struct Group {
  var nodes: [NodeID: Node] = [:]
  var pool: [Parcel] = []
  var cuts: Set<Link> = []
  var now: Tick = 0
  /// Nothing is written down while it is nil.
  var story: Story?
  /// Sees every action before it is performed, and the node as it stands.
  var watch: ((NodeID, Action, Node) -> Void)?
  private var queue: [(Event, NodeID)] = []

  var names: [NodeID] { nodes.keys.sorted() }

  /// A node that is to replace another is given no membership: the leader will tell it.
  mutating func add(
    _ member: Member, _ configuration: RaftConfiguration,
    _ membership: Membership = Membership([])
  ) {
    let base = LogBase(membership: membership)
    let state = State(base: base)
    nodes[member.id] = Node(
      isWitness: member.role == .witness, configuration: configuration, disk: Disk(base: base),
      state: state, checkpoint: state)
    start(member.id)
  }

  func clock(of id: NodeID) -> Tick { now * UInt64(100 + nodes[id]!.skewPercent) / 100 }
  func raft(_ id: NodeID) -> Raft { nodes[id]!.raft! }
  func isUp(_ id: NodeID) -> Bool { nodes[id]?.raft != nil }

  // MARK: life and death

  /// Everything that is not on the disk is gone.
  mutating func crash(_ id: NodeID) {
    nodes[id]!.raft = nil
    nodes[id]!.writes = []
    nodes[id]!.arrived = nil
    nodes[id]!.state = nodes[id]!.checkpoint
  }

  mutating func start(_ id: NodeID) {
    var node = nodes[id]!
    let state = node.checkpoint
    if !node.isWitness, node.disk.term(at: state.base.position.index) != state.base.position.term {
      // A snapshot was put in place, and the log behind it was not written any more.
      node.disk.base = state.base
      node.disk.entries = []
    }
    let applied = node.isWitness ? node.disk.base.position.index : state.base.position.index
    node.raft = Raft(
      id: id, role: node.isWitness ? .witness : .data, configuration: node.configuration,
      hardState: node.disk.hardState,
      base: node.disk.base, entries: node.disk.entries, applied: applied, now: clock(of: id))
    node.isDiskHeld = false
    nodes[id] = node
  }

  // MARK: events

  /// One step at a time: what its actions bring about comes after them.
  mutating func happen(_ event: Event, to id: NodeID) {
    queue.append((event, id))
    guard queue.count == 1 else { return }
    while let (event, id) = queue.first {
      if nodes[id]?.raft != nil { step(event, id) }
      queue.removeFirst()
    }
  }

  private mutating func step(_ event: Event, _ id: NodeID) {
    let actions = nodes[id]!.raft!.step(event, at: clock(of: id))
    for action in actions {
      watch?(id, action, nodes[id]!)
      story?.note(id, action)
      perform(action, at: id)
    }
    guard !nodes[id]!.isDiskHeld else { return }
    for write in nodes[id]!.writes {
      nodes[id]!.disk.write(write)
      happen(.persisted(number: write.number), to: id)
    }
    nodes[id]!.writes = []
  }

  private mutating func perform(_ action: Action, at id: NodeID) {
    switch action {
    case .send(let message): post(.message(message))
    case .persist(let persist): nodes[id]!.writes.append(persist)
    case .apply(let first, let entries):
      guard !nodes[id]!.isWitness else { return }
      precondition(
        first == nodes[id]!.state.base.position.index + 1,
        "\(id) applies \(first) behind \(nodes[id]!.state.base.position)")
      for entry in entries { nodes[id]!.state.apply(entry) }
      if nodes[id]!.checkpointsAtOnce { checkpoint(id) }
    case .sendSnapshot(let node, let term):
      post(.snapshot(Snapshot(from: id, to: node, term: term, state: nodes[id]!.state)))
    case .installSnapshot:
      nodes[id]!.state = nodes[id]!.arrived!
      nodes[id]!.checkpoint = nodes[id]!.arrived!
    case .compact(let base): nodes[id]!.disk.compact(to: base)
    default: break
    }
  }

  /// The oldest write that is under way reaches the disk.
  mutating func persist(_ id: NodeID) {
    guard !nodes[id]!.writes.isEmpty else { return }
    let write = nodes[id]!.writes.removeFirst()
    nodes[id]!.disk.write(write)
    happen(.persisted(number: write.number), to: id)
  }

  mutating func checkpoint(_ id: NodeID) {
    nodes[id]!.checkpoint = nodes[id]!.state
    happen(.checkpointed(nodes[id]!.state.base.position.index), to: id)
  }

  // MARK: the network

  private mutating func post(_ parcel: Parcel) {
    guard !cuts.contains(Link(from: parcel.from, to: parcel.to)) else {
      if case .snapshot(let snapshot) = parcel {
        happen(.snapshotSent(to: snapshot.to, installed: nil), to: snapshot.from)
      }
      return
    }
    pool.append(parcel)
  }

  mutating func deliver(at position: Int) { hear(pool.remove(at: position)) }

  mutating func hear(_ parcel: Parcel) {
    let isHeard = isUp(parcel.to)
    story?.note(parcel, isUp: isHeard)
    guard isHeard else {
      fail(parcel)
      return
    }
    switch parcel {
    case .message(let message): happen(.received(message), to: message.to)
    case .snapshot(let snapshot):
      nodes[snapshot.to]!.arrived = snapshot.state
      let base = snapshot.state.base
      happen(
        .snapshotArrived(from: snapshot.from, term: snapshot.term, base: base), to: snapshot.to)
      happen(
        .snapshotSent(to: snapshot.to, installed: base.position.index), to: snapshot.from)
    }
  }

  /// Lost on its way: of a stream, unlike of a message, its sender learns that.
  mutating func fail(_ parcel: Parcel) {
    guard case .snapshot(let snapshot) = parcel else { return }
    happen(.snapshotSent(to: snapshot.to, installed: nil), to: snapshot.from)
  }

  mutating func cut(_ from: NodeID, _ to: NodeID) {
    cuts.insert(Link(from: from, to: to))
    let lost = pool.filter { $0.from == from && $0.to == to }
    pool.removeAll { $0.from == from && $0.to == to }
    for parcel in lost { fail(parcel) }
  }

  mutating func deliverAll(limit: Int = 10_000) {
    var count = 0
    while !pool.isEmpty {
      deliver(at: 0)
      count += 1
      precondition(count < limit, "messages breed messages")
    }
  }

  /// Lets time pass in small steps, everything being heard at once.
  mutating func run(_ ticks: Tick, step: Tick = 10) {
    let end = now + ticks
    while now < end {
      now = min(end, now + step)
      for id in names { happen(.tick, to: id) }
      deliverAll()
    }
  }
}
