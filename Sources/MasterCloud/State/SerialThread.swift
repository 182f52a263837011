import Base
import Glibc

/// A serial executor on a thread of its own, for an actor whose work may block on a file, and for tasks that do little but
/// call it: they need no other thread.
final class SerialThread: SerialExecutor, TaskExecutor, @unchecked Sendable {
  private struct State {
    var jobs: [UnownedJob] = []
    var isStopping = false
  }

  private let state = Locked(State())
  private let available = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  init() {
    sem_init(available, 0, 0)
    // The thread keeps this object until stop().
    let failure = startDetachedThread { self.run() }
    precondition(failure == 0, "no thread: \(failure)")
  }

  deinit {
    sem_destroy(available)
    available.deallocate()
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let unowned = UnownedJob(job)
    state.withLock { $0.jobs.append(unowned) }
    sem_post(available)
  }

  func asUnownedSerialExecutor() -> UnownedSerialExecutor {
    UnownedSerialExecutor(ordinary: self)
  }

  func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }

  /// Ends the thread once its queue is empty.
  func stop() {
    state.withLock { $0.isStopping = true }
    sem_post(available)
  }

  private func run() {
    while true {
      while sem_wait(available) != 0 {}
      let (jobs, isStopping) = state.withLock { state in
        defer { state.jobs.removeAll(keepingCapacity: true) }
        return (state.jobs, state.isStopping)
      }
      for job in jobs {
        job.runSynchronously(
          isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
      }
      if isStopping && jobs.isEmpty { return }
    }
  }
}
