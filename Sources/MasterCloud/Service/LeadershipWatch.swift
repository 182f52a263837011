import Base
import Raft

/// Whether this master leads, for those who work only while it does.
final class LeadershipWatch: Sendable {
  private struct State {
    var isLeading = false
    var isOver = false
    var waiters: [CheckedContinuation<Void, Never>] = []
  }

  private let state = Locked(State())
  /// Whether it leads now, each time that changes; for one listener.
  let changes: AsyncStream<Bool>
  private let continuation: AsyncStream<Bool>.Continuation

  init() { (changes, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

  func set(_ leadership: Leadership) {
    let isLeading = leadership.role == .leader
    let (hasChanged, waiters) = state.withLock { state in
      let hasChanged = state.isLeading != isLeading
      state.isLeading = isLeading
      defer { if isLeading { state.waiters = [] } }
      return (hasChanged, isLeading ? state.waiters : [])
    }
    if hasChanged { continuation.yield(isLeading) }
    for waiter in waiters { waiter.resume() }
  }

  func waitUntilLeading() async {
    await withCheckedContinuation { continuation in
      let isDone = state.withLock { state in
        if !state.isLeading && !state.isOver { state.waiters.append(continuation) }
        return state.isLeading || state.isOver
      }
      if isDone { continuation.resume() }
    }
  }

  func end() {
    let waiters = state.withLock { state in
      state.isOver = true
      defer { state.waiters = [] }
      return state.waiters
    }
    continuation.finish()
    for waiter in waiters { waiter.resume() }
  }
}
