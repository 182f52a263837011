import Base
import Glibc

/// Holds background work on a thread of its own to a rate. Sleeping is what it is for: nobody waits for it.
final class Pace {
  private let bytesPerSecond: Int
  private let clock: any Clock
  private let sleep: (_ microseconds: UInt32) -> Void
  private var owedNanoseconds: UInt64 = 0
  private var since: UInt64

  /// - Parameter bytesPerSecond: 0 for no limit.
  init(
    bytesPerSecond: Int, clock: any Clock = SystemClock(),
    sleep: @escaping (_ microseconds: UInt32) -> Void = { usleep($0) }
  ) {
    self.sleep = sleep
    self.bytesPerSecond = bytesPerSecond
    self.clock = clock
    since = clock.monotonicNanoseconds()
  }

  /// Counts bytes, and sleeps once a hundredth of a second is owed.
  func spend(bytes: Int) {
    guard bytesPerSecond > 0 else { return }
    owedNanoseconds += UInt64(bytes) * 1_000_000_000 / UInt64(bytesPerSecond)
    let now = clock.monotonicNanoseconds()
    let passed = now - min(now, since)
    since = now
    owedNanoseconds -= min(owedNanoseconds, passed)
    // A second at most, so that closing is not held up.
    if owedNanoseconds > 10_000_000 {
      sleep(UInt32(min(owedNanoseconds, 1_000_000_000) / 1000))
    }
  }
}
