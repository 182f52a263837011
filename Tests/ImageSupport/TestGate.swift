import Base

/// A place where a fake stops until the test lets it go on.
public final class TestGate: Sendable {
  private struct State {
    var isOpen = false
    var waiters: [UnsafeContinuation<Void, Never>] = []
    var arrivals = 0
    var watchers: [UnsafeContinuation<Void, Never>] = []
  }

  private let state = Locked(State())

  public init() {}

  /// Returns when the gate opens, or with CancellationError when the task is cancelled.
  public func pass() async throws {
    // A cancelled waiter wakes all of them; the others go back to waiting.
    while !(await wakened()) { try Task.checkCancellation() }
    try Task.checkCancellation()
  }

  private func wakened() async -> Bool {
    await withTaskCancellationHandler {
      await withUnsafeContinuation { (waiter: UnsafeContinuation<Void, Never>) in
        let (goesOn, watchers) = state.withLock { state in
          state.arrivals += 1
          let watchers = state.watchers
          state.watchers = []
          if state.isOpen || Task.isCancelled { return (true, watchers) }
          state.waiters.append(waiter)
          return (false, watchers)
        }
        for watcher in watchers { watcher.resume() }
        if goesOn { waiter.resume() }
      }
    } onCancel: {
      letWaitersGo()
    }
    return state.withLock { $0.isOpen }
  }

  /// For good: later arrivals pass too.
  public func open() {
    state.withLock { $0.isOpen = true }
    letWaitersGo()
  }

  /// Returns once somebody stands, or has stood, at the gate.
  public func reached() async {
    await withUnsafeContinuation { (watcher: UnsafeContinuation<Void, Never>) in
      let isReached = state.withLock { state in
        if state.arrivals > 0 { return true }
        state.watchers.append(watcher)
        return false
      }
      if isReached { watcher.resume() }
    }
  }

  private func letWaitersGo() {
    let waiters = state.withLock { state in
      defer { state.waiters = [] }
      return state.waiters
    }
    for waiter in waiters { waiter.resume() }
  }
}

/// Waits for what happens soon after another event, on another thread; false after half a minute.
public func eventually(_ condition: () async -> Bool) async -> Bool {
  for _ in 0..<6000 {
    if await condition() { return true }
    try? await Task.sleep(for: .milliseconds(5))
  }
  return false
}
