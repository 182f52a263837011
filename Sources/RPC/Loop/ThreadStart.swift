import Glibc

/// What a new loop's thread is given.
final class ThreadStart: Sendable {
  let loop: EventLoop
  let name: String
  let started: OneTimeSignal

  init(loop: EventLoop, name: String, started: OneTimeSignal) {
    self.loop = loop
    self.name = name
    self.started = started
  }
}

/// A one-time signal between two threads.
final class OneTimeSignal: @unchecked Sendable {
  private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  init() { sem_init(semaphore, 0, 0) }

  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }

  func signal() { sem_post(semaphore) }

  func wait() {
    while sem_wait(semaphore) != 0 {}
  }
}
