/// Whether a loop that has nothing to do looks again at once or lets its thread sleep.
///
/// Waking a sleeping thread costs tens of microseconds, more than a whole call. A loop whose last waits were
/// short therefore looks again for a while; one that is mostly idle sleeps at once and costs nothing.
struct WaitPolicy {
  private let busyPollNanoseconds: UInt64
  private var averageGapNanoseconds: UInt64 = .max >> 8

  init(busyPollNanoseconds: UInt64) { self.busyPollNanoseconds = busyPollNanoseconds }

  func spinsUntil(_ now: UInt64) -> UInt64 {
    averageGapNanoseconds <= busyPollNanoseconds ? now + busyPollNanoseconds : now
  }

  mutating func gapEnded(after nanoseconds: UInt64) {
    guard busyPollNanoseconds > 0 else { return }
    // A long sleep counts as a few windows only, so that a burst after it is noticed soon.
    let gap = min(nanoseconds, 8 * busyPollNanoseconds)
    averageGapNanoseconds = min(averageGapNanoseconds, 8 * busyPollNanoseconds)
    averageGapNanoseconds = (7 * averageGapNanoseconds + gap) / 8
  }
}
