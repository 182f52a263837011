import Base

/// Who waits for a write, and for what answer. Each is answered exactly once, by the writer thread.
enum WriteCompletion: Sendable {
  case location(@Sendable (Result<RecordLocation, SegmentStoreError>) -> Void)
  case existed(CheckedContinuation<Result<Bool, SegmentStoreError>, Never>)
  case part(GroupCompletion)
  case dropped(@Sendable (Result<Int, SegmentStoreError>) -> Void)
  case replaced(ReplacementOutcome)

  func fail(_ error: SegmentStoreError) {
    switch self {
    case .location(let answer): answer(.failure(error))
    case .existed(let continuation): continuation.resume(returning: .failure(error))
    case .part(let group): group.finishPart(.failure(error))
    case .dropped(let answer): answer(.failure(error))
    case .replaced(let outcome): outcome.set(.failure(error))
    }
  }
}

/// Collects the answers of records that were appended by one call. Touched by the writer thread only, once queued.
final class GroupCompletion: @unchecked Sendable {
  private var locations: [RecordLocation] = []
  private var failure: SegmentStoreError?
  private var remaining: Int
  private let continuation: CheckedContinuation<Result<[RecordLocation], SegmentStoreError>, Never>

  init(
    count: Int,
    continuation: CheckedContinuation<Result<[RecordLocation], SegmentStoreError>, Never>
  ) {
    remaining = count
    self.continuation = continuation
  }

  func finishPart(_ result: Result<RecordLocation, SegmentStoreError>) {
    switch result {
    case .success(let location): locations.append(location)
    case .failure(let error): failure = failure ?? error
    }
    remaining -= 1
    if remaining == 0 {
      continuation.resume(returning: failure.map { .failure($0) } ?? .success(locations))
    }
  }
}

/// Whether compacted segments took their places; a thread waits for it.
final class ReplacementOutcome: Sendable {
  private let result = Monitor<Result<Bool, SegmentStoreError>?>(nil)

  func set(_ outcome: Result<Bool, SegmentStoreError>) {
    result.withLockSignalling { $0 = outcome }
  }

  /// False where the segments were dropped meanwhile.
  func wait() throws(SegmentStoreError) -> Bool { try result.wait { $0 }.get() }
}

/// One thing for the writer thread to do.
struct PendingWrite: Sendable {
  enum Action: Sendable {
    case append(key: [UInt8], payload: [UInt8], payloadChecksum: UInt32)
    case delete(key: [UInt8])
    case dropSegments(throughSequence: UInt64)
    case replaceSegments(CompactedSegment)
  }

  let action: Action
  let completion: WriteCompletion

  var changesSegments: Bool {
    switch action {
    case .append, .delete: false
    case .dropSegments, .replaceSegments: true
    }
  }

  var payloadSizeBytes: Int {
    if case .append(_, let payload, _) = action { payload.count } else { 0 }
  }

  /// An upper bound for a delete, whose tombstone may turn out to be needless.
  var recordSizeBytes: UInt64 {
    switch action {
    case .append(let key, let payload, _):
      UInt64(RecordHeader.sizeBytes + key.count + payload.count)
    case .delete(let key): UInt64(RecordHeader.sizeBytes + key.count)
    case .dropSegments, .replaceSegments: 0
    }
  }
}

/// Writes on their way to the writer thread. Bounded in number and bytes over everything accepted and not yet
/// answered; what does not fit is refused at once.
struct WriteQueue {
  private(set) var waitingWrites = 0
  private var waitingBytes = 0
  private var incoming: [PendingWrite] = []
  private(set) var isClosing = false
  private(set) var hasEnded = false
  private var endWaiters: [CheckedContinuation<Void, Never>] = []

  var isEmpty: Bool { incoming.isEmpty }

  /// Takes all of the writes or none. Returns why not.
  mutating func accept(
    _ writes: [PendingWrite], _ configuration: SegmentStoreConfiguration
  ) -> SegmentStoreError? {
    if isClosing { return .closed }
    let bytes = writes.reduce(0) { $0 + $1.payloadSizeBytes }
    let fits =
      waitingWrites + writes.count <= configuration.maximumWaitingWrites
      && waitingBytes + bytes <= configuration.maximumWaitingWriteBytes
    guard fits || (waitingWrites == 0 && writes.count == 1) else { return .overloaded }
    waitingWrites += writes.count
    waitingBytes += bytes
    incoming += writes
    return nil
  }

  mutating func takeIncoming() -> [PendingWrite] {
    let taken = incoming
    incoming = []
    return taken
  }

  mutating func answered(_ writes: ArraySlice<PendingWrite>) {
    waitingWrites -= writes.count
    waitingBytes -= writes.reduce(0) { $0 + $1.payloadSizeBytes }
  }

  mutating func close() { isClosing = true }

  /// Registers somebody who waits for the writer's end; false where it has ended.
  mutating func waitForEnd(_ waiter: CheckedContinuation<Void, Never>) -> Bool {
    if !hasEnded { endWaiters.append(waiter) }
    return !hasEnded
  }

  mutating func end() -> [CheckedContinuation<Void, Never>] {
    hasEnded = true
    let waiters = endWaiters
    endWaiters = []
    return waiters
  }
}
