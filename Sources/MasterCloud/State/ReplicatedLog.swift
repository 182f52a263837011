import Base
import Logging
import Messages
import RPC
import SegmentStore

/// The one way to change the masters' state: a command is durable with enough voters before it is applied.
protocol ReplicatedLog: Sendable {
  /// Returns once the command is committed and applied here, with what applying it answered.
  ///
  /// Throws UNAVAILABLE where the outcome is not known; commands are made so that proposing again is safe.
  func propose(_ command: LogCommand) async throws(RPCError) -> LogOutcome
  /// Returns once everything committed before the call is applied here, so that a read after it is not stale.
  func readBarrier() async throws(RPCError)
  func close() async
}

extension ReplicatedLog {
  /// Proposes the command of which `set` fills in the field, with the time of now.
  ///
  /// - Returns: what applying it answered, a refusal too: that is the caller's to check.
  func propose(_ set: (inout LogCommand) -> Void) async throws(RPCError) -> LogOutcome {
    var command = LogCommand()
    command.proposedAtMilliseconds = SystemClock().wallMilliseconds()
    set(&command)
    return try await propose(command)
  }
}

/// A log with one voter: durable on this machine's disk, several commands to one synchronization.
actor SingleVoterLog: ReplicatedLog {
  private typealias Answer = CheckedContinuation<Result<LogOutcome, RPCError>, Never>

  private let store: SegmentStore
  private let state: ClusterState
  private let logger: Logger
  private var nextIndex: UInt64
  private var waiting: [(command: LogCommand, answer: Answer)] = []
  private var isWriting = false
  /// Set for good where the log or the state failed: what is on disk is no longer known.
  private var failure: RPCError?
  private var commandsSinceCheckpoint = 0
  private var lastSequence: UInt64 = 0

  private static let maximumBatch = 256
  private static let maximumWaiting = 4096
  private static let checkpointInterval = 5000

  /// Opens the log's folder and applies what the state has not seen.
  static func open(
    directory: String, state: ClusterState, logger: Logger
  ) async throws -> SingleVoterLog {
    var configuration = SegmentStoreConfiguration()
    // A log is short and every record of it counts.
    configuration.verifiesAtOpen = true
    configuration.maximumSegmentSizeBytes = 16 << 20
    let (store, report) = try SegmentStore.open(
      directory: directory, disk: SystemDisk(), configuration: configuration)
    guard report.damages.isEmpty else {
      throw LogDamage(description: "\(directory): \(report.damages.map(\.description))")
    }
    let applied = try await state.appliedIndex()
    // The state may lag behind what was acknowledged; only the log knows.
    guard applied == 0 || !report.createdStore else {
      await store.close()
      throw LogDamage(
        description: "\(directory) is new, but the state beside it has applied \(applied) commands")
    }
    let batches = Locked<[(first: UInt64, payload: [UInt8])]>([])
    try await store.forEachRecord { record in
      guard let payload = record.payload, let first = UInt64(bigEndian: record.key, at: 0) else {
        return true
      }
      batches.withLock { $0.append((first, payload)) }
      return true
    }
    var next = applied + 1
    for (first, payload) in batches.withLock({ $0 }) {
      let commands = try LogBatch.decode(payload)
      let end = first + UInt64(commands.count)
      if end <= next { continue }
      guard first <= next else {
        throw LogDamage(description: "\(directory): commands \(next) to \(first - 1) are missing")
      }
      _ = try await state.apply(Array(commands[Int(next - first)...]), first: next)
      next = end
    }
    return SingleVoterLog(store: store, state: state, logger: logger, nextIndex: next)
  }

  private init(store: SegmentStore, state: ClusterState, logger: Logger, nextIndex: UInt64) {
    self.logger = logger
    self.store = store
    self.state = state
    self.nextIndex = nextIndex
  }

  func propose(_ command: LogCommand) async throws(RPCError) -> LogOutcome {
    if let failure { throw failure }
    guard waiting.count < Self.maximumWaiting else {
      throw RPCError(.resourceExhausted, "too many changes are waiting", reason: "Overloaded")
    }
    let result = await withCheckedContinuation { (answer: Answer) in
      waiting.append((command, answer))
      if !isWriting {
        isWriting = true
        Task { await self.write() }
      }
    }
    return try result.get()
  }

  func readBarrier() async throws(RPCError) {
    // One voter: what is committed is applied before it is acknowledged.
    if let failure { throw failure }
  }

  func close() async { await store.close() }

  private func write() async {
    while !waiting.isEmpty && failure == nil {
      let batch = Array(waiting.prefix(Self.maximumBatch))
      waiting.removeFirst(batch.count)
      do {
        let outcomes = try await commit(batch.map(\.command))
        for (item, outcome) in zip(batch, outcomes) {
          item.answer.resume(returning: .success(outcome))
        }
        await checkpointIfDue(batch.count)
      } catch {
        let fault = RPCError(.unavailable, "the log failed: \(error)", reason: "LogFailed")
        failure = fault
        logger.critical(
          "the log failed: nothing is stored or read until a restart",
          metadata: ["reason": "\(error)"])
        for item in batch { item.answer.resume(returning: .failure(fault)) }
      }
    }
    if let failure {
      for item in waiting { item.answer.resume(returning: .failure(failure)) }
      waiting = []
    }
    isWriting = false
  }

  private func commit(_ commands: [LogCommand]) async throws -> [LogOutcome] {
    let first = nextIndex
    var key: [UInt8] = []
    key.append(bigEndian: first)
    // One record a batch: after a crash it is there whole or not at all.
    let location = try await store.append(key: key, payload: LogBatch.encode(commands))
    lastSequence = location.sequence
    nextIndex += UInt64(commands.count)
    return try await state.apply(commands, first: first)
  }

  /// Lets go of log segments whose commands the state holds durably.
  private func checkpointIfDue(_ count: Int) async {
    commandsSinceCheckpoint += count
    guard commandsSinceCheckpoint >= Self.checkpointInterval else { return }
    commandsSinceCheckpoint = 0
    do {
      try await state.checkpoint()
      try await store.dropSegments(throughSequence: lastSequence)
    } catch {
      // Nothing is lost by keeping the segments; the next round tries again.
      commandsSinceCheckpoint = Self.checkpointInterval / 2
    }
  }
}

/// The log cannot be replayed: the node must not pretend to know what was committed.
struct LogDamage: Error, CustomStringConvertible {
  let description: String
}

/// Several commands as the payload of one log record: count, then length and protobuf bytes of each.
enum LogBatch {
  static func encode(_ commands: [LogCommand]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(bigEndian: UInt32(commands.count))
    for command in commands {
      let encoded = command.encoded()
      bytes.append(bigEndian: UInt32(encoded.count))
      bytes += encoded
    }
    return bytes
  }

  static func decode(_ bytes: [UInt8]) throws -> [LogCommand] {
    guard let count = UInt32(bigEndian: bytes, at: 0) else {
      throw LogDamage(description: "a log record of \(bytes.count) bytes")
    }
    var commands: [LogCommand] = []
    var position = 4
    for _ in 0..<count {
      guard let length = UInt32(bigEndian: bytes, at: position),
        bytes.count - position - 4 >= Int(length)
      else { throw LogDamage(description: "a log record that ends inside a command") }
      position += 4
      commands.append(try LogCommand(decoding: Array(bytes[position..<position + Int(length)])))
      position += Int(length)
    }
    guard position == bytes.count else {
      throw LogDamage(description: "a log record with bytes behind its commands")
    }
    return commands
  }
}
