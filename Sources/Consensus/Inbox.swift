import Base
import Glibc

/// What waits for one thread, which waits for it, or for a time.
final class Inbox<Element>: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var elements: [Element] = []
  private var isClosed = false
  /// Whoever waits does so for something that is sure to come: what can wait that long wakes nobody.
  private var isPatient = false
  private var isAsleep = false

  init() {
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
    condition = .allocate(capacity: 1)
    condition.initialize(to: pthread_cond_t())
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    // Waits must not depend on the wall clock, which may be set.
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// - Parameter canWait: for whatever else is on its way to one who takes patiently.
  /// - Returns: false once it is closed, or where so many wait already.
  @discardableResult
  func put(_ element: Element, unlessLongerThan limit: Int = .max, canWait: Bool = false) -> Bool {
    pthread_mutex_lock(mutex)
    let isTaken = !isClosed && elements.count < limit
    if isTaken { elements.append(element) }
    let wakes = isTaken && isAsleep && !(canWait && isPatient)
    // Whoever takes takes all: a later one needs no signal.
    if wakes { isAsleep = false }
    pthread_mutex_unlock(mutex)
    if wakes { pthread_cond_signal(condition) }
    return isTaken
  }

  /// Somebody waits, and nothing that came so far wakes them.
  var isAwaited: Bool {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return isAsleep
  }

  /// Takes nothing more, and gives back what was not taken.
  func close() -> [Element] {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    isClosed = true
    defer { elements = [] }
    return elements
  }

  /// All there is, as soon as there is any, or nothing after so long.
  ///
  /// - Parameter patiently: not for the sake of what can wait.
  func take(withinNanoseconds wait: UInt64, patiently: Bool) -> [Element] {
    let deadline = SystemClock().monotonicNanoseconds() + wait
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    var time = timespec(
      tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
    if elements.isEmpty {
      (isAsleep, isPatient) = (true, patiently)
      while isAsleep {
        if pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { break }
      }
      isAsleep = false
    }
    let taken = elements
    elements = []
    return taken
  }
}
