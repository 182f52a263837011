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
    case checkpointed(Result<Index, any Error>)
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

  // The rest belongs to the thread.
  var replica: Replica
  private let journal: Journal
  private var transport: (any PeerTransport)?
  private var outgoing: [NodeID: [Message]] = [:]
  private var nextID: UInt64 = 1
  private var answers: [UInt64: Answer] = [:]
  private var readAnswers: [UInt64: ReadAnswer] = [:]
  private var changeAnswers: [UInt64: CheckedContinuation<ConsensusFailure?, Never>] = [:]
  private var staleReads: [(index: Index, answer: ReadAnswer)] = []
  /// Handed over by the consensus and not yet given to the state machine.
  private var waitingEntries: [Entry] = []
  private var waitingFirst: Index = 0
  private var waitingProposals: [Replica.Proposal] = []
  private var isApplying = false
  private var appliedSinceCheckpoint: UInt64 = 0
  private var isCheckpointing = false
  private var isSendingSnapshot = false
  private var arrived: (path: String, answer: CheckedContinuation<Index?, Never>)?
  private var isInstalling = false
  private var haltReason: String?
  private var isStopping = false

  private static var maximumWaiting: Int { 8192 }
  private static var maximumBatch: Int { 1024 }
  private static var checkpointInterval: UInt64 { 4096 }

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
    startThread { self.run() }
  }

  // MARK: what others ask

  /// Returns once the command has been applied here, with what that answered.
  public func propose(_ command: [UInt8]) async throws(ConsensusFailure) -> Machine.Outcome {
    try await withCheckedContinuation { inbox.put(.propose(command, $0)) }.get()
  }

  /// Returns once the state here is what it was at some time after the call, or later.
  public func read() async throws(ConsensusFailure) {
    if let failure = await withCheckedContinuation({ inbox.put(.read($0)) }) { throw failure }
  }

  /// Returns once the state here is no older than so many milliseconds, at whatever node this is.
  public func read(noOlderThan milliseconds: UInt64) async throws(ConsensusFailure) {
    let failure = await withCheckedContinuation {
      inbox.put(.readStale(maximumTicks: milliseconds, $0))
    }
    if let failure { throw failure }
  }

  /// Puts a new node in an old one's place; returns once both majorities have agreed.
  public func replace(_ old: NodeID, by new: Member) async throws(ConsensusFailure) {
    let failure = await withCheckedContinuation { inbox.put(.replace(old, new, $0)) }
    if let failure { throw failure }
  }

  /// Hands leadership over, to any data node where none is named. Whether it did, the status tells.
  public func transfer(to node: NodeID?) { inbox.put(.event(.transfer(to: node))) }

  public func status() async -> ConsensusStatus {
    await withCheckedContinuation { inbox.put(.status($0)) }
  }

  public func receive(_ messages: [Message]) {
    for message in messages { inbox.put(.event(.received(message))) }
  }

  public func unreachable(_ node: NodeID) { inbox.put(.event(.unreachable(node))) }

  /// A whole state has come in, verified and on stable storage. Returns the index up to which it is in place; nil
  /// where it was of no use. The file goes in any case.
  func snapshotArrived(
    from: NodeID, term: Term, base: LogBase, path: String
  ) async -> Index? {
    await withCheckedContinuation {
      inbox.put(.snapshotArrived(from: from, term: term, base, path: path, $0))
    }
  }

  /// Says no more; returns once the journal is closed.
  public func stop() async {
    inbox.put(.stop)
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
  private var now: Tick { clock.monotonicNanoseconds() / 1_000_000 }

  private func run() {
    perform(replica.step(.tick, at: now))
    while !isStopping {
      let inputs = inbox.take(withinNanoseconds: untilNextTick)
      for input in inputs { handle(input) }
      if now >= replica.raft.nextTick && haltReason == nil {
        perform(replica.step(.tick, at: now))
      }
      flush()
    }
    transport?.close()
    failEverybody(.halted("the node stops"))
    let journal = journal
    let ended = ended
    Task {
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
    case .checkpointed(let result): checkpointed(result)
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
    perform(replica.step(.propose(id: id, command: command), at: now))
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

  private func readStale(_ maximum: Tick, _ answer: ReadAnswer) {
    if let haltReason { return answer.resume(returning: .halted(haltReason)) }
    if replica.raft.role == .leader { return read(answer) }
    guard let staleness = replica.raft.staleness(at: now), staleness.ticks <= maximum,
      staleReads.count < Self.maximumWaiting
    else { return answer.resume(returning: .tooStale) }
    if replica.applied >= staleness.index { return answer.resume(returning: nil) }
    staleReads.append((staleness.index, answer))
  }

  private func perform(_ effects: [Replica.Effect]) {
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

  private func fail(_ id: UInt64, _ failure: ConsensusFailure) {
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

  private func halt(_ reason: String) {
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

  // MARK: the state machine

  private func queue(_ entries: [Entry], _ first: Index, _ proposals: [Replica.Proposal]) {
    if waitingEntries.isEmpty { waitingFirst = first }
    precondition(
      first == waitingFirst + UInt64(waitingEntries.count),
      "entries from \(first) behind \(waitingFirst) and \(waitingEntries.count) more")
    let offset = waitingEntries.count
    waitingProposals += proposals.map { .init(id: $0.id, offset: $0.offset + offset) }
    waitingEntries += entries
  }

  private func startApplying() {
    guard !isApplying, !waitingEntries.isEmpty else { return }
    isApplying = true
    let count = min(waitingEntries.count, Self.maximumBatch)
    let entries = Array(waitingEntries.prefix(count))
    waitingEntries.removeFirst(count)
    let first = waitingFirst
    waitingFirst += UInt64(count)
    let proposals = waitingProposals.filter { $0.offset < count }
    waitingProposals = waitingProposals.filter { $0.offset >= count }.map {
      .init(id: $0.id, offset: $0.offset - count)
    }
    Task { [machine, inbox] in
      let result: Result<[Machine.Outcome?], any Error>
      do { result = .success(try await machine.apply(entries, first: first)) } catch {
        result = .failure(error)
      }
      inbox.put(.applied(last: first + UInt64(count) - 1, result, proposals))
    }
  }

  private func applied(
    _ last: Index, _ result: Result<[Machine.Outcome?], any Error>,
    _ proposals: [Replica.Proposal]
  ) {
    isApplying = false
    guard haltReason == nil else { return }
    switch result {
    case .failure(let error): halt("the state cannot be written: \(error)")
    case .success(let outcomes):
      for proposal in proposals {
        if let outcome = outcomes[proposal.offset] {
          answers.removeValue(forKey: proposal.id)?.resume(returning: .success(outcome))
        } else {
          changeAnswers.removeValue(forKey: proposal.id)?.resume(returning: nil)
        }
      }
      perform(replica.applied(through: last))
      let ready = staleReads.filter { $0.index <= last }
      staleReads.removeAll { $0.index <= last }
      for read in ready { read.answer.resume(returning: nil) }
      appliedSinceCheckpoint += UInt64(outcomes.count)
      checkpointIfDue()
    }
  }

  private func checkpointIfDue() {
    guard appliedSinceCheckpoint >= Self.checkpointInterval, !isCheckpointing,
      !replica.raft.isWitness
    else { return }
    appliedSinceCheckpoint = 0
    isCheckpointing = true
    Task { [machine, inbox] in
      let result: Result<Index, any Error>
      do { result = .success(try await machine.checkpoint()) } catch { result = .failure(error) }
      inbox.put(.checkpointed(result))
    }
  }

  private func checkpointed(_ result: Result<Index, any Error>) {
    isCheckpointing = false
    switch result {
    case .success(let index):
      if haltReason == nil { perform(replica.step(.checkpointed(index), at: now)) }
    case .failure(let error):
      // Nothing is lost by keeping the log; the next round tries again.
      logger.warning("the state was not made durable", metadata: ["reason": "\(error)"])
    }
  }

  // MARK: snapshots

  private func beginSnapshot(to node: NodeID, _ term: Term) {
    guard !isSendingSnapshot else {
      perform(replica.step(.snapshotSent(to: node, installed: nil), at: now))
      return
    }
    isSendingSnapshot = true
    let path = "\(directory)/snapshot.outgoing"
    Task { [machine, inbox] in
      let result: Result<LogBase, any Error>
      do { result = .success(try await machine.writeSnapshot(to: path)) } catch {
        result = .failure(error)
      }
      inbox.put(.snapshotWritten(path: path, to: node, term: term, result))
    }
  }

  private func snapshotWritten(
    _ path: String, _ node: NodeID, _ term: Term, _ result: Result<LogBase, any Error>
  ) {
    let done: @Sendable (Index?) -> Void = { [weak self] index in
      unlink(path)
      self?.inbox.put(.event(.snapshotSent(to: node, installed: index)))
    }
    isSendingSnapshot = false
    switch result {
    case .success(let written):
      // Who votes, the log knows for certain; a state that never saw a change of it does not.
      guard let member = replica.raft.membership.member(node), let transport,
        let base = replica.raft.snapshotBase(at: written.position.index),
        base.position == written.position
      else { return done(nil) }
      logger.notice(
        "sending the state", metadata: ["to": "\(node)", "index": "\(base.position.index)"])
      transport.sendSnapshot(path, base: base, term: term, to: member, done: done)
    case .failure(let error):
      logger.error("the state was not written out", metadata: ["reason": "\(error)"])
      done(nil)
    }
  }

  private func snapshotArrived(
    _ from: NodeID, _ term: Term, _ base: LogBase, _ path: String,
    _ answer: CheckedContinuation<Index?, Never>
  ) {
    guard arrived == nil, haltReason == nil else {
      unlink(path)
      return answer.resume(returning: nil)
    }
    arrived = (path, answer)
    perform(replica.step(.snapshotArrived(from: from, term: term, base: base), at: now))
  }

  private func discardArrived() {
    guard !isInstalling, let arrived else { return }
    unlink(arrived.path)
    arrived.answer.resume(returning: nil)
    self.arrived = nil
  }

  /// Until it is done, nothing is written to the journal or applied: the state comes first.
  private func beginInstalling(_ base: LogBase) {
    isInstalling = true
    (waitingEntries, waitingProposals) = ([], [])
    let path = arrived!.path
    logger.notice("installing a state", metadata: ["index": "\(base.position.index)"])
    Task { [machine, inbox] in
      let result: Result<Void, any Error>
      do { result = .success(try await machine.install(path, base: base)) } catch {
        result = .failure(error)
      }
      inbox.put(.installed(base, result))
    }
  }

  private func installed(_ base: LogBase, _ result: Result<Void, any Error>) {
    isInstalling = false
    let answer = arrived?.answer
    arrived = nil
    switch result {
    case .success:
      perform(replica.applied(through: base.position.index))
      answer?.resume(returning: base.position.index)
    case .failure(let error):
      answer?.resume(returning: nil)
      halt("a state cannot be put in place: \(error)")
    }
  }
}
