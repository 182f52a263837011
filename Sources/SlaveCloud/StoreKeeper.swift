import Base
import Glibc
import Logging
import RPC
import SegmentStore

/// The slave's segment store, and the way back after it became read-only: close it and open it anew, which judges the folder by
/// its bytes as after a crash and trusts nothing that was not synchronized.
final class StoreKeeper: Sendable {
  private let directory: String
  private let disk: any Disk
  private let configuration: SegmentStoreConfiguration
  private let logger: Logger
  private struct State {
    var store: SegmentStore
    var report: RecoveryReport
    var isReopening = false
    var isStopped = false
    /// Another one for each opening.
    var instance = SystemEntropy().uniform(below: .max)
  }
  private let state: Locked<State>
  let scrub = Locked(ScrubState())

  /// Blocks while the segments are opened.
  init(
    directory: String, disk: any Disk, configuration: SegmentStoreConfiguration, logger: Logger
  ) throws(SegmentStoreError) {
    self.directory = directory
    self.disk = disk
    self.configuration = configuration
    self.logger = logger
    let (store, report) = try SegmentStore.open(
      directory: directory, disk: disk, configuration: configuration)
    state = Locked(State(store: store, report: report))
    tell(of: report)
  }

  var store: SegmentStore { state.withLock { $0.store } }
  var report: RecoveryReport { state.withLock { $0.report } }
  var instance: UInt64 { state.withLock { $0.instance } }

  private func tell(of report: RecoveryReport) {
    scrub.withLock { state in
      for key in report.damages.compactMap(\.key) { state.addBad(key) }
    }
    if let cut = report.tailCut {
      logger.notice("a torn tail was cut", metadata: ["bytes": "\(cut.sizeBytes)"])
    }
    for damage in report.damages {
      logger.error("damaged segment", metadata: ["damage": "\(damage)"])
    }
    for segment in report.damagedHints {
      logger.warning("damaged hints; their segment was read", metadata: ["segment": "\(segment)"])
    }
    logger.debug(
      "segments opened",
      metadata: [
        "segments": "\(report.segments)", "by_hints": "\(report.hintedSegments)",
        "hints_written": "\(report.rebuiltHints.count)",
      ])
  }

  /// Where writing ended for want of room, and there is room again.
  func reopenIfThereIsRoom(_ needed: UInt64) async {
    guard case .readOnly(let reason) = store.status, reason.diskError?.code == ENOSPC,
      let free = try? disk.freeSpaceBytes(directory), free >= needed
    else { return }
    await reopen()
  }

  /// Where the store is read-only: whoever asks has seen to the disk. Calls meanwhile are told to come back.
  /// - Returns: whether writes are taken now.
  @discardableResult
  func reopen() async -> Bool {
    let old: SegmentStore? = state.withLock { state in
      guard state.store.status != .readWrite, !state.isReopening, !state.isStopped else {
        return nil
      }
      state.isReopening = true
      return state.store
    }
    guard let old else { return store.status == .readWrite }
    await old.close()
    let (directory, disk, configuration) = (directory, disk, configuration)
    do {
      let (store, report) = try await offload {
        try SegmentStore.open(directory: directory, disk: disk, configuration: configuration)
      }
      let isStopped = state.withLock { state in
        state.store = store
        state.report = report
        state.instance = SystemEntropy().uniform(below: .max)
        state.isReopening = false
        return state.isStopped
      }
      if isStopped { await store.close() }
      tell(of: report)
      logger.notice("the store was opened anew", metadata: ["status": "\(store.status)"])
    } catch {
      // The closed store stays, and refuses everything; the next attempt tries again.
      state.withLock { $0.isReopening = false }
      logger.error("the store could not be opened anew", metadata: ["reason": "\(error)"])
    }
    return store.status == .readWrite
  }

  func stop() async {
    let store = state.withLock { state in
      state.isStopped = true
      return state.store
    }
    await store.close()
  }
}
