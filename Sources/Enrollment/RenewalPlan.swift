import Base

/// When a running daemon renews its certificate: once less than a third of its life is left, at a moment of its
/// own, and again and again where that fails. Decides only; times are milliseconds since 1970.
struct RenewalPlan: Sendable {
  private let expires: UInt64
  private var next: UInt64
  private var failures = 0

  private static let firstRetryMilliseconds = 15_000.0
  private static let longestRetryMilliseconds = 3_600_000.0

  /// - Parameters:
  ///   - dice: 0 to 1. Nodes that were set up together must not all come back together.
  ///   - earliest: a certificate that is short-lived from the start must not be renewed without a pause.
  init(of identity: NodeIdentity, dice: Double, earliest: UInt64 = 0) {
    expires = identity.expiresAtMilliseconds
    let lifetime = expires - min(expires, identity.startsAtMilliseconds)
    let jitter = Double(lifetime) / 30 * dice
    next = max(earliest, expires - lifetime / 3 + UInt64(jitter))
  }

  func isDue(at now: UInt64) -> Bool { now >= next }

  func milliseconds(from now: UInt64) -> UInt64 { next - min(next, now) }

  /// Twice as long each time, up to an hour, and never past a quarter of what is left.
  mutating func failed(at now: UInt64, dice: Double) {
    var delay = Self.firstRetryMilliseconds
    for _ in 0..<min(failures, 20) { delay *= 2 }
    delay = min(delay, Self.longestRetryMilliseconds) * (0.8 + 0.4 * dice)
    let left = expires - min(expires, now)
    if left > 0 { delay = min(delay, max(1000, Double(left) / 4)) }
    failures += 1
    next = now + UInt64(delay)
  }
}
