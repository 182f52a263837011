import Base

/// A clock that only a test moves.
public final class ManualClock: Clock {
  private struct State {
    var monotonicNanoseconds: UInt64 = 1
    var wallMilliseconds: UInt64
  }
  private let state: Locked<State>

  /// Starts at the machine's time unless told otherwise; certificates and TLS know no other.
  public init(wallMilliseconds: UInt64 = SystemClock().wallMilliseconds()) {
    state = Locked(State(wallMilliseconds: wallMilliseconds))
  }

  public func monotonicNanoseconds() -> UInt64 { state.withLock { $0.monotonicNanoseconds } }
  public func wallMilliseconds() -> UInt64 { state.withLock { $0.wallMilliseconds } }

  public func advance(seconds: UInt64) {
    state.withLock { state in
      state.monotonicNanoseconds += seconds * 1_000_000_000
      state.wallMilliseconds += seconds * 1000
    }
  }
}
