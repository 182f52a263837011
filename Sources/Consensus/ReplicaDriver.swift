import Base
import Glibc
import Logging
import Raft
import Replication
import SegmentStore

/// Where a driver's messages go. Neither call waits.
public protocol PeerTransport: AnyObject, Sendable {
  /// - Parameter member: nil where the log does not know the node: a leader that it has not told of yet.
  func send(_ messages: [Message], to node: NodeID, _ member: Member?)
  /// Streams a state; `done` is told the index that was installed there, nil for a failure.
  func sendSnapshot(
    _ path: String, base: LogBase, term: Term, to node: Member,
    done: @escaping @Sendable (Index?) -> Void)
  func close()
}

/// Why a command or read was not carried out by this node.
public enum ConsensusFailure: Error, Sendable, Equatable {
  /// Somebody else leads, or nobody. Nothing was done.
  case notLeader(leader: Member?, term: Term)
  /// Nothing was done; later it may.
  case refused(Refusal)
  /// Nothing was done and nothing will be.
  case superseded
  /// It may have been done or not.
  case unknown
  /// A follower that was asked for a state no older than so and so.
  case tooStale
  /// The node has stopped for good.
  case halted(String)
}

/// What a node tells about itself.
public struct ConsensusStatus: Sendable {
  public struct Peer: Sendable {
    public var member: Member
    public var match: Index
    public var millisecondsSinceHeard: UInt64
  }

  public var node: NodeID
  public var isWitness: Bool
  public var leadership: Leadership
  public var membership: Membership
  public var last: Position
  public var commit: Index
  public var applied: Index
  public var logSizeBytes: UInt64
  /// A leader was told by the witness that its log has reached its bound.
  public var isWitnessFull: Bool
  /// A leader's view of the others.
  public var peers: [Peer]
  public var haltReason: String?
}

/// Runs one node of the consensus: a thread that owns the replica and its journal, takes what happens, and does what follows.
/// Disk, network and state machine work elsewhere and report back.
public final class ReplicaDriver<Machine: ReplicatedStateMachine>: @unchecked Sendable {
  typealias Answer = CheckedContinuation<Result<Machine.Outcome, ConsensusFailure>, Never>
  typealias ReadAnswer = CheckedContinuation<ConsensusFailure?, Never>

  enum Input {
    case event(Event)
    case propose([UInt8], Answer)
    case read(ReadAnswer)
    case readStale(maximumTicks: Tick, ReadAnswer)
    case replace(NodeID, Member, CheckedContinuation<ConsensusFailure?, Never>)
    case wrote(Result<Journal.Written, SegmentStoreError>)
    case applied(last: Index, Result<[Machine.Outcome?], any Error>, [Replica.Proposal])
    case settling
    case settled(Result<Void, any Error>)
    case checkpointed(Result<Index, any Error>)
    case snapshotSent(to: NodeID, installed: Index?)
    case snapshotWritten(path: String, to: NodeID, term: Term, Result<LogBase, any Error>)
    case snapshotArrived(
      from: NodeID, term: Term, LogBase, path: String, CheckedContinuation<Index?, Never>)
    case installed(LogBase, Result<Void, any Error>)
    case status(CheckedContinuation<ConsensusStatus, Never>)
    case stop
  }

  public let node: NodeID
  let inbox = Inbox<Input>()
  let logger: Logger
  let machine: Machine
  let directory: String
  private let clock: any Clock
  private let onLeadership: @Sendable (Leadership) -> Void
  private let onHalt: @Sendable (String) -> Void
  private let ended = Locked<(isOver: Bool, waiters: [CheckedContinuation<Void, Never>])>(
    (false, []))
  /// What is told of a node that has stopped.
  private let lastStatus = Locked<ConsensusStatus?>(nil)

  // The rest belongs to the thread.
  var replica: Replica
  private let journal: Journal
  var transport: (any PeerTransport)?
  private var outgoing: [NodeID: [Message]] = [:]
  /// Came one after the other, and are handed to the consensus together.
  private var proposed: [Event.Proposal] = []
  /// The last entry of those that were handed over last, and when that was, in nanoseconds.
  private var round: (end: Index, began: UInt64) = (0, 0)
  private var nextID: UInt64 = 1
  var answers: [UInt64: Answer] = [:]
  private var readAnswers: [UInt64: ReadAnswer] = [:]
  var changeAnswers: [UInt64: CheckedContinuation<ConsensusFailure?, Never>] = [:]
  var staleReads: [(index: Index, answer: ReadAnswer)] = []
  /// Handed over by the consensus and not yet given to the state machine.
  var waitingEntries: [Entry] = []
  var waitingFirst: Index = 0
  var waitingProposals: [Replica.Proposal] = []
  var isApplying = false
  var isSettling = false
  /// Something was applied since the last time that the state began to be settled.
  var isUnsettled = false
  var appliedSinceCheckpoint: UInt64 = 0
  var lastCheckpoint: Tick = 0
  var isCheckpointing = false
  /// A state is being written out: nothing may take its place, or write it back, meanwhile.
  var isWritingSnapshot = false
  /// It is that, or on its way.
  var isSendingSnapshot = false
  var arrived: (path: String, answer: CheckedContinuation<Index?, Never>)?
  var isInstalling = false
  /// A state that is put in place as soon as the state machine has done what it was given.
  var stateToInstall: LogBase?
  var haltReason: String?
  private var isStopping = false

  private static var maximumWaiting: Int { 8192 }
  private static var maximumInbox: Int { 16_384 }
  private static var longestRoundNanoseconds: UInt64 { 2_000_000 }

  /// - Parameters:
  ///   - directory: for snapshots on their way; must exist.
  ///   - onLeadership: called on the driver's thread, which it must not hold up; so is `onHalt`.
  public init(
    replica: Replica, journal: Journal, machine: Machine, directory: String,
    clock: any Clock = BootClock(), logger: Logger,
    onLeadership: @escaping @Sendable (Leadership) -> Void = { _ in },
    onHalt: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.replica = replica
    self.journal = journal
    self.machine = machine
    self.directory = directory
    self.clock = clock
    self.logger = logger
    self.onLeadership = onLeadership
    self.onHalt = onHalt
    node = replica.raft.id
  }

  /// - Parameter transport: told messages from now on.
  public func start(_ transport: any PeerTransport) {
    self.transport = transport
    let failure = startDetachedThread { self.run() }
    precondition(failure == 0, "no thread for the consensus: \(failure)")
  }

  // MARK: what others ask

  /// Returns once the command has been applied here, with what that answered.
  public func propose(_ command: [UInt8]) async throws(ConsensusFailure) -> Machine.Outcome {
    try await withCheckedContinuation { put(.propose(command, $0), canWait: true) }.get()
  }

  /// Returns once the state here is what it was at some time after the call, or later.
  public func read() async throws(ConsensusFailure) {
    if let failure = await withCheckedContinuation({ put(.read($0)) }) { throw failure }
  }

  /// Returns once the state here is no older than so many milliseconds, at whatever node this is.
  public func read(noOlderThan milliseconds: UInt64) async throws(ConsensusFailure) {
    let failure = await withCheckedContinuation {
      put(.readStale(maximumTicks: milliseconds, $0))
    }
    if let failure { throw failure }
  }

  /// Puts a new node in an old one's place; returns once both majorities have agreed.
  public func replace(_ old: NodeID, by new: Member) async throws(ConsensusFailure) {
    let failure = await withCheckedContinuation { put(.replace(old, new, $0)) }
    if let failure { throw failure }
  }

  /// Hands leadership over, to any data node where none is named. Whether it did, the status tells.
  public func transfer(to node: NodeID?) { put(.event(.transfer(to: node))) }

  public func status() async -> ConsensusStatus {
    await withCheckedContinuation { put(.status($0)) }
  }

  public func receive(_ messages: [Message]) {
    // What a thread that cannot keep up drops, it is sent again.
    for message in messages {
      inbox.put(.event(.received(message)), unlessLongerThan: Self.maximumInbox)
    }
  }

  public func unreachable(_ node: NodeID) { put(.event(.unreachable(node))) }

  /// A whole state has come in, verified and on stable storage. Returns the index up to which it is in place; nil
  /// where it was of no use. The file goes in any case.
  func snapshotArrived(
    from: NodeID, term: Term, base: LogBase, path: String
  ) async -> Index? {
    await withCheckedContinuation {
      put(.snapshotArrived(from: from, term: term, base, path: path, $0))
    }
  }

  /// For the thread, or, once that has ended, answered here: nobody waits for ever.
  func put(_ input: Input, canWait: Bool = false) {
    if !inbox.put(input, canWait: canWait) { refuse(input) }
  }

  private func refuse(_ input: Input) {
    let failure = ConsensusFailure.halted("the node has stopped")
    switch input {
    case .propose(_, let answer): answer.resume(returning: .failure(failure))
    case .read(let answer), .readStale(_, let answer), .replace(_, _, let answer):
      answer.resume(returning: failure)
    case .snapshotArrived(_, _, _, let path, let answer):
      unlink(path)
      answer.resume(returning: nil)
    case .snapshotWritten(let path, _, _, _): unlink(path)
    case .status(let answer): answer.resume(returning: lastStatus.withLock { $0! })
    case .event, .wrote, .applied, .settling, .settled, .checkpointed,
      .snapshotSent, .installed, .stop:
      break
    }
  }

  /// Says no more; returns once the journal is closed.
  public func stop() async {
    put(.stop)
    await withCheckedContinuation { continuation in
      let isOver = ended.withLock { ended in
        if !ended.isOver { ended.waiters.append(continuation) }
        return ended.isOver
      }
      if isOver { continuation.resume() }
    }
  }

  // MARK: the thread

  /// Milliseconds on a clock that goes on while the machine sleeps.
  var now: Tick { clock.monotonicNanoseconds() / 1_000_000 }

  private func run() {
    perform(replica.step(.tick, at: now))
    while !isStopping {
      let inputs = inbox.take(withinNanoseconds: untilNextInput, patiently: isRoundUnderWay)
      for input in inputs { handle(input) }
      if !isRoundUnderWay { handOverProposed() }
      if now >= replica.raft.nextTick && haltReason == nil {
        perform(replica.step(.tick, at: now))
      }
      flush()
    }
    transport?.close()
    lastStatus.withLock { $0 = currentStatus }
    failEverybody(.halted("the node has stopped"))
    // One that is being put in place goes on by itself; whoever sent it hears of it at the next start.
    arrived?.answer.resume(returning: nil)
    arrived = nil
    for input in inbox.close() { refuse(input) }
    let (journal, machine, ended, logger) = (journal, machine, ended, logger)
    Task {
      do { try await machine.settle() } catch {
        // The log has it.
        logger.warning("the state was not settled", metadata: ["reason": "\(error)"])
      }
      await journal.close()
      let waiters = ended.withLock { ended in
        ended.isOver = true
        defer { ended.waiters = [] }
        return ended.waiters
      }
      for waiter in waiters { waiter.resume() }
    }
  }

  private var untilNextTick: UInt64 {
    guard haltReason == nil else { return 1_000_000_000 }
    let (now, next) = (clock.monotonicNanoseconds(), replica.raft.nextTick * 1_000_000)
    return next > now ? next - now : 0
  }

  private func flush() {
    for (node, messages) in outgoing {
      transport?.send(messages, to: node, replica.raft.membership.member(node))
    }
    outgoing.removeAll(keepingCapacity: true)
    guard haltReason == nil, !isInstalling else { return }
    journal.flush { [inbox] result in inbox.put(.wrote(result)) }
    startApplying()
  }

  private func handle(_ input: Input) {
    switch input {
    case .event(let event):
      if haltReason == nil { perform(replica.step(event, at: now)) }
    case .propose(let command, let answer): propose(command, answer)
    case .read(let answer): read(answer)
    case .readStale(let maximum, let answer): readStale(maximum, answer)
    case .replace(let old, let new, let answer):
      if let haltReason { return answer.resume(returning: .halted(haltReason)) }
      let id = take()
      changeAnswers[id] = answer
      perform(replica.step(.replace(id: id, old: old, new: new), at: now))
    case .wrote(let result): wrote(result)
    case .applied(let last, let result, let proposals): applied(last, result, proposals)
    case .settling: settle()
    case .settled(let result): settled(result)
    case .checkpointed(let result): checkpointed(result)
    case .snapshotSent(let node, let installed):
      isSendingSnapshot = false
      if haltReason == nil {
        perform(replica.step(.snapshotSent(to: node, installed: installed), at: now))
      }
    case .snapshotWritten(let path, let to, let term, let result):
      snapshotWritten(path, to, term, result)
    case .snapshotArrived(let from, let term, let base, let path, let answer):
      snapshotArrived(from, term, base, path, answer)
    case .installed(let base, let result): installed(base, result)
    case .status(let answer): answer.resume(returning: currentStatus)
    case .stop: isStopping = true
    }
  }

  private func take() -> UInt64 {
    defer { nextID += 1 }
    return nextID
  }

  private func propose(_ command: [UInt8], _ answer: Answer) {
    if let haltReason { return answer.resume(returning: .failure(.halted(haltReason))) }
    guard answers.count < Self.maximumWaiting else {
      return answer.resume(returning: .failure(.refused(.overloaded)))
    }
    let id = take()
    answers[id] = answer
    proposed.append(.init(id: id, command: command))
  }

  private func handOverProposed() {
    guard !proposed.isEmpty else { return }
    defer { proposed.removeAll(keepingCapacity: true) }
    guard haltReason == nil else { return }
    perform(replica.step(.propose(proposed), at: now))
    round = (replica.raft.lastPosition.index, clock.monotonicNanoseconds())
  }

  /// What comes up while earlier proposals are on their way waits a moment for them: one large round costs the disks and
  /// the network little more than one command, and many small ones much more.
  private var isRoundUnderWay: Bool {
    haltReason == nil && replica.raft.role == .leader && replica.raft.commit < round.end
      && clock.monotonicNanoseconds() < round.began + Self.longestRoundNanoseconds
  }

  private var untilNextInput: UInt64 {
    // Nobody wakes this thread for a proposal that can wait: at the end of the round it looks by itself.
    guard isRoundUnderWay else { return untilNextTick }
    let (now, end) = (
      clock.monotonicNanoseconds(), round.began + Self.longestRoundNanoseconds
    )
    return min(untilNextTick, end > now ? end - now : 0)
  }

  private func read(_ answer: ReadAnswer) {
    if let haltReason { return answer.resume(returning: .halted(haltReason)) }
    guard readAnswers.count < Self.maximumWaiting else {
      return answer.resume(returning: .refused(.overloaded))
    }
    let id = take()
    readAnswers[id] = answer
    perform(replica.step(.read(id: id), at: now))
  }

  func releaseStaleReads() {
    let ready = staleReads.filter { $0.index <= replica.applied }
    staleReads.removeAll { $0.index <= replica.applied }
    for read in ready { read.answer.resume(returning: nil) }
  }

  private func readStale(_ maximum: Tick, _ answer: ReadAnswer) {
    if let haltReason { return answer.resume(returning: .halted(haltReason)) }
    if replica.raft.role == .leader { return read(answer) }
    guard let staleness = replica.raft.staleness(at: now), staleness.ticks <= maximum,
      staleReads.count < Self.maximumWaiting
    else { return answer.resume(returning: .tooStale) }
    if replica.applied >= staleness.index { return answer.resume(returning: nil) }
    guard mayStillLearn(staleness.index) else { return answer.resume(returning: .tooStale) }
    staleReads.append((staleness.index, answer))
  }

  /// What it has not got, only a leader can give it.
  private func mayStillLearn(_ index: Index) -> Bool {
    index <= replica.raft.commit || replica.raft.leadership.leader != nil
  }

  func perform(_ effects: [Replica.Effect]) {
    for effect in effects {
      switch effect {
      case .send(let message): outgoing[message.to, default: []].append(message)
      case .persist(let persist): journal.write(persist)
      case .apply(let first, let entries, let proposals): queue(entries, first, proposals)
      case .failed(let id, let failure): fail(id, reason(failure))
      case .readable(let id): readAnswers.removeValue(forKey: id)?.resume(returning: nil)
      case .sendSnapshot(let node, let term): beginSnapshot(to: node, term)
      case .installSnapshot(let base): beginInstalling(base)
      case .discardSnapshot: discardArrived()
      case .compact(let base): journal.compact(to: base)
      case .leadership(let leadership): changed(leadership)
      case .halt(let reason): halt(reason)
      }
    }
  }

  private func changed(_ leadership: Leadership) {
    logger.notice(
      "leadership",
      metadata: [
        "term": "\(leadership.term)", "role": "\(leadership.role.rawValue)",
        "leader": "\(leadership.leader?.name ?? "none")",
      ])
    onLeadership(leadership)
    for read in staleReads where !mayStillLearn(read.index) {
      read.answer.resume(returning: .tooStale)
    }
    staleReads.removeAll { !mayStillLearn($0.index) }
  }

  private func reason(_ failure: Replica.Failure) -> ConsensusFailure {
    switch failure {
    case .refused(.notLeader(let leadership)):
      .notLeader(
        leader: leadership.leader.flatMap { replica.raft.membership.member($0) },
        term: leadership.term)
    case .refused(let refusal): .refused(refusal)
    case .superseded: .superseded
    case .unknown: .unknown
    }
  }

  func fail(_ id: UInt64, _ failure: ConsensusFailure) {
    answers.removeValue(forKey: id)?.resume(returning: .failure(failure))
    readAnswers.removeValue(forKey: id)?.resume(returning: failure)
    changeAnswers.removeValue(forKey: id)?.resume(returning: failure)
  }

  private func failEverybody(_ failure: ConsensusFailure) {
    for id in Array(answers.keys) + readAnswers.keys + changeAnswers.keys { fail(id, failure) }
    for read in staleReads { read.answer.resume(returning: failure) }
    staleReads = []
    discardArrived()
  }

  func halt(_ reason: String) {
    guard haltReason == nil else { return }
    haltReason = reason
    logger.critical(
      "this node has stopped taking part; nothing is stored or read here until a restart",
      metadata: ["reason": "\(reason)"])
    failEverybody(.halted(reason))
    onHalt(reason)
  }

  private func wrote(_ result: Result<Journal.Written, SegmentStoreError>) {
    switch result {
    case .success(let written):
      journal.wrote(written)
      if let number = written.number, haltReason == nil {
        perform(replica.step(.persisted(number: number), at: now))
      }
    case .failure(let error):
      // What is on the disk is not known any more: only a start that reads it can tell.
      halt("the journal cannot be written: \(error)")
    }
  }

  private var currentStatus: ConsensusStatus {
    let raft = replica.raft
    return ConsensusStatus(
      node: node, isWitness: raft.isWitness, leadership: raft.leadership,
      membership: raft.membership,
      last: raft.lastPosition, commit: raft.commit, applied: replica.applied,
      logSizeBytes: raft.logSizeBytes, isWitnessFull: raft.isWitnessFull,
      peers: raft.peers.compactMap { peer in
        raft.membership.member(peer.id).map {
          .init(member: $0, match: peer.match, millisecondsSinceHeard: peer.ticksSinceHeard)
        }
      }, haltReason: haltReason)
  }
}
