import Base

/// Keeps strangers from filling the log: each kind of line has an allowance of its own. Counters count all.
final class LogLimiter: Sendable {
  static let linesAtOnce = 20
  static let linesPerSecond = 2.0
  private let clock: any Clock
  private let allowances = Locked<[String: LineAllowance]>([:])

  init(clock: any Clock = SystemClock()) { self.clock = clock }

  /// - Parameter kind: this program's own words, so that there are few.
  func take(_ kind: String) -> LineAllowance.Permit {
    let allowance = allowances.withLock { allowances in
      if let known = allowances[kind] { return known }
      let new = LineAllowance(
        burst: Self.linesAtOnce, perSecond: Self.linesPerSecond, clock: clock)
      allowances[kind] = new
      return new
    }
    return allowance.take()
  }
}
