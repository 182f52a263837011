import Base
import Consensus
import Glibc
import Messages
import RPC
import Raft

/// The state machine and the search index over it, on a thread of their own.
actor ClusterState: ReplicatedStateMachine {
  struct Hit: Sendable {
    var record: ImageRecord
    var distance: Int
  }

  private let thread = SerialThread()
  private let path: String
  private var machine: StateMachine
  /// Of the last indices that are multiples of ``markInterval``.
  private var recentMarks: [StateMark] = []

  private static let markInterval: UInt64 = 64
  private static let maximumMarks = 128
  private var index = SearchIndex()
  /// Another state has another index: what fills the old one ends.
  private var indexGeneration = 0
  private var indexFailure: (any Error)?
  private var waitingForIndex: [CheckedContinuation<Void, Never>] = []
  private let indexedAtOnce: Int

  nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
  nonisolated var taskExecutor: (any TaskExecutor)? { thread }

  /// - Parameter indexedAtOnce: images read at once for the index: who wants the state waits no longer than that takes.
  init(path: String, indexedAtOnce: Int = 1000) throws {
    self.path = path
    self.indexedAtOnce = indexedAtOnce
    machine = try StateMachine(path: path)
  }

  deinit { thread.stop() }

  // MARK: the search index

  /// Reads the codes of all images, while everything but a search goes on. What cannot be read is tried again.
  ///
  /// - Returns: once a search is possible; false where the task was cancelled, or another state came in between, which is
  ///   read for itself.
  @discardableResult
  nonisolated func fillIndex() async -> Bool {
    let generation = await indexGeneration
    while await generation == indexGeneration {
      do {
        if try await !fillMore(generation) { break }
        if !Task.isCancelled { continue }
        await endFilling(CancellationError(), generation)
        return false
      } catch {
        await endFilling(error, generation)
        do { try await Task.sleep(for: .seconds(1)) } catch { return false }
      }
    }
    return await indexGeneration == generation
  }

  /// False where nothing is left to do, for this state or at all.
  func fillMore(_ generation: Int? = nil) throws -> Bool {
    guard generation ?? indexGeneration == indexGeneration, let after = index.filledThrough else {
      return false
    }
    index.fill(try machine.recordsForIndex(after: after, limit: indexedAtOnce))
    indexFailure = nil
    if index.isWhole { endWaitingForIndex() }
    return !index.isWhole
  }

  private func endFilling(_ error: any Error, _ generation: Int) {
    guard generation == indexGeneration else { return }
    indexFailure = error
    endWaitingForIndex()
  }

  private func endWaitingForIndex() {
    for waiter in waitingForIndex { waiter.resume() }
    waitingForIndex = []
  }

  var canSearch: Bool { index.isWhole }

  func appliedIndex() throws -> UInt64 { try machine.appliedIndex() }

  func base() throws -> LogBase { try machine.base() }

  /// Where the state does not know yet who votes: as the log that it goes with begins.
  func adopt(_ membership: Membership) throws {
    if try machine.base().membership.members.isEmpty { try machine.keep(membership) }
  }

  func apply(_ entries: [Entry], first: Index) throws -> [LogOutcome?] {
    var outcomes: [LogOutcome?] = []
    // Marks stand at fixed indices, so that those of two masters can be compared.
    var start = 0
    while start < entries.count {
      let index = first + UInt64(start)
      let count = min(
        entries.count - start, Int(Self.markInterval - (index - 1) % Self.markInterval))
      let part = Array(entries[start..<start + count])
      outcomes += try applyPart(part, first: index)
      let last = index + UInt64(count) - 1
      if last % Self.markInterval == 0 {
        var mark = StateMark()
        (mark.index, mark.hash) = (last, try machine.hash())
        recentMarks.append(mark)
        if recentMarks.count > Self.maximumMarks { recentMarks.removeFirst() }
      }
      start += count
    }
    return outcomes
  }

  func settle() throws { try machine.settle() }

  func marks() -> [StateMark] { recentMarks }

  private func applyPart(_ entries: [Entry], first: Index) throws -> [LogOutcome?] {
    let steps = try entries.map { entry in
      guard case .command(let bytes) = entry.payload else {
        return StateMachine.Step(entry: entry, command: nil)
      }
      return StateMachine.Step(entry: entry, command: try LogCommand(decoding: bytes))
    }
    return try apply(steps, first: first)
  }

  private func apply(_ steps: [StateMachine.Step], first: UInt64) throws -> [LogOutcome?] {
    let commands = steps.map { $0.command ?? LogCommand() }
    // What deletions take out of the index must be read before it is gone.
    var deleted: [Int: ImageRecord] = [:]
    for (offset, command) in commands.enumerated() {
      if let delete = command.deleteImage, let image = try machine.image(delete.imageID) {
        deleted[offset] = image.record
      }
    }
    let outcomes = try machine.apply(steps, first: first)
    for (offset, (command, outcome)) in zip(commands, outcomes).enumerated() {
      guard let outcome, outcome.status == 0 else { continue }
      if let record = command.commitUpload?.record, !outcome.existed {
        index.insert(record)
      } else if command.deleteImage != nil, outcome.existed {
        remove(command, deleted[offset], among: commands[..<offset])
      }
    }
    return outcomes
  }

  private func remove(
    _ command: LogCommand, _ record: ImageRecord?, among earlier: ArraySlice<LogCommand>
  ) {
    // What a commit earlier in the batch put there is newer than what was read before the batch.
    let id = command.deleteImage?.imageID
    let committed = earlier.last { $0.commitUpload?.record?.imageID == id }?.commitUpload?.record
    let record = committed ?? record
    if let record { index.remove(record) }
  }

  func contains(_ ids: [[UInt8]], owner: String) throws -> [Bool] {
    try ids.map { try machine.contains($0, owner: owner) }
  }

  func lastEpoch(of id: [UInt8]) throws -> UInt32 { try machine.lastEpoch(of: id) }
  func image(_ id: [UInt8]) throws -> StoredImage? { try machine.image(id) }

  func records(after id: [UInt8], limit: Int, owner: String?) throws -> [ImageRecord] {
    try machine.records(after: id, limit: limit, owner: owner)
  }

  func pendingUploads() throws -> [PendingUpload] { try machine.pendingUploads() }

  func garbage(on slave: String, limit: Int) throws -> [[UInt8]] {
    try machine.garbage(on: slave, limit: limit)
  }

  func counts() throws -> StateCounts { try machine.counts() }

  // MARK: care

  func pendingMoves() throws -> [PendingMove] { try machine.pendingMoves() }

  func shadows(on slave: String, after name: [UInt8], limit: Int) throws -> [PlacedShadow] {
    try machine.shadows(on: slave, after: name, limit: limit)
  }

  func shadow(named name: [UInt8], on slave: String) throws -> PlacedShadow? {
    try machine.shadow(named: name, on: slave)
  }

  /// Those names that the state does not have on this slave.
  func unknown(_ names: [[UInt8]], on slave: String) throws -> [[UInt8]] {
    try names.filter { try !machine.knows($0, on: slave) }
  }

  func garbage(of id: [UInt8], epoch: UInt32) throws -> [ImageSharing.Place] {
    try machine.garbage(of: id, epoch: epoch)
  }

  func garbageCount(on slave: String) throws -> Int { try machine.garbageCount(on: slave) }
  func shadowCount(on slave: String) throws -> Int { try machine.shadowCount(on: slave) }

  func sharings(of ids: [[UInt8]]) throws -> [ImageSharing] {
    try ids.compactMap { try machine.sharing(of: $0) }
  }

  func imageIDs(after id: [UInt8], limit: Int) throws -> [[UInt8]] {
    try machine.imageIDs(after: id, limit: limit)
  }

  /// Slaves on which images have shadows, configured or not.
  func holders() throws -> [String] { try machine.holders() }

  func decisions() throws -> [String: SlaveDecision] { try machine.decisions() }
  func owners() throws -> [OwnerUsage] { try machine.owners() }

  func checkpoint() throws -> Index {
    let index = try machine.appliedIndex()
    try machine.checkpoint()
    return index
  }

  // MARK: snapshots

  /// Reads through a connection of its own, which sees one moment: applying goes on.
  nonisolated func writeSnapshot(to target: String) async throws -> LogBase {
    let path = path
    try await settle()
    return try await offload {
      unlink(target)
      try Database(path: path).execute("VACUUM INTO '\(target.replacing("'", with: "''"))'")
      return try StateMachine(path: target).base()
    }
  }

  func install(_ file: String, base: LogBase) throws {
    // What a crash left beside an earlier file of this name would be taken for this one's.
    for suffix in ["-wal", "-shm"] { unlink(file + suffix) }
    guard try StateMachine(path: file).base().position == base.position else {
      throw DatabaseError(code: 0, description: "the state that arrived is not of \(base.position)")
    }
    // Until the rename the old state must be whole without its write-ahead log, which beside the new one would be taken for
    // that one's and has to be gone for good before.
    try machine.checkpoint()
    machine = try StateMachine(path: file)
    let disk = SystemDisk()
    let directory = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
    try disk.synchronizeDirectory(directory)
    try machine.keep(base.membership)
    try machine.checkpoint()
    machine = try StateMachine(path: ":memory:")
    for suffix in ["-wal", "-shm"] { unlink(file + suffix) }
    try disk.open(file, mode: .readWrite).synchronize()
    try disk.rename(file, to: path)
    try disk.synchronizeDirectory(directory)
    machine = try StateMachine(path: path)
    index = SearchIndex()
    indexFailure = nil
    indexGeneration += 1
    recentMarks = []
    Task { [weak self] in _ = await self?.fillIndex() }
  }

  /// The nearest records over all code spaces asked for; by distance, then by id. Waits for the index after a start.
  func search(_ codes: [MaskedCode], count: Int) async throws -> [Hit] {
    while !index.isWhole {
      if let indexFailure { throw indexFailure }
      await withCheckedContinuation { waitingForIndex.append($0) }
      try Task.checkCancellation()
    }
    var hits: [Hit] = []
    for (id, distance) in try index.nearest(to: codes, count: count) {
      guard let image = try machine.image(id.bytes) else {
        throw DatabaseError(code: 0, description: "the index names \(id), the state does not")
      }
      hits.append(Hit(record: image.record, distance: distance))
    }
    return hits
  }
}
