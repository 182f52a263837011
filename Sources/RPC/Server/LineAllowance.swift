import Base

/// How many lines others may cause in a log: some at once, and so many a second in the long run.
///
/// Whoever sends calls or opens connections decides how often something happens; a disk has an end.
final class LineAllowance: Sendable {
  enum Permit: Equatable {
    /// With the number of lines that were left out since the last one.
    case granted(leftOut: UInt64)
    case leftOut(isFirst: Bool)
  }

  private struct State {
    var lines: Double
    var nanoseconds: UInt64
    var leftOut: UInt64 = 0
  }

  private let burst: Double
  let perSecond: Double
  private let clock: any Clock
  private let state: Locked<State>

  init(burst: Int, perSecond: Double, clock: any Clock = SystemClock()) {
    self.burst = Double(burst)
    self.perSecond = perSecond
    self.clock = clock
    state = Locked(State(lines: Double(burst), nanoseconds: clock.monotonicNanoseconds()))
  }

  func take() -> Permit {
    let now = clock.monotonicNanoseconds()
    return state.withLock { state in
      // Threads may come with their times in another order.
      let earned = Double(now - min(now, state.nanoseconds)) / 1e9 * perSecond
      state.nanoseconds = max(now, state.nanoseconds)
      state.lines = min(burst, state.lines + earned)
      guard state.lines >= 1 else {
        state.leftOut += 1
        return .leftOut(isFirst: state.leftOut == 1)
      }
      state.lines -= 1
      defer { state.leftOut = 0 }
      return .granted(leftOut: state.leftOut)
    }
  }
}
