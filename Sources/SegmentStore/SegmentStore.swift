import Base

/// Records under keys in append-only, checksummed segment files (`docs/formats/segment.md`): what a slave keeps
/// its shadows in and a master its log.
///
/// - One writer thread takes what is queued as a batch and synchronizes it once. A write returns after its
///   batch is on stable storage, or throws; after a throw other than `.overloaded`, `.closed` and the
///   argument errors, the record may or may not be there at the next start.
/// - Reads run on a few threads of their own; nothing blocks Swift's cooperative threads, except `open`.
/// - A failed write or synchronization makes the store read-only until it is opened anew (`status`).
/// - A later record of the same key replaces the earlier one.
public final class SegmentStore: Sendable {
  private let shared: Monitor<StoreState>
  private let writer: SegmentWriter
  private let readers: ReaderPool
  /// One thread for work that nobody waits for: compaction.
  private let caretaker: ReaderPool
  private let files: SegmentFiles
  private let configuration: SegmentStoreConfiguration

  /// Opens the store in a folder, creating both where needed. Blocks while every segment is read and verified;
  /// one file descriptor stays open for each segment.
  /// - Returns: the store, and everything that was wrong with the folder. A store with damage still opens.
  public static func open(
    directory: String, disk: any Disk, configuration: SegmentStoreConfiguration = .init()
  ) throws(SegmentStoreError) -> (SegmentStore, RecoveryReport) {
    try configuration.validate()
    let files = SegmentFiles(disk: disk, directory: directory)
    let lock: (any DiskLock)?
    do throws(DiskError) {
      if try disk.createDirectory(directory) {
        try disk.synchronizeDirectory(parent(of: directory))
      }
      lock = try disk.lock(files.path(FileName.lock))
    } catch { throw .disk(error) }
    guard let lock else { throw .alreadyOpen(directory: directory) }
    do throws(SegmentStoreError) {
      var recovery = Recovery(files: files, configuration: configuration)
      let recovered = try recovery.run()
      let store = try SegmentStore(recovered, files, configuration, lock)
      return (store, recovered.report)
    } catch {
      lock.release()
      throw error
    }
  }

  private init(
    _ recovered: RecoveredStore, _ files: SegmentFiles, _ configuration: SegmentStoreConfiguration,
    _ lock: any DiskLock
  ) throws(SegmentStoreError) {
    self.files = files
    self.configuration = configuration
    shared = Monitor(recovered.state)
    readers = try ReaderPool(
      threads: configuration.isStepped ? 0 : configuration.readerThreads,
      maximumWaitingJobs: configuration.maximumWaitingReads)
    do throws(SegmentStoreError) {
      caretaker = try ReaderPool(
        threads: configuration.isStepped ? 0 : 1, maximumWaitingJobs: 1)
    } catch {
      readers.close()
      throw error
    }
    writer = SegmentWriter(
      recovered: recovered, shared: shared, files: files, configuration: configuration, lock: lock)
    guard !configuration.isStepped else { return }
    let writer = writer
    do throws(SegmentStoreError) { try startThread { writer.run() } } catch {
      readers.close()
      caretaker.close()
      throw error
    }
  }

  // The threads hold what they need and end by themselves; only `close` waits for them.
  deinit {
    writer.queue.withLockSignalling { $0.close() }
    readers.close()
    caretaker.close()
  }

  private static func parent(of path: String) -> String {
    var trimmed = path[...]
    while trimmed.count > 1 && trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return "." }
    return slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
  }

  /// Whether writes are taken, and why not.
  public var status: SegmentStoreStatus { shared.withLock { $0.status } }

  /// Stores a payload under a key of 1 to 64 bytes. Returns when it is on stable storage.
  public func append(
    key: [UInt8], payload: [UInt8]
  ) async throws(SegmentStoreError) -> RecordLocation {
    let action = try appendAction(key, payload)
    let result: Result<RecordLocation, SegmentStoreError> = await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<RecordLocation, SegmentStoreError>, Never>) in
      submit([
        PendingWrite(action: action, completion: .location { continuation.resume(returning: $0) })
      ])
    }
    return try result.get()
  }

  /// As ``append(key:payload:)``, for callers that are no tasks: `completion` is called on the writer thread, which it must not
  /// hold up, or at once where the write is refused. Writes become durable in the order of the calls.
  public func append(
    key: [UInt8], payload: [UInt8],
    completion: @escaping @Sendable (Result<RecordLocation, SegmentStoreError>) -> Void
  ) {
    do throws(SegmentStoreError) {
      let action = try appendAction(key, payload)
      submit([PendingWrite(action: action, completion: .location(completion))])
    } catch { completion(.failure(error)) }
  }

  /// As ``append(key:payload:)``, blocking the calling thread.
  public func appendBlocking(
    key: [UInt8], payload: [UInt8]
  ) throws(SegmentStoreError) -> RecordLocation {
    let outcome = Monitor<Result<RecordLocation, SegmentStoreError>?>(nil)
    append(key: key, payload: payload) { result in outcome.withLockSignalling { $0 = result } }
    if configuration.isStepped { writer.runWaiting() }
    return try outcome.wait { $0 }.get()
  }

  /// Does what is queued on the calling thread: for simulations, whose stores have no threads
  /// (``SegmentStoreConfiguration/isStepped``).
  public func performWaitingWrites() {
    precondition(configuration.isStepped, "this store's writer thread does that")
    writer.runWaiting()
  }

  /// Stores several records in the given order, with as few synchronizations as the limits allow. Returns when all are on
  /// stable storage. It is not a transaction: a crash may leave any of them, and after an error any may be there.
  public func append(
    _ records: [(key: [UInt8], payload: [UInt8])]
  ) async throws(SegmentStoreError) -> [RecordLocation] {
    var actions: [PendingWrite.Action] = []
    for record in records { actions.append(try appendAction(record.key, record.payload)) }
    if actions.isEmpty { return [] }
    let planned = actions
    let result: Result<[RecordLocation], SegmentStoreError> = await withCheckedContinuation {
      let group = GroupCompletion(count: planned.count, continuation: $0)
      submit(planned.map { PendingWrite(action: $0, completion: .part(group)) })
    }
    return try result.get()
  }

  /// Removes a key, by a tombstone that is on stable storage on return. False where the key was not there.
  @discardableResult
  public func delete(key: [UInt8]) async throws(SegmentStoreError) -> Bool {
    try check(key)
    let result: Result<Bool, SegmentStoreError> = await withCheckedContinuation {
      submit([PendingWrite(action: .delete(key: key), completion: .existed($0))])
    }
    return try result.get()
  }

  /// Removes rolled segments from the oldest on, as long as all their records have sequences up to the given one,
  /// with every key whose latest record they hold. Never removes the segment being written.
  /// - Returns: how many were removed.
  @discardableResult
  public func dropSegments(
    throughSequence sequence: UInt64
  ) async throws(SegmentStoreError) -> Int {
    let result: Result<Int, SegmentStoreError> = await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<Int, SegmentStoreError>, Never>) in
      dropSegments(throughSequence: sequence) { continuation.resume(returning: $0) }
    }
    return try result.get()
  }

  /// As ``dropSegments(throughSequence:)``; `completion` is called on the writer thread.
  public func dropSegments(
    throughSequence sequence: UInt64,
    completion: @escaping @Sendable (Result<Int, SegmentStoreError>) -> Void
  ) {
    submit([
      PendingWrite(
        action: .dropSegments(throughSequence: sequence), completion: .dropped(completion))
    ])
  }

  /// The payload of a key, nil where there is none. Header and payload checksums are verified on every read.
  /// Throws `.damaged` with segment and offset for a record that is not what was written.
  public func read(key: [UInt8]) async throws(SegmentStoreError) -> [UInt8]? {
    guard let found = try find(key) else { return nil }
    return try await counting { () throws(SegmentStoreError) in
      try RecordReader.read(key: key, at: found.0, in: found.1)
    }
  }

  /// Where a key's record stands. Throws `.damaged` for a record that recovery found damaged.
  func find(_ key: [UInt8]) throws(SegmentStoreError) -> (RecordLocation, Segment)? {
    try check(key)
    let found = shared.withLock { state -> (RecordLocation, Segment, SegmentDamage?)? in
      guard let entry = state.index[key] else { return nil }
      let damage = state.damages[entry.location.sequence]
      if damage != nil { state.damagedReads += 1 }
      return (entry.location, state.segment(of: entry), damage)
    }
    guard let (location, segment, damage) = found else { return nil }
    if let damage { throw .damaged(damage) }
    return (location, segment)
  }

  /// Runs a job on a reader thread and counts it where it met damage.
  func counting<Value: Sendable>(
    _ job: @escaping @Sendable () throws(SegmentStoreError) -> Value
  ) async throws(SegmentStoreError) -> Value {
    do throws(SegmentStoreError) { return try await onReader(job) } catch {
      if case .damaged = error { shared.withLock { $0.damagedReads += 1 } }
      throw error
    }
  }

  /// Hands every value and tombstone record with a sequence from `first` on to `body`, replaced ones included, in the order
  /// of their sequences, until `body` answers false. Sees what was acknowledged before the call. One record is in
  /// memory at a time. `body` runs on a reader thread and may block it.
  ///
  /// Throws `.damaged` at the first damage that may concern these sequences; records before it have been handed
  /// out, and a call with a later `first` goes on behind it. Sealed holes and missing segments show as jumps in
  /// the sequences, and stood in the recovery report.
  public func forEachRecord(
    fromSequence first: UInt64 = 0, _ body: @escaping @Sendable (SegmentRecord) -> Bool
  ) async throws(SegmentStoreError) {
    let segments = shared.withLock { $0.segments }
    let files = files
    try await onReader { () throws(SegmentStoreError) in
      try RecordReader.forEach(in: segments, from: first, files: files, body)
    }
  }

  /// As ``forEachRecord(fromSequence:_:)``, on the calling thread, which it blocks.
  public func forEachRecordBlocking(
    fromSequence first: UInt64 = 0, _ body: (SegmentRecord) -> Bool
  ) throws(SegmentStoreError) {
    let segments = shared.withLock { $0.segments }
    try RecordReader.forEach(in: segments, from: first, files: files, body)
  }

  /// Wins back what deleted and replaced records take, in the segments where it is most worth it: one file of what is
  /// still of use takes their place. Reads and writes go on meanwhile.
  ///
  /// Throws `.damaged` for a segment that is not wholly good, which is left alone from then on; `.overloaded` where
  /// others wait already; `.disk` where there is no room, for example, which changes nothing.
  /// - Returns: what was done; nil where nothing is worth it.
  public func compact(
    _ settings: CompactionSettings = CompactionSettings()
  ) async throws(SegmentStoreError) -> CompactionResult? {
    guard (0.05...1).contains(settings.garbageFraction), settings.maximumBytesPerSecond >= 0 else {
      throw .invalidConfiguration("compaction: \(settings)")
    }
    if case .readOnly(let reason) = status { throw .readOnly(reason) }
    let (shared, files, writer, limit) = (
      shared, files, writer, configuration.maximumSegmentSizeBytes
    )
    let configuration = configuration
    return try await on(caretaker) { () throws(SegmentStoreError) in
      let sources = shared.withLock {
        $0.segmentsToCompact(settings, maximumSegmentSizeBytes: limit)
      }
      guard !sources.isEmpty else { return nil }
      let compactor = Compactor(
        shared: shared, files: files, store: writer.store,
        pace: Pace(bytesPerSecond: settings.maximumBytesPerSecond),
        shouldStop: { writer.queue.withLock { $0.isClosing } })
      let outcome = ReplacementOutcome()
      let result: CompactionResult
      do throws(SegmentStoreError) {
        let compacted: CompactedSegment
        (compacted, result) = try compactor.copy(sources)
        let write = PendingWrite(
          action: .replaceSegments(compacted), completion: .replaced(outcome))
        if let refusal = writer.queue.withLockSignalling({ $0.accept([write], configuration) }) {
          try? files.removeTemporarySegment(compacted.header.segmentIdentifier)
          throw refusal
        }
        return try outcome.wait() ? result : nil
      } catch {
        if case .damaged(let damage) = error {
          shared.withLock { _ = $0.uncompactable.insert(damage.segmentIdentifier) }
        }
        throw error
      }
    }
  }

  /// Reads on from a position and verifies all checksums, dead records included, until about so many bytes were read
  /// (one record more at most). Sees what was acknowledged before the call. Finds what nobody reads; mends nothing.
  public func scrub(
    from position: ScrubPosition = .start, maximumBytes: Int = 4 << 20
  ) async throws(SegmentStoreError) -> ScrubStep {
    let scrubber = Scrubber(shared: shared, files: files, store: writer.store)
    return try await onReader { () throws(SegmentStoreError) in
      try scrubber.step(from: position, maximumBytes: max(1, maximumBytes))
    }
  }

  /// Where the last saved scrub stopped; a new one where nothing was saved.
  public func scrubProgress() async throws(SegmentStoreError) -> ScrubProgress {
    let files = files
    return try await onReader { () throws(SegmentStoreError) in
      files.readScrubProgress() ?? ScrubProgress()
    }
  }

  /// By one caller at a time. What is lost is some reading.
  public func save(_ progress: ScrubProgress) async throws(SegmentStoreError) {
    let files = files
    try await onReader { () throws(SegmentStoreError) in
      do throws(DiskError) { try files.writeScrubProgress(progress) } catch { throw .disk(error) }
    }
  }

  /// Whether the key has a record, be it damaged.
  public func contains(key: [UInt8]) -> Bool { shared.withLock { $0.index[key] != nil } }

  /// The first `limit` keys behind `key` (from the start where it is nil), in byte order.
  public func keys(after key: [UInt8]? = nil, limit: Int) -> [[UInt8]] {
    shared.withLock { $0.index.keys(after: key, limit: limit) }
  }

  public func statistics() -> SegmentStoreStatistics {
    var result = SegmentStoreStatistics()
    shared.withLock { state in
      result.segments = state.segments.count
      result.keys = state.index.count
      result.totalSizeBytes = state.segments.reduce(0) { $0 + $1.sizeBytes }
      result.liveSizeBytes = state.liveSizeBytes
      result.nextSequence = state.nextSequence
      result.batches = state.batches
      result.recordsWritten = state.recordsWritten
      result.damagedReads = state.damagedReads
      result.hintFailures = state.hintFailures
    }
    result.waitingWrites = writer.queue.withLock { $0.waitingWrites }
    result.waitingReads = readers.waitingJobs
    return result
  }

  /// Takes no more calls, finishes those that were taken, makes all durable and gives the folder free.
  /// May be called again, and by several callers.
  public func close() async {
    writer.queue.withLockSignalling { $0.close() }
    readers.close()
    caretaker.close()
    // Before the writer ends, which gives the folder free.
    await caretaker.waitForEnd()
    await withCheckedContinuation { continuation in
      let isWaiting = writer.queue.withLock { $0.waitForEnd(continuation) }
      if !isWaiting { continuation.resume() }
    }
    await readers.waitForEnd()
  }

  private func check(_ key: [UInt8]) throws(SegmentStoreError) {
    guard (1...RecordHeader.keyLimitBytes).contains(key.count) else {
      throw .invalidKeySize(key.count)
    }
  }

  /// Checks the arguments, and computes the payload's checksum on the caller's thread, so that the writer need not.
  private func appendAction(
    _ key: [UInt8], _ payload: [UInt8]
  ) throws(SegmentStoreError) -> PendingWrite.Action {
    try check(key)
    guard payload.count <= configuration.maximumPayloadSizeBytes else {
      throw .payloadTooLarge(
        sizeBytes: payload.count, limitBytes: configuration.maximumPayloadSizeBytes)
    }
    if case .readOnly(let reason) = status { throw .readOnly(reason) }
    return .append(key: key, payload: payload, payloadChecksum: Checksum.crc32c(payload))
  }

  /// Queues the writes, or fails them at once.
  private func submit(_ writes: [PendingWrite]) {
    let refusal = writer.queue.withLockSignalling { $0.accept(writes, configuration) }
    if let refusal { for write in writes { write.completion.fail(refusal) } }
  }

  /// Runs blocking work on a reader thread. The result goes through a mutex because the thread sanitizer does not
  /// see that resuming a continuation on a thread of our own comes before what the waiting task does next.
  private func onReader<Value: Sendable>(
    _ job: @escaping @Sendable () throws(SegmentStoreError) -> Value
  ) async throws(SegmentStoreError) -> Value {
    try await on(readers, job)
  }

  private func on<Value: Sendable>(
    _ threads: ReaderPool, _ job: @escaping @Sendable () throws(SegmentStoreError) -> Value
  ) async throws(SegmentStoreError) -> Value {
    let outcome = Monitor<Result<Value, SegmentStoreError>?>(nil)
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      let refusal = threads.submit {
        let result = Result { () throws(SegmentStoreError) in try job() }
        outcome.withLock { $0 = result }
        continuation.resume()
      }
      if let refusal {
        outcome.withLock { $0 = .failure(refusal) }
        continuation.resume()
      }
    }
    guard let result = outcome.withLock({ $0 }) else {
      preconditionFailure("a reader answered without a result")
    }
    return try result.get()
  }
}
