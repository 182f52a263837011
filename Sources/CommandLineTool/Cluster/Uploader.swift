import Base
import Messages
import RPC

/// What became of one file.
public struct UploadOutcome: Sendable {
  public enum Result: Sendable {
    case stored(StoreImageReply)
    /// The owner had it already.
    case alreadyStored(imageID: [UInt8])
    /// The same bytes as another file of this upload.
    case duplicate(of: String)
    case failed(CommandFailure)
    /// The upload ended before its turn.
    case notTried
  }
  public let item: UploadItem
  public let result: Result
}

/// Uploads many files: hashes them, asks in batches what is stored already, and sends the rest,
/// several at once. Sending a file twice is harmless, so what fails for a passing reason is tried again.
public struct Uploader<Target: UploadTarget>: Sendable {
  let target: Target
  let concurrency: Int
  let tags: [TagEntry]
  /// Pauses before further attempts at a file.
  let retryPauses: [Duration]
  let progress: @Sendable ((inout ProgressState) -> Void) -> Void

  static var batchFiles: Int { 256 }
  static var batchBytes: UInt64 { 256 << 20 }
  public static var usualRetryPauses: [Duration] {
    [.milliseconds(500), .seconds(1), .seconds(2), .seconds(4)]
  }

  public init(
    target: Target, concurrency: Int, tags: [TagEntry] = [],
    retryPauses: [Duration] = usualRetryPauses,
    progress: @escaping @Sendable ((inout ProgressState) -> Void) -> Void = { _ in }
  ) {
    precondition(concurrency >= 1, "\(concurrency) uploads at once")
    self.target = target
    self.concurrency = concurrency
    self.tags = tags
    self.retryPauses = retryPauses
    self.progress = progress
  }

  /// One outcome for each item, in their order; `onOutcome` hears of each as it is known.
  ///
  /// Once the owner cannot be reached any more, what is left is not tried.
  public func run(
    _ items: [UploadItem], onOutcome: @Sendable (UploadOutcome) -> Void = { _ in }
  ) async -> [UploadOutcome] {
    progress { state in
      state.filesTotal = items.count
      state.bytesTotal = items.reduce(0) { $0 + $1.sizeBytes }
    }
    var outcomes: [UploadOutcome] = []
    outcomes.reserveCapacity(items.count)
    var seen: [[UInt8]: String] = [:]
    var stopped = false
    for batch in Self.batches(items) {
      let results: [UploadOutcome.Result]
      if stopped || Task.isCancelled {
        results = batch.map { _ in .notTried }
      } else {
        (results, stopped) = await run(batch: batch, seen: &seen, onOutcome)
      }
      for (item, result) in zip(batch, results) {
        let outcome = UploadOutcome(item: item, result: result)
        if case .notTried = result { onOutcome(outcome) }
        outcomes.append(outcome)
      }
    }
    return outcomes
  }

  static func batches(_ items: [UploadItem]) -> [[UploadItem]] {
    var batches: [[UploadItem]] = []
    var batch: [UploadItem] = []
    var bytes: UInt64 = 0
    for item in items {
      if !batch.isEmpty, batch.count == batchFiles || bytes + item.sizeBytes > batchBytes {
        batches.append(batch)
        batch = []
        bytes = 0
      }
      batch.append(item)
      bytes += item.sizeBytes
    }
    if !batch.isEmpty { batches.append(batch) }
    return batches
  }

  /// Files whose bytes are to be sent, by their place in the batch.
  private struct Pending {
    let index: Int
    let digest: [UInt8]
  }

  private func run(
    batch: [UploadItem], seen: inout [[UInt8]: String],
    _ onOutcome: @Sendable (UploadOutcome) -> Void
  ) async -> (results: [UploadOutcome.Result], stopped: Bool) {
    var results = [UploadOutcome.Result](repeating: .notTried, count: batch.count)
    func settle(_ index: Int, _ result: UploadOutcome.Result, sent: UInt64 = 0) {
      results[index] = result
      count(result, batch[index], sent: sent)
      onOutcome(UploadOutcome(item: batch[index], result: result))
    }
    var pending: [Pending] = []
    for (index, item) in batch.enumerated() {
      if Task.isCancelled { return (results, true) }
      do {
        let digest = try await offload { try Files.digest(of: item.path).digest }
        if let first = seen[digest] {
          settle(index, .duplicate(of: first))
        } else {
          seen[digest] = item.path
          pending.append(Pending(index: index, digest: digest))
        }
      } catch {
        settle(index, .failed(CommandFailure(error, during: "reading \(item.path)")))
      }
    }
    let stored: [[UInt8]?]
    do {
      stored = try await retrying { try await target.check(pending.map(\.digest)) }
    } catch {
      let failure = CommandFailure(error, during: "asking the owner what is stored")
      for file in pending { settle(file.index, .failed(failure)) }
      return (results, true)
    }
    var missing: [Int] = []
    for (file, imageID) in zip(pending, stored) {
      if let imageID {
        settle(file.index, .alreadyStored(imageID: imageID))
      } else {
        missing.append(file.index)
      }
    }
    let stopped = await send(missing, of: batch) { settle($0, $1, sent: $2) }
    return (results, stopped)
  }

  /// True where the owner was lost on the way.
  private func send(
    _ indices: [Int], of batch: [UploadItem],
    _ settle: (Int, UploadOutcome.Result, UInt64) -> Void
  ) async -> Bool {
    var stopped = false
    await withTaskGroup(of: (Int, UploadOutcome.Result, UInt64).self) { group in
      var waiting = indices[...]
      var running = 0
      while running > 0 || (!waiting.isEmpty && !stopped) {
        while running < concurrency, !stopped, let index = waiting.popFirst() {
          let item = batch[index]
          group.addTask {
            let (result, sent) = await send(item)
            return (index, result, sent)
          }
          running += 1
        }
        guard let (index, result, sent) = await group.next() else { break }
        running -= 1
        if case .failed(let failure) = result, failure.status == .unavailable { stopped = true }
        if Task.isCancelled { stopped = true }
        settle(index, result, sent)
      }
    }
    return stopped
  }

  private func send(_ item: UploadItem) async -> (UploadOutcome.Result, sent: UInt64) {
    let sent = Locked<UInt64>(0)
    do {
      let reply = try await retrying {
        // Another attempt begins at the file's beginning.
        let earlier = sent.withLock { sent in
          defer { sent = 0 }
          return sent
        }
        progress { $0.bytesDone -= min($0.bytesDone, earlier) }
        return try await target.store(item, tags: tags) { count in
          sent.withLock { $0 += UInt64(count) }
          progress { $0.bytesDone += UInt64(count) }
        }
      }
      return (.stored(reply), sent.withLock { $0 })
    } catch {
      var failure = CommandFailure(error, during: "storing \(item.path)")
      if failure.isUndecodableImage {
        failure.advice =
          "nothing of it was stored; what can be: uncompressed DICOM, PNG and JPEG"
      }
      return (.failed(failure), sent.withLock { $0 })
    }
  }

  private func retrying<Value>(_ body: () async throws -> Value) async throws -> Value {
    for pause in retryPauses {
      do {
        return try await body()
      } catch let error as RPCError where Self.mayPass(error) && !Task.isCancelled {
        try await Task.sleep(for: pause)
      }
    }
    return try await body()
  }

  /// Reasons that may be gone at the next attempt.
  static func mayPass(_ error: RPCError) -> Bool {
    switch error.code {
    case .unavailable, .aborted: true
    // Too much to do right now, as opposed to too large for ever.
    case .resourceExhausted: ["", "Overloaded", "QueueFull"].contains(error.reason)
    default: false
    }
  }

  private func count(_ result: UploadOutcome.Result, _ item: UploadItem, sent: UInt64) {
    progress { state in
      state.filesDone += 1
      if case .failed = result { state.filesFailed += 1 }
      // A file that need not be sent counts as done, so that the bar reaches its end.
      state.bytesDone += item.sizeBytes > sent ? item.sizeBytes - sent : 0
    }
  }
}
