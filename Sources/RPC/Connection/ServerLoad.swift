import Synchronization

/// What a server holds at this moment, over all its connections; any thread.
final class ServerLoad: Sendable {
  private let calls = Atomic(0)
  private let bytes = Atomic(0)

  /// Handlers that have not returned, also of calls that are over.
  var runningCalls: Int { calls.load(ordering: .relaxed) }
  /// Bytes that came and were not read, and those that wait for their reader.
  var bytesInFlight: Int { bytes.load(ordering: .relaxed) }

  func callBegan() { calls.wrappingAdd(1, ordering: .relaxed) }
  func callReturned() { calls.wrappingSubtract(1, ordering: .relaxed) }
  func unreadBytes(_ change: Int) { bytes.wrappingAdd(change, ordering: .relaxed) }
}
