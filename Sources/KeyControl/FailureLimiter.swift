import Base

/// A token bucket for failures: so many at once, and one more each interval.
///
/// Guessing a 256-bit token is hopeless anyway; this bounds the work and the log lines that a
/// stranger can cause.
final class FailureLimiter: Sendable {
  private struct State {
    var failuresLeft: Double
    var updatedAtNanoseconds: UInt64
  }

  private let capacity: Double
  private let perSecond: Double
  private let clock: any Clock
  private let state: Locked<State>

  init(capacity: Int, perSecond: Double, clock: any Clock) {
    self.capacity = Double(capacity)
    self.perSecond = perSecond
    self.clock = clock
    state = Locked(
      State(failuresLeft: Double(capacity), updatedAtNanoseconds: clock.monotonicNanoseconds()))
  }

  /// Whether another attempt may be made.
  var isOpen: Bool {
    state.withLock { state in
      refill(&state)
      return state.failuresLeft >= 1
    }
  }

  func recordFailure() {
    state.withLock { state in
      refill(&state)
      state.failuresLeft = max(0, state.failuresLeft - 1)
    }
  }

  private func refill(_ state: inout State) {
    let now = clock.monotonicNanoseconds()
    let seconds = Double(now - min(now, state.updatedAtNanoseconds)) / 1e9
    state.failuresLeft = min(capacity, state.failuresLeft + seconds * perSecond)
    state.updatedAtNanoseconds = now
  }
}
