import Base

/// The one thread that changes the store's files. It takes what is queued as a batch, writes it, synchronizes once,
/// and only then makes the records visible and answers their callers.
///
/// Everything below `shared` is confined to that thread.
final class SegmentWriter: @unchecked Sendable {
  let queue = Monitor(WriteQueue())
  let shared: Monitor<StoreState>
  let files: SegmentFiles
  let configuration: SegmentStoreConfiguration
  let store: StoreIdentifier
  private let lock: any DiskLock

  private var backlog: ArraySlice<PendingWrite> = []
  var active: ActiveSegment?
  private var nextSequence: UInt64
  private let staging: StagingBuffer

  init(
    recovered: RecoveredStore, shared: Monitor<StoreState>, files: SegmentFiles,
    configuration: SegmentStoreConfiguration, lock: any DiskLock
  ) {
    self.shared = shared
    self.files = files
    self.configuration = configuration
    self.lock = lock
    store = recovered.store
    active = recovered.active
    nextSequence = recovered.state.nextSequence
    staging = StagingBuffer()
  }

  func run() {
    while takeBacklog() { performOrFail() }
    finish()
  }

  /// What is queued, on the calling thread, of a store that has no writer thread.
  func runWaiting() {
    while !backlog.isEmpty || queue.withLock({ !$0.isEmpty }) {
      guard takeBacklog() else { return }
      performOrFail()
    }
  }

  private func performOrFail() {
    if let failure = shared.withLock({ Self.failure(of: $0.status) }) {
      for write in takeFirst(backlog.count) { write.completion.fail(failure) }
    } else {
      do throws(BatchFailure) { try performNext() } catch {
        shared.withLock { $0.status = .readOnly(error.reason) }
      }
    }
  }

  private static func failure(of status: SegmentStoreStatus) -> SegmentStoreError? {
    if case .readOnly(let reason) = status { .readOnly(reason) } else { nil }
  }

  /// Waits for something to do; false when the store is closing and nothing is left.
  private func takeBacklog() -> Bool {
    let hasBacklog = !backlog.isEmpty
    let incoming: [PendingWrite]? = queue.wait { queue in
      if !queue.isEmpty || hasBacklog { return .some(queue.takeIncoming()) }
      return queue.isClosing ? .some(nil) : nil
    }
    guard let incoming else { return false }
    backlog = hasBacklog ? backlog + incoming : incoming[...]
    return true
  }

  /// A failure that ends all writing. The writes of the batch in hand stay in the backlog and are failed from there.
  struct BatchFailure: Error {
    let reason: ReadOnlyReason
  }

  private func performNext() throws(BatchFailure) {
    if case .dropSegments(let sequence) = backlog.first!.action {
      let count = try dropSegments(throughSequence: sequence)
      guard case .dropped(let answer) = takeFirst(1).first!.completion else {
        preconditionFailure("a drop with the completion of another action")
      }
      answer(.success(count))
      return
    }
    if case .replaceSegments(let compacted) = backlog.first!.action {
      let isDone = try replaceSegments(compacted)
      guard case .replaced(let outcome) = takeFirst(1).first!.completion else {
        preconditionFailure("a replacement with the completion of another action")
      }
      outcome.set(.success(isDone))
      return
    }
    let needed = backlog.first!.recordSizeBytes
    if active!.sizeBytes + needed > UInt64(configuration.maximumSegmentSizeBytes)
      && active!.sizeBytes > UInt64(SegmentHeader.sizeBytes)
    {
      try roll()
    }
    try performBatch(backlog.prefix(batchLength()))
  }

  /// How many writes at the front of the backlog make the next batch: they fit into the segment and the batch limit.
  private func batchLength() -> Int {
    var batchBytes: UInt64 = 0
    var length = 0
    for write in backlog {
      if write.changesSegments { break }
      batchBytes += write.recordSizeBytes
      let fits =
        batchBytes <= UInt64(configuration.maximumBatchSizeBytes)
        && active!.sizeBytes + batchBytes <= UInt64(configuration.maximumSegmentSizeBytes)
      if length > 0 && !fits { break }
      length += 1
    }
    return length
  }

  private func performBatch(_ writes: ArraySlice<PendingWrite>) throws(BatchFailure) {
    var batch = Batch(
      offset: active!.sizeBytes, synchronizedEnd: active!.synchronizedSizeBytes,
      firstSequence: nextSequence)
    reserve(writes)
    let writesAnything = try plan(writes, &batch)
    if writesAnything {
      do throws(DiskError) { try staging.flush(to: active!.file) } catch {
        throw BatchFailure(reason: .writeFailed(error))
      }
      do throws(DiskError) { try active!.file.synchronizeData() } catch {
        throw BatchFailure(reason: .synchronizationFailed(error))
      }
      active!.sizeBytes = batch.end
      active!.synchronizedSizeBytes = batch.end
      nextSequence = batch.nextSequence
      for outcome in batch.outcomes {
        guard case .written(let key, let location, let size) = outcome else { continue }
        active!.hints.add(
          size == nil ? .tombstone : .value, key, sequence: location.sequence,
          offsetBytes: location.offsetBytes, payloadSizeBytes: location.payloadSizeBytes)
      }
    }
    publish(batch, writesAnything)
    let isIdle = backlog.count == writes.count && queue.withLock { $0.isEmpty }
    if isIdle && active!.needsCommit { writeCommit() }
    answerBatch(takeFirst(writes.count), batch)
  }

  /// Reserves blocks ahead of a batch. A disk that cannot, or has no room, shows when the batch itself is written.
  private func reserve(_ writes: ArraySlice<PendingWrite>) {
    guard configuration.preallocationBytes > 0 else { return }
    let end = writes.reduce(active!.sizeBytes) { $0 + $1.recordSizeBytes }
    guard end > active!.reservedSizeBytes else { return }
    let limit = UInt64(configuration.maximumSegmentSizeBytes)
    let start = max(active!.reservedSizeBytes, active!.sizeBytes)
    let wanted = max(end, min(start + UInt64(configuration.preallocationBytes), limit))
    try? active!.file.preallocate(offset: start, sizeBytes: wanted - start)
    active!.reservedSizeBytes = wanted
  }

  /// Gives back what was reserved and not used.
  private func releaseReserve() throws(DiskError) {
    guard active!.reservedSizeBytes > active!.sizeBytes else { return }
    try active!.file.truncate(toSizeBytes: active!.sizeBytes)
    active!.reservedSizeBytes = 0
  }

  /// Puts the batch's records into the file through the staging buffer. False where there was nothing to write.
  private func plan(
    _ writes: ArraySlice<PendingWrite>, _ batch: inout Batch
  ) throws(BatchFailure) -> Bool {
    let active = active!
    staging.begin(at: batch.end)
    for write in writes {
      do throws(DiskError) {
        switch write.action {
        case .append(let key, let payload, let checksum):
          let header = batch.add(.value, key, payload.count, checksum, in: active)
          try staging.append(header, key, payload, active)
        case .delete(let key):
          let exists = batch.existence[key] ?? shared.withLock { $0.index[key] != nil }
          guard exists else {
            batch.outcomes.append(.nothingToDelete)
            continue
          }
          let header = batch.add(.tombstone, key, 0, 0, in: active)
          try staging.append(header, key, [], active)
        case .dropSegments, .replaceSegments:
          preconditionFailure("\(write.action) inside a batch of \(writes.count) writes")
        }
      } catch {
        throw BatchFailure(reason: .writeFailed(error))
      }
    }
    return batch.end > active.sizeBytes
  }

  /// Makes the synchronized records visible to readers.
  private func publish(_ batch: Batch, _ writesAnything: Bool) {
    shared.withLock { state in
      for outcome in batch.outcomes {
        switch outcome {
        case .nothingToDelete: break
        case .written(let key, _, nil): state.removeEntry(key)
        case .written(let key, let location, let size?):
          state.setEntry(key, IndexEntry(location: location, recordSizeBytes: size))
        }
      }
      guard writesAnything else { return }
      state.segments[state.segments.count - 1].sizeBytes = batch.end
      state.segments[state.segments.count - 1].nextSequence = batch.nextSequence
      state.nextSequence = batch.nextSequence
      state.batches += 1
      state.recordsWritten += batch.nextSequence - batch.firstSequence
    }
  }

  private func answerBatch(_ writes: ArraySlice<PendingWrite>, _ batch: Batch) {
    for (write, outcome) in zip(writes, batch.outcomes) {
      switch (write.completion, outcome) {
      case (.location(let answer), .written(_, let location, _)): answer(.success(location))
      case (.part(let group), .written(_, let location, _)):
        group.finishPart(.success(location))
      case (.existed(let continuation), .written): continuation.resume(returning: .success(true))
      case (.existed(let continuation), .nothingToDelete):
        continuation.resume(returning: .success(false))
      default: preconditionFailure("completion \(write.completion) for outcome \(outcome)")
      }
    }
  }

  /// Removes writes from the backlog and from the count of waiting ones; the caller then answers them.
  private func takeFirst(_ count: Int) -> ArraySlice<PendingWrite> {
    let taken = backlog.prefix(count)
    // A copy, because a slice would keep the payloads before it in memory.
    backlog = Array(backlog.dropFirst(count))[...]
    queue.withLock { $0.answered(taken) }
    return taken
  }

  /// Says behind a synchronized batch that it was synchronized. It is not waited for: it only has to reach the
  /// disk some time, to tell rot from a torn write. Its failure makes the store read-only and fails no batch.
  private func writeCommit() {
    let offset = active!.sizeBytes
    let commit = RecordHeader.commit(sequence: nextSequence, offset: offset)
    do throws(DiskError) {
      try commit.write(to: active!.file, binding: active!.binding, at: offset)
      active!.sizeBytes += commit.recordSizeBytes
      let size = active!.sizeBytes
      shared.withLock { $0.segments[$0.segments.count - 1].sizeBytes = size }
    } catch {
      shared.withLock { $0.status = .readOnly(.writeFailed(error)) }
    }
  }

  /// Ends the active segment for good and begins the next. The old one is wholly on the disk before the new one exists.
  private func roll() throws(BatchFailure) {
    if active!.needsCommit { writeCommit() }
    if case .readOnly(let reason) = shared.withLock({ $0.status }) {
      throw BatchFailure(reason: reason)
    }
    do throws(DiskError) { try releaseReserve() } catch {
      throw BatchFailure(reason: .writeFailed(error))
    }
    do throws(DiskError) { try active!.file.synchronizeData() } catch {
      throw BatchFailure(reason: .synchronizationFailed(error))
    }
    let identifier = active!.identifier + 1
    let header = SegmentHeader(
      segmentIdentifier: identifier, store: store, firstSequence: nextSequence)
    let file: any DiskFile
    do throws(DiskError) { file = try files.createSegment(header) } catch {
      throw BatchFailure(reason: .writeFailed(error))
    }
    let rolled = active!
    let binding = RecordBinding(store: store, segmentIdentifier: identifier)
    let size = UInt64(SegmentHeader.sizeBytes)
    active = ActiveSegment(
      identifier: identifier, file: file, binding: binding, hints: HintBuilder(), sizeBytes: size,
      synchronizedSizeBytes: size)
    let segment = Segment(
      identifier: identifier, file: file, binding: binding, header: header, sizeBytes: size,
      nextSequence: nextSequence)
    shared.withLock { $0.segments.append(segment) }
    writeHints(of: rolled)
  }

  /// A failure costs the next start a reading of the segment, and is counted.
  private func writeHints(of rolled: ActiveSegment) {
    writeHints(
      HintFile(
        segmentIdentifier: rolled.identifier, store: store, segmentSizeBytes: rolled.sizeBytes,
        segmentGeneration: 0, nextSequence: nextSequence, entries: rolled.hints.bytes),
      isUsable: rolled.hints.isUsable)
  }

  private func writeHints(_ hint: HintFile, isUsable: Bool) {
    guard isUsable else { return }
    do throws(DiskError) { try files.writeHint(hint) } catch {
      shared.withLock { $0.hintFailures += 1 }
    }
  }

  /// Removes rolled segments from the front whose records all have sequences up to the given one. The manifest
  /// names the new first segment before any file goes, so an interrupted drop is finished at the next start.
  private func dropSegments(throughSequence sequence: UInt64) throws(BatchFailure) -> Int {
    let segments = shared.withLock { $0.segments }
    let dropped = segments.dropLast().prefix {
      $0.nextSequence <= sequence &+ 1 || sequence == .max
    }
    guard let last = dropped.last else { return 0 }
    let first = segments[dropped.count].identifier
    do throws(DiskError) {
      try files.writeManifest(Manifest(store: store, firstSegment: first))
      shared.withLock { $0.dropSegments(through: last.identifier) }
      try files.removeSegments(dropped.map(\.identifier))
    } catch {
      throw BatchFailure(reason: .writeFailed(error))
    }
    return dropped.count
  }

  /// Puts a compacted file into the place of its sources. A crash before the rename leaves the sources, one behind it the new
  /// file, which says whom it covers: those that are still there are removed at the next start. False where a source
  /// was dropped meanwhile.
  private func replaceSegments(_ compacted: CompactedSegment) throws(BatchFailure) -> Bool {
    let identifier = compacted.header.segmentIdentifier
    let known = Set(shared.withLock { $0.segments.dropLast().map(\.identifier) })
    do throws(DiskError) {
      guard compacted.sources.allSatisfy(known.contains) else {
        try files.removeTemporarySegment(identifier)
        return false
      }
      // The old hints would be known for those of another generation; without them less has to be right.
      try files.removeHint(identifier)
      let file = try files.replaceSegment(identifier)
      publish(
        compacted,
        Segment(
          identifier: identifier, file: file,
          binding: RecordBinding(store: store, segmentIdentifier: identifier),
          header: compacted.header, sizeBytes: compacted.sizeBytes,
          nextSequence: compacted.nextSequence))
      try files.removeSegments(compacted.sources.filter { $0 != identifier })
    } catch {
      throw BatchFailure(reason: .writeFailed(error))
    }
    writeHints(
      HintFile(
        segmentIdentifier: identifier, store: store, segmentSizeBytes: compacted.sizeBytes,
        segmentGeneration: compacted.header.generation, nextSequence: compacted.nextSequence,
        entries: compacted.hints.bytes), isUsable: compacted.hints.isUsable)
    return true
  }

  /// In small steps, between which readers get their turn: each key points into the old file or the new one.
  private func publish(_ compacted: CompactedSegment, _ segment: Segment) {
    let step = 1024
    shared.withLock { $0.beginReplacement(segment) }
    for start in stride(from: 0, to: compacted.moves.count, by: step) {
      let moves = compacted.moves[start..<min(start + step, compacted.moves.count)]
      shared.withLock { $0.move(moves, to: segment) }
    }
    shared.withLock { $0.endReplacement(by: segment.identifier, sources: compacted.sources) }
  }

  /// The end of the thread: what is known is made durable, where the store still trusts its disk.
  private func finish() {
    let status = shared.withLock { $0.status }
    if let active, status == .readWrite {
      if active.needsCommit { writeCommit() }
      do throws(DiskError) {
        try releaseReserve()
        try active.file.synchronizeData()
      } catch {
        shared.withLock { $0.status = .readOnly(.synchronizationFailed(error)) }
      }
    }
    lock.release()
    for waiter in queue.withLock({ $0.end() }) { waiter.resume() }
  }
}
