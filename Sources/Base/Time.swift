import Glibc

/// Where time comes from: the machine in production, a simulation's own count in tests.
public protocol Clock: Sendable {
  /// Nanoseconds that only grow, from an arbitrary start.
  func monotonicNanoseconds() -> UInt64
  /// Milliseconds since 1970.
  func wallMilliseconds() -> UInt64
}

/// The machine's clocks.
public struct SystemClock: Clock {
  public init() {}

  public func monotonicNanoseconds() -> UInt64 { read(CLOCK_MONOTONIC) }

  public func wallMilliseconds() -> UInt64 { read(CLOCK_REALTIME) / 1_000_000 }

  private func read(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}

/// As ``SystemClock``, but its monotonic clock goes on while the machine is suspended: for promises that end with time.
public struct BootClock: Clock {
  public init() {}

  public func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_BOOTTIME, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  public func wallMilliseconds() -> UInt64 { SystemClock().wallMilliseconds() }
}

extension Duration {
  /// Bounded below by 0 and above by a century.
  public var wholeNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    return UInt64(min(seconds, 3_000_000_000)) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
  }
}
