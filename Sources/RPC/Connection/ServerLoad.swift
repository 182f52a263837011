import Synchronization

/// What a server holds at this moment, over all its connections; any thread.
final class ServerLoad: Sendable {
  private let calls = Atomic(0)
  private let unread = Atomic(0)
  private let waiting = Atomic(0)

  /// Handlers that have not returned, also of calls that are over.
  var runningCalls: Int { calls.load(ordering: .relaxed) }
  /// Bytes that came and were not read.
  var unreadBytes: Int { unread.load(ordering: .relaxed) }
  /// Bytes that wait for credit or room: answers that their callers do not take.
  var waitingBytes: Int { waiting.load(ordering: .relaxed) }

  func callBegan() { calls.wrappingAdd(1, ordering: .relaxed) }
  func callReturned() { calls.wrappingSubtract(1, ordering: .relaxed) }
  func unreadBytes(_ change: Int) { unread.wrappingAdd(change, ordering: .relaxed) }
  func waitingBytes(_ change: Int) { waiting.wrappingAdd(change, ordering: .relaxed) }
}
