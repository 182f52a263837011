import Base

/// Keeps strangers from filling the log: of each kind of line a few pass in a while, and the next one says how
/// many did not. Counters count all of them.
final class LogLimiter: Sendable {
  private struct Window {
    var began: UInt64
    var passed = 0
    var held = 0
  }

  static let linesAWindow = 20
  private static let windowNanoseconds: UInt64 = 10_000_000_000
  private let windows = Locked<[String: Window]>([:])

  /// Nil where the line is to be left out; else how many of its kind were since the last one.
  ///
  /// - Parameter kind: this program's own words, so that there are few.
  func pass(_ kind: String, now: UInt64) -> Int? {
    windows.withLock { windows in
      var window = windows[kind] ?? Window(began: now)
      if now - min(now, window.began) >= Self.windowNanoseconds {
        window = Window(began: now, held: window.held)
      }
      defer { windows[kind] = window }
      guard window.passed < Self.linesAWindow else {
        window.held += 1
        return nil
      }
      window.passed += 1
      defer { window.held = 0 }
      return window.held
    }
  }
}
