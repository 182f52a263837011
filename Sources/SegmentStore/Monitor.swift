import Base
import Glibc

/// State that several threads share, behind a mutex, with one condition to wait on.
/// The mutex is POSIX's because the thread sanitizer does not understand `Synchronization.Mutex`.
final class Monitor<State>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var state: State

  init(_ state: State) {
    self.state = state
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    condition = .allocate(capacity: 1)
    condition.initialize(to: pthread_cond_t())
    let mutexCode = pthread_mutex_init(mutex, nil)
    let conditionCode = pthread_cond_init(condition, nil)
    precondition(
      mutexCode == 0 && conditionCode == 0, "no mutex: \(mutexCode), condition: \(conditionCode)")
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  func withLock<Result, Failure: Error>(
    _ body: (inout State) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body(&state)
  }

  /// Changes the state and wakes every waiter.
  func withLockSignalling<Result>(_ body: (inout State) -> Result) -> Result {
    pthread_mutex_lock(mutex)
    let result = body(&state)
    pthread_mutex_unlock(mutex)
    // Whoever wakes up needs the mutex.
    pthread_cond_broadcast(condition)
    return result
  }

  /// Blocks the calling thread until `body` returns a value; `body` is asked again after each signal.
  func wait<Result>(for body: (inout State) -> Result?) -> Result {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = body(&state) { return result }
      pthread_cond_wait(condition, mutex)
    }
  }
}

func startThread(_ body: @escaping @Sendable () -> Void) throws(SegmentStoreError) {
  let code = startDetachedThread(body)
  if code != 0 { throw .threadUnavailable(code: code) }
}
