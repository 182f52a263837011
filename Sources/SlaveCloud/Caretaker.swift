import Base
import Logging
import Messages
import SegmentStore

/// How a slave cares for its segments when nobody asks it to.
public struct CareConfiguration: Sendable {
  /// Bytes read a second by scrubbing; 0 turns it off.
  public var scrubBytesPerSecond = 4 << 20
  /// From the beginning of one whole pass to that of the next.
  public var scrubInterval = Duration.seconds(7 * 24 * 3600)
  /// At least this part of a segment must be of no use for compaction (0.05 to 1).
  public var garbageFraction = 0.5
  /// Bytes read and written a second by compaction; 0 for no limit.
  public var compactionBytesPerSecond = 32 << 20
  /// A store that ran out of room takes writes again by itself once so much is free.
  public var freeBytesToReopen: UInt64 = 1 << 30
  /// Free bytes below which masters are asked to bring no new images; below half of it nothing is written, so that tombstones
  /// and compaction, which free room, still can be.
  public var reserveBytes: UInt64 = 512 << 20

  public init() {}
}

/// What scrubbing knows.
struct ScrubState: Sendable {
  var progress = ScrubProgress()
  /// Damaged stretches in this pass and in the last whole one, dead records included.
  var findings = 0
  var lastFindings = 0
  /// Shadows that are here by name and cannot be read, by a scrub or by a read.
  var badNames: Set<[UInt8]> = []
  /// Somebody asked for a pass now.
  var isWanted = false

  static let maximumBadNames = 100_000

  mutating func addBad(_ name: [UInt8]) {
    if badNames.count < Self.maximumBadNames { badNames.insert(name) }
  }
}

/// Scrubs, compacts and reopens, one thing at a time, until its task is cancelled.
struct Caretaker: Sendable {
  let keeper: StoreKeeper
  let configuration: CareConfiguration
  let logger: Logger
  private let clock = SystemClock()
  private let nap = Locked<Task<Void, Never>?>(nil)

  private static let stepBytes = 1 << 20
  /// So much is read between two looks at what else there is to do.
  private static let stepsBetweenSaves = 64
  private static let pause = Duration.seconds(30)

  init(keeper: StoreKeeper, configuration: CareConfiguration, logger: Logger) {
    self.keeper = keeper
    self.configuration = configuration
    self.logger = logger
  }

  func run() async {
    await load()
    while !Task.isCancelled {
      await keeper.reopenIfThereIsRoom(configuration.freeBytesToReopen)
      await compact()
      // A pass that is under way goes on at once, or its rate would not be the configured one.
      if await !scrubIfDue() { await rest() }
    }
  }

  /// Ends the pause between two looks.
  func wake() { nap.withLock { $0 }?.cancel() }

  private func rest() async {
    let pause = Task { _ = try? await Task.sleep(for: Self.pause) }
    nap.withLock { $0 = pause }
    // Asked for between the last look and this pause.
    if keeper.scrub.withLock({ $0.isWanted }) { pause.cancel() }
    await withTaskCancellationHandler {
      await pause.value
    } onCancel: {
      pause.cancel()
    }
  }

  private func load() async {
    do throws(SegmentStoreError) {
      let progress = try await keeper.store.scrubProgress()
      keeper.scrub.withLock { $0.progress = progress }
    } catch {
      logger.warning("scrubbing begins anew", metadata: ["reason": "\(error)"])
    }
  }

  /// As long as there is something to win.
  func compact() async {
    var settings = CompactionSettings()
    settings.garbageFraction = configuration.garbageFraction
    settings.maximumBytesPerSecond = configuration.compactionBytesPerSecond
    while !Task.isCancelled, keeper.store.status == .readWrite {
      do throws(SegmentStoreError) {
        guard let result = try await keeper.store.compact(settings) else { return }
        logger.info(
          "segments compacted",
          metadata: [
            "segments": "\(result.segments)", "bytes_before": "\(result.sizeBytesBefore)",
            "bytes_after": "\(result.sizeBytesAfter)",
          ])
      } catch .damaged(let damage) {
        logger.error("a damaged segment is not compacted", metadata: ["damage": "\(damage)"])
      } catch {
        if case .closed = error { return }
        logger.warning("compaction failed", metadata: ["reason": "\(error)"])
        return
      }
    }
  }

  /// Some steps of a pass that is due or under way. True where it got on and is not at its end.
  func scrubIfDue(steps: Int = stepsBetweenSaves) async -> Bool {
    // One under way has read its beginning long ago: the wish is for the next.
    let isWanted = keeper.scrub.withLock { state in
      guard state.progress.position == .start else { return false }
      defer { state.isWanted = false }
      return state.isWanted
    }
    guard configuration.scrubBytesPerSecond > 0 else { return false }
    let before = keeper.scrub.withLock { $0.progress }
    let now = clock.wallMilliseconds()
    let interval = UInt64(max(0, configuration.scrubInterval.components.seconds)) * 1000
    let isDue =
      isWanted || before.position != .start || now >= before.lastFullMilliseconds &+ interval
      || now < before.lastFullMilliseconds
    guard isDue else { return false }
    await scrub(steps: steps)
    let after = keeper.scrub.withLock { $0.progress.position }
    if after == .start, before.position != .start { return keeper.scrub.withLock { $0.isWanted } }
    return after != .start && after != before.position
  }

  /// Goes on with the pass, or begins one, for some steps; false where the store is closed. Saves how far it came.
  @discardableResult
  func scrub(steps: Int) async -> Bool {
    for _ in 0..<steps {
      let began = clock.monotonicNanoseconds()
      let position = keeper.scrub.withLock { state in
        if state.progress.position == .start {
          state.progress.passStartedMilliseconds = clock.wallMilliseconds()
          state.progress.sizeBytes = 0
          state.findings = 0
        }
        return state.progress.position
      }
      let step: ScrubStep
      do throws(SegmentStoreError) {
        step = try await keeper.store.scrub(from: position, maximumBytes: Self.stepBytes)
      } catch {
        if case .closed = error { return false }
        logger.warning("scrubbing was interrupted", metadata: ["reason": "\(error)"])
        return true
      }
      take(step)
      guard step.next != nil else { break }
      await keepPace(bytes: step.sizeBytes, since: began)
      if Task.isCancelled { break }
    }
    let progress = keeper.scrub.withLock { $0.progress }
    do throws(SegmentStoreError) { try await keeper.store.save(progress) } catch {
      if case .closed = error { return false }
      logger.warning("scrub progress was not saved", metadata: ["reason": "\(error)"])
    }
    return true
  }

  private func take(_ step: ScrubStep) {
    for finding in step.findings {
      logger.error(
        "scrubbing found damage",
        metadata: ["damage": "\(finding.damage)", "shadows": "\(finding.keys.count)"])
    }
    keeper.scrub.withLock { state in
      state.findings += step.findings.count
      for name in step.findings.flatMap(\.keys) { state.addBad(name) }
      state.progress.sizeBytes += step.sizeBytes
      if let next = step.next {
        state.progress.position = next
      } else {
        state.progress.position = .start
        state.progress.lastFullMilliseconds = state.progress.passStartedMilliseconds
        state.lastFindings = state.findings
      }
    }
  }

  private func keepPace(bytes: UInt64, since began: UInt64) async {
    guard configuration.scrubBytesPerSecond > 0 else { return }
    let due = bytes * 1_000_000_000 / UInt64(configuration.scrubBytesPerSecond)
    let taken = clock.monotonicNanoseconds() - began
    if due > taken { try? await Task.sleep(for: .nanoseconds(Int64(due - taken))) }
  }
}
