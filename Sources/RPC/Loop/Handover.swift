import Synchronization

/// What a loop's thread gives to a task that runs elsewhere.
///
/// Swift's runtime orders the two, but where the answer comes before the task has begun to wait it does so in a
/// way that the thread sanitizer does not see. These two do, and on the machines that matter cost one move each.
struct Handover: ~Copyable {
  private let mark = Atomic(false)

  func give() { mark.store(true, ordering: .releasing) }
  func take() { _ = mark.load(ordering: .acquiring) }
}

extension EventLoop {
  /// Loop thread: answers a task that waits, and calls ``Handover/take()`` when it goes on.
  func resume<Value: Sendable>(
    _ waiting: UnsafeContinuation<Value, Never>, returning value: Value
  ) {
    handover.give()
    waiting.resume(returning: value)
  }
}
