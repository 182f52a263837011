/// Consensus among two data nodes and a witness, or any other few: Raft (Ongaro and Ousterhout, 2014) with what
/// Ongaro's dissertation adds, as a value. It does nothing itself: events go in, and actions come out that its caller performs in
/// order. Time is what its caller says it is. `docs/design/raft.md` names every departure from Raft.
public struct Raft: Sendable {
  public let id: NodeID
  public let isWitness: Bool
  package let configuration: RaftConfiguration
  public internal(set) var hardState: HardState
  public internal(set) var role = Leadership.Role.follower
  public internal(set) var leader: NodeID?
  var log: EntryLog
  /// Entries up to here are chosen for ever.
  public internal(set) var commit: Index
  /// Entries up to here were handed to the state machine.
  public internal(set) var applied: Index
  /// The state machine is durable up to here.
  var checkpoint: Index
  var durability: Durability
  /// In force: the latest in the log, committed or not (dissertation, section 4.1).
  public internal(set) var membership: Membership

  var now: Tick
  var random: UInt64
  /// A follower or candidate begins an election at this time.
  var electionDeadline: Tick
  var nextPreVote: Tick = 0
  /// When a leader of this term, or one before, was last heard.
  var lastHeard: Tick?
  /// Before the restart this node may have promised a leader not to vote; it does not know.
  let mutedUntil: Tick
  var votes: [NodeID: Bool] = [:]
  /// The write that makes this candidate's own vote durable.
  var campaignNumber: UInt64?
  /// A witness was asked for its vote by a data node whose log is behind.
  var hasSeenCandidateBehind = false
  /// Where this node's log is known to be that of the leader of this term.
  var matchedIndex: Index = 0
  var retained: Index = 0
  var freshness: Freshness
  var leading: LeaderState?
  public internal(set) var isHalted = false

  // What a step has changed and its end turns into actions.
  var actions: [Action] = []
  var hasNewHardState = false
  var firstNewIndex: Index?
  var newBase: LogBase?
  var durableMessages: [Message] = []

  /// A node as it was stored.
  ///
  /// - Parameters:
  ///   - role: also of a node that is to take another's place and does not know the members yet.
  ///   - applied: what the state machine holds, at least the base. A witness gives its base.
  ///   - entries: behind the base.
  public init(
    id: NodeID, role: Member.Role = .data, configuration: RaftConfiguration,
    hardState: HardState = HardState(),
    base: LogBase, entries: [Entry] = [], applied: Index, now: Tick
  ) {
    configuration.validate()
    self.id = id
    isWitness = role == .witness
    self.configuration = configuration
    self.hardState = hardState
    log = EntryLog(base: base, entries: entries)
    precondition(
      applied >= base.position.index && applied <= log.lastIndex,
      "the state has applied \(applied), the log has \(log.firstIndex) to \(log.lastIndex)")
    precondition(
      hardState.term >= log.last.term, "term \(hardState.term), the log ends at \(log.last)")
    self.applied = applied
    commit = applied
    checkpoint = base.position.index
    durability = Durability(index: log.lastIndex)
    membership = base.membership
    self.now = now
    random =
      configuration.seed
      &+ id.name.utf8.reduce(14_695_981_039_346_656_037) {
        ($0 ^ UInt64($1)) &* 1_099_511_628_211
      }
    // Without leases a vote too early disturbs and does not harm.
    let hasPromised = configuration.readsUseLease && (hardState.term > 0 || log.lastIndex > 0)
    mutedUntil = !hasPromised ? now : now + configuration.longestElectionTicks
    electionDeadline = now
    freshness = Freshness(stamp: (configuration.seed &+ now) << 20)
    refreshMembership()
    postponeElection()
    // Nobody else could lead.
    if membership.members.map(\.id) == [id] { electionDeadline = now }
  }

  /// What became of an event.
  ///
  /// - Parameter now: never less than before; read from the clock when the event is handed over, not when it arose.
  public mutating func step(_ event: Event, at now: Tick) -> [Action] {
    guard !isHalted else { return [] }
    self.now = max(self.now, now)
    let before = (hardState.term, role, leader)
    switch event {
    case .tick: tick()
    case .received(let message): receive(message)
    case .propose(let proposals):
      for proposal in proposals { propose(proposal.id, .command(proposal.command)) }
    case .read(let id): read(id)
    case .persisted(let number): persisted(number)
    case .checkpointed(let index): checkpoint = max(checkpoint, min(index, applied))
    case .snapshotArrived(_, _, let base): install(base)
    case .snapshotSent(let node, let installed): snapshotSent(node, installed)
    case .unreachable(let node): unreachable(node)
    case .transfer(let target): transfer(to: target)
    case .replace(let id, let old, let new): replace(id, old, new)
    }
    if !isHalted { finish() }
    if before != (hardState.term, role, leader) { actions.append(.leadership(leadership)) }
    defer { actions = [] }
    return actions
  }

  public var leadership: Leadership {
    Leadership(term: hardState.term, leader: leader, role: role)
  }

  var isLogFull: Bool { log.sizeBytes >= configuration.maximumWitnessLogBytes }

  /// The log's last entry, on its way to the disk or there.
  public var lastPosition: Position { log.last }
  public var firstIndex: Index { log.firstIndex }
  public var base: LogBase { log.base }
  public var durableIndex: Index { durability.index }
  public var logSizeBytes: UInt64 { log.sizeBytes }

  /// What a leader knows of the others: what they have durably, and how long ago they answered.
  public var peers: [(id: NodeID, match: Index, ticksSinceHeard: Tick)] {
    (leading?.progress ?? [:]).map { ($0.key, $0.value.match, now - min(now, $0.value.lastHeard)) }
      .sorted { $0.id < $1.id }
  }

  /// When the next `.tick` is due, at the latest.
  public var nextTick: Tick {
    switch role {
    case .leader: min(leading!.nextHeartbeat, now + configuration.heartbeatTicks)
    case .preCandidate: min(electionDeadline, nextPreVote)
    case .follower, .candidate: electionDeadline
    }
  }

  /// What a snapshot of the state as of an applied entry says of the log; nil where it is not in the log any more.
  public func snapshotBase(at index: Index) -> LogBase? {
    index <= applied ? log.base(at: index) : nil
  }

  /// As a leader knows.
  public var isWitnessFull: Bool { leading?.progress.contains { $0.value.isFull } ?? false }

  /// For whoever checks that logs of several nodes agree: nil where it is not in the log any more, or not yet.
  public func entry(at index: Index) -> Entry? { log.entry(at: index) }
  public func term(at index: Index) -> Term? { log.term(at: index) }

  // MARK: the end of a step

  private mutating func finish() {
    if role == .leader { advanceCommit() }
    emitPersist()
    apply()
    if role == .leader { replicate() }
    compact()
    checkInvariants()
  }

  private mutating func emitPersist() {
    defer { durableMessages = [] }
    if hasNewHardState || firstNewIndex != nil || newBase != nil {
      let first = newBase.map { $0.position.index + 1 } ?? firstNewIndex
      // Behind a new base everything is written anew; nothing that was durable counts before it is.
      let number = durability.begin(
        first: first, lastIndex: log.lastIndex, hasHardState: hasNewHardState)
      if role == .candidate && campaignNumber == nil { campaignNumber = number }
      actions.append(
        .persist(
          Persist(
            number: number, hardState: hasNewHardState ? hardState : nil, reset: newBase,
            first: first ?? 0,
            entries: first.map { log.entries(from: $0, through: log.lastIndex) } ?? [])))
      (hasNewHardState, firstNewIndex, newBase) = (false, nil, nil)
    }
    for message in durableMessages {
      if durability.lastNumber > durability.doneNumber {
        durability.hold(message, until: durability.lastNumber)
      } else {
        actions.append(.send(message))
      }
    }
  }

  private mutating func persisted(_ number: UInt64) {
    // What was to be said in an earlier term is of no use any more.
    for message in durability.done(number) where message.term == hardState.term {
      actions.append(.send(message))
    }
    if role == .candidate, let campaignNumber, campaignNumber <= number, votes[id] == nil {
      count(vote: true, from: id)
    }
  }

  private mutating func apply() {
    let last = min(commit, durability.index)
    guard last > applied else { return }
    actions.append(
      .apply(first: applied + 1, entries: log.entries(from: applied + 1, through: last)))
    applied = last
  }

  /// Lets go of entries that neither the state machine nor another node needs.
  private mutating func compact() {
    var target = min(applied, durability.index)
    var isCrowded = isLogFull
    let others =
      leading.map { leading in
        leading.progress.values.map(\.match).min() ?? .max
      } ?? retained
    if isWitness {
      guard role != .leader else { return }
      target = min(target, others)
    } else {
      target = min(target, checkpoint)
      // Where a snapshot is on its way, what follows it is still to be sent.
      let isSending = leading?.progress.contains { $0.value.state == .snapshot } ?? false
      isCrowded = log.sizeBytes > configuration.retainedLogBytes * (isSending ? 4 : 1)
      if !isCrowded { target = min(target, others) }
    }
    let step = isCrowded ? 1 : configuration.compactionStep
    guard target >= log.base.position.index + step else { return }
    log.compact(through: target)
    refreshMembership()
    actions.append(.compact(log.base))
  }

  /// They hold whatever the others send; a node in which one does not must not say another word.
  private mutating func checkInvariants() {
    require(log.base.position.index <= applied && applied <= commit && commit <= log.lastIndex) {
      "base \($0.log.base.position), applied \($0.applied), commit \($0.commit), last \($0.log.last)"
    }
    require(durability.index <= log.lastIndex) {
      "durable \($0.durability.index), last \($0.log.last)"
    }
    require(log.last.term <= hardState.term) { "last \($0.log.last) in term \($0.hardState.term)" }
    require((role == .leader) == (leading != nil) && (role != .leader || leader == id)) {
      "\($0.role) with leader \($0.leader?.name ?? "none")"
    }
  }

  private mutating func require(_ holds: Bool, _ values: (Raft) -> String) {
    if !holds && !isHalted { halt("an invariant is broken: \(values(self))") }
  }

  // MARK: small tools

  func message(to node: NodeID, _ body: Message.Body) -> Message {
    Message(from: id, to: node, term: hardState.term, body: body)
  }

  mutating func send(_ body: Message.Body, to node: NodeID) {
    actions.append(.send(message(to: node, body)))
  }

  /// Once everything this node has changed so far is on stable storage.
  mutating func sendWhenDurable(_ body: Message.Body, to node: NodeID) {
    durableMessages.append(message(to: node, body))
  }

  mutating func append(_ entries: [Entry]) {
    guard !entries.isEmpty else { return }
    firstNewIndex = min(firstNewIndex ?? .max, log.lastIndex + 1)
    let before = log.latestMembership.index
    log.append(entries)
    if log.latestMembership.index != before { refreshMembership() }
  }

  mutating func refreshMembership() {
    membership = log.latestMembership.membership
    guard role == .leader else { return }
    let others = membership.everyone.map(\.id).filter { $0 != id }
    for node in others where leading!.progress[node] == nil {
      leading!.progress[node] = Progress(next: log.lastIndex + 1, lastHeard: now)
    }
    for node in leading!.progress.keys where !others.contains(node) {
      leading!.progress[node] = nil
    }
  }

  mutating func halt(_ reason: String) {
    isHalted = true
    actions.append(.halt(reason))
  }

  /// SplitMix64 (Steele, Lea, Flood 2014).
  mutating func draw(below bound: UInt64) -> UInt64 {
    random &+= 0x9E37_79B9_7F4A_7C15
    var mixed = (random ^ (random >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return (mixed ^ (mixed >> 31)) % max(1, bound)
  }
}
