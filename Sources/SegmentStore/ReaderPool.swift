import Base

/// A few threads for blocking reads, with a bounded queue of work before them.
final class ReaderPool: Sendable {
  private struct State {
    var jobs: [@Sendable () -> Void] = []
    var isClosing = false
    var runningThreads = 0
    var endWaiters: [CheckedContinuation<Void, Never>] = []
  }

  private let state = Monitor(State())
  private let maximumWaitingJobs: Int

  init(threads: Int, maximumWaitingJobs: Int) throws(SegmentStoreError) {
    self.maximumWaitingJobs = maximumWaitingJobs
    let state = state
    for _ in 0..<threads {
      state.withLock { $0.runningThreads += 1 }
      do throws(SegmentStoreError) { try startThread { Self.run(state) } } catch {
        state.withLockSignalling {
          $0.runningThreads -= 1
          $0.isClosing = true
        }
        throw error
      }
    }
  }

  var waitingJobs: Int { state.withLock { $0.jobs.count } }

  /// Returns why the job was not taken.
  func submit(_ job: @escaping @Sendable () -> Void) -> SegmentStoreError? {
    state.withLockSignalling { state in
      if state.isClosing { return .closed }
      if state.jobs.count >= maximumWaitingJobs { return .overloaded }
      state.jobs.append(job)
      return nil
    }
  }

  /// Jobs already taken are still done.
  func close() { state.withLockSignalling { $0.isClosing = true } }

  func waitForEnd() async {
    await withCheckedContinuation { continuation in
      let hasEnded = state.withLock { state in
        if state.runningThreads > 0 { state.endWaiters.append(continuation) }
        return state.runningThreads == 0
      }
      if hasEnded { continuation.resume() }
    }
  }

  private static func run(_ state: Monitor<State>) {
    while true {
      let job: (@Sendable () -> Void)? = state.wait { state in
        if !state.jobs.isEmpty { return .some(state.jobs.removeFirst()) }
        return state.isClosing ? .some(nil) : nil
      }
      guard let job else { break }
      job()
    }
    let waiters: [CheckedContinuation<Void, Never>] = state.withLock { state in
      state.runningThreads -= 1
      guard state.runningThreads == 0 else { return [] }
      defer { state.endWaiters = [] }
      return state.endWaiters
    }
    for waiter in waiters { waiter.resume() }
  }
}
