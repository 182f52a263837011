import Base
import Synchronization

/// What became of a server's connections; any thread.
final class ServerCounters: Sendable {
  private let acceptedCount = Atomic<UInt64>(0)
  private let readyCount = Atomic<UInt64>(0)
  private let resumedCount = Atomic<UInt64>(0)
  private let handshakingCount = Atomic(0)
  private let openCount = Atomic(0)
  private let strangersCount = Atomic(0)
  private let byReason = Locked<[String: UInt64]>([:])
  /// Reasons are this program's own words, so their number is small; this only bounds a mistake.
  private static let maximumReasons = 64

  /// Connections that have not said hello.
  var handshaking: Int { handshakingCount.load(ordering: .relaxed) }
  /// Connections from their acceptance on, also before their loop has seen them.
  var open: Int { openCount.load(ordering: .relaxed) }

  func accepted() {
    acceptedCount.wrappingAdd(1, ordering: .relaxed)
    openCount.wrappingAdd(1, ordering: .relaxed)
    handshakingCount.wrappingAdd(1, ordering: .relaxed)
  }

  func ready(resumed: Bool) {
    readyCount.wrappingAdd(1, ordering: .relaxed)
    if resumed { resumedCount.wrappingAdd(1, ordering: .relaxed) }
    handshakingCount.wrappingSubtract(1, ordering: .relaxed)
  }

  func closed(isHandshaking: Bool) {
    openCount.wrappingSubtract(1, ordering: .relaxed)
    if isHandshaking { handshakingCount.wrappingSubtract(1, ordering: .relaxed) }
  }

  /// False where there are so many already.
  func strangerCame(atMost limit: Int) -> Bool {
    if strangersCount.wrappingAdd(1, ordering: .relaxed).newValue <= limit { return true }
    strangerLeft()
    return false
  }

  func strangerLeft() { strangersCount.wrappingSubtract(1, ordering: .relaxed) }

  func count(_ reason: String) {
    byReason.withLock { counts in
      guard counts[reason] != nil || counts.count < Self.maximumReasons else { return }
      counts[reason, default: 0] += 1
    }
  }

  func snapshot() -> [String: UInt64] {
    byReason.withLock { counts in
      // Copied here: later it would be copied under the eyes of whoever counts.
      var all = counts
      all["Accepted"] = acceptedCount.load(ordering: .relaxed)
      all["Ready"] = readyCount.load(ordering: .relaxed)
      all["Resumed"] = resumedCount.load(ordering: .relaxed)
      return all
    }
  }
}
