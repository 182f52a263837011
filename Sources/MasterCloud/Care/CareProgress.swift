import Base
import Messages

/// How far care has come, for those who ask.
final class CareProgress: Sendable {
  private struct State {
    var status = CareStatus()
    /// When bytes were written, over the last minute.
    var writes: [(at: UInt64, bytes: UInt64)] = []
    var problems: [ImageID: String] = [:]
    /// Something was left of the last pass: what comes now goes on with it.
    var hasLeft = false
  }

  private let state = Locked(State())
  private let clock: any Clock
  private static let window: UInt64 = 60_000_000_000
  private static let maximumProblems = 10_000

  init(clock: any Clock = SystemClock()) { self.clock = clock }

  /// What a survey found is to be done.
  func begin(
    images: Int, shadows: Int, bytes: UInt64, fewestLossesSurvived: Int?, lostImages: Int
  ) {
    state.withLock { state in
      if state.status.pendingShadows == 0, !state.hasLeft, shadows > 0 {
        (state.status.doneShadows, state.status.doneBytes) = (0, 0)
        state.status.failedAttempts = 0
        state.writes = []
      }
      state.status.pendingImages = UInt64(images)
      state.status.pendingShadows = UInt64(shadows)
      state.status.pendingBytes = bytes
      state.status.fewestLossesSurvived = UInt32(max(0, fewestLossesSurvived ?? 0))
      state.status.lostImages = UInt64(lostImages)
      state.status.waitingShadows = 0
      state.status.balancingShadows = 0
      state.problems = [:]
      if shadows == 0 { state.status.lastProblem = "" }
      state.hasLeft = false
    }
  }

  /// Everything that a survey found has been tried.
  func endPass() { state.withLock { $0.status.passes += 1 } }

  /// Moves for balance, on top of what a survey found.
  func addBalancing(shadows: Int, bytes: UInt64) {
    state.withLock { state in
      state.status.pendingShadows += UInt64(shadows)
      state.status.balancingShadows += UInt64(shadows)
      state.status.pendingBytes += bytes
    }
  }

  func wrote(bytes: Int, rebuilt: Bool) {
    let now = clock.monotonicNanoseconds()
    state.withLock { state in
      state.status.doneShadows += 1
      state.status.doneBytes += UInt64(bytes)
      state.status.madeBytes += UInt64(bytes)
      if rebuilt {
        state.status.rebuiltShadows += 1
      } else {
        state.status.copiedShadows += 1
      }
      state.writes.append((now, UInt64(bytes)))
      if state.writes.count > 4096 { state.writes.removeFirst(1024) }
    }
  }

  /// An image, or a shadow moved for balance, is done with: as it should be, or left for the next survey.
  func finished(
    _ id: ImageID, images: Int, shadows: Int, bytes: UInt64, waiting: Int, problem: String?,
    isBalancing: Bool = false
  ) {
    state.withLock { state in
      state.status.pendingImages -= min(state.status.pendingImages, UInt64(images))
      state.status.pendingShadows -= min(state.status.pendingShadows, UInt64(shadows))
      state.status.pendingBytes -= min(state.status.pendingBytes, bytes)
      if isBalancing {
        state.status.balancingShadows -= min(state.status.balancingShadows, UInt64(shadows))
      }
      state.status.waitingShadows += UInt64(waiting)
      if let problem {
        state.hasLeft = true
        if waiting == 0 { state.status.failedAttempts += 1 }
        state.status.lastProblem = problem
        if state.problems.count < Self.maximumProblems { state.problems[id] = problem }
      }
    }
  }

  func problem(of id: ImageID) -> String? { state.withLock { $0.problems[id] } }

  var status: CareStatus {
    let now = clock.monotonicNanoseconds()
    return state.withLock { state in
      state.writes.removeAll { now - min(now, $0.at) > Self.window }
      var status = state.status
      if let first = state.writes.first, state.writes.count > 1 {
        let span = max(now - min(now, first.at), 1_000_000)
        // The first of them only says when the others began.
        let bytes = state.writes.dropFirst().reduce(0) { $0 + $1.bytes }
        status.bytesPerSecond = UInt64(Double(bytes) * 1e9 / Double(span))
      }
      if status.pendingShadows > 0, status.bytesPerSecond > 0 {
        status.secondsLeft = max(1, status.pendingBytes / status.bytesPerSecond)
      }
      return status
    }
  }
}
