import Base
import CWire
import Glibc

/// One thread with one epoll: sockets, timers and tasks, all on the same thread.
///
/// It is a task executor, so a call's handler runs where its connection lives and nothing hops.
/// What is confined to a loop is a class with `@unchecked Sendable` whose methods check `inLoop`.
public final class EventLoop: SerialExecutor, TaskExecutor, @unchecked Sendable {
  private struct Remote {
    var jobs: [UnownedJob] = []
    var actions: [@Sendable () -> Void] = []
    var isAwake = false
    var isStopping = false
  }

  private let epoll: Int32
  private let wakeup: Int32
  private let thread = Locked<pthread_t>(0)
  private var threadID: pthread_t = 0
  private let remote = Locked(Remote())
  // The rest belongs to the loop's thread.
  private var handlers: [Int32: (UInt32) -> Void] = [:]
  private var localJobs: [UnownedJob] = []
  private var atTickEnd: [() -> Void] = []
  private var timers = TimerQueue()

  private static let wakeupMark = UInt64.max

  public init(name: String) {
    sfm_ignore_sigpipe()
    epoll = sfm_epoll_create()
    wakeup = sfm_eventfd_create()
    precondition(epoll >= 0 && wakeup >= 0, "no descriptors for an event loop: \(epoll), \(wakeup)")
    let added = sfm_epoll_add(epoll, wakeup, EPOLLIN.rawValue, Self.wakeupMark)
    precondition(added == 0, "epoll refused the wake-up descriptor: \(added)")
    start(name)
  }

  deinit {
    sfm_close(epoll)
    sfm_close(wakeup)
  }

  private func start(_ name: String) {
    // The thread keeps the loop alive until stop().
    let started = DispatchlessSignal()
    let box = Unmanaged.passRetained(ThreadStart(loop: self, name: name, started: started))
    var thread = pthread_t()
    let failure = pthread_create(
      &thread, nil,
      { pointer in
        let start = Unmanaged<ThreadStart>.fromOpaque(pointer!).takeRetainedValue()
        sfm_thread_name(start.name)
        start.loop.threadID = pthread_self()
        start.started.signal()
        start.loop.run()
        return nil
      }, box.toOpaque())
    precondition(failure == 0, "no thread for an event loop: \(failure)")
    pthread_detach(thread)
    started.wait()
  }

  public var inLoop: Bool { pthread_equal(pthread_self(), threadID) != 0 }

  /// Ends the thread after what it is doing; sockets are closed by their owners before.
  public func stop() {
    remote.withLock { $0.isStopping = true }
    sfm_eventfd_signal(wakeup)
  }

  // MARK: executor

  public func enqueue(_ job: consuming ExecutorJob) {
    let unowned = UnownedJob(job)
    if inLoop {
      localJobs.append(unowned)
    } else {
      wakeIfNeeded { $0.jobs.append(unowned) }
    }
  }

  public func asUnownedSerialExecutor() -> UnownedSerialExecutor {
    UnownedSerialExecutor(ordinary: self)
  }

  public func asUnownedTaskExecutor() -> UnownedTaskExecutor {
    UnownedTaskExecutor(ordinary: self)
  }

  public func checkIsolated() { precondition(inLoop, "not on the event loop's thread") }
  public func isIsolatingCurrentContext() -> Bool? { inLoop }

  // MARK: work

  /// Runs on the loop's thread: at once where this is it.
  public func execute(_ action: @escaping @Sendable () -> Void) {
    if inLoop {
      action()
    } else {
      wakeIfNeeded { $0.actions.append(action) }
    }
  }

  /// Loop thread only: runs once when this round of events and jobs is done, for one write a round.
  func executeAtTickEnd(_ action: @escaping () -> Void) {
    checkIsolated()
    atTickEnd.append(action)
  }

  /// Loop thread only. The action does not run once the timer is cancelled.
  func schedule(atNanoseconds deadline: UInt64, _ action: @escaping () -> Void) -> TimerID {
    checkIsolated()
    return timers.insert(deadline: deadline, action)
  }

  func schedule(afterMilliseconds delay: UInt64, _ action: @escaping () -> Void) -> TimerID {
    schedule(
      atNanoseconds: SystemClock().monotonicNanoseconds() &+ delay &* 1_000_000, action)
  }

  func cancel(_ timer: TimerID?) {
    checkIsolated()
    if let timer { timers.cancel(timer) }
  }

  private func wakeIfNeeded(_ change: (inout Remote) -> Void) {
    let wake = remote.withLock { remote in
      change(&remote)
      defer { remote.isAwake = true }
      return !remote.isAwake
    }
    if wake { sfm_eventfd_signal(wakeup) }
  }

  // MARK: descriptors, loop thread only

  func add(_ descriptor: Int32, events: UInt32, _ handler: @escaping (UInt32) -> Void) -> Bool {
    checkIsolated()
    handlers[descriptor] = handler
    let added = sfm_epoll_add(epoll, descriptor, events, UInt64(UInt32(bitPattern: descriptor)))
    if added != 0 { handlers[descriptor] = nil }
    return added == 0
  }

  func modify(_ descriptor: Int32, events: UInt32) {
    let changed = sfm_epoll_modify(
      epoll, descriptor, events, UInt64(UInt32(bitPattern: descriptor)))
    precondition(changed == 0, "epoll_ctl(MOD, \(descriptor)): \(changed)")
  }

  func remove(_ descriptor: Int32) {
    checkIsolated()
    handlers[descriptor] = nil
    _ = sfm_epoll_remove(epoll, descriptor)
  }

  // MARK: the thread

  private func run() {
    let capacity = 256
    let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity)
    defer { events.deallocate() }
    while runJobs() {
      while !atTickEnd.isEmpty {
        let actions = atTickEnd
        atTickEnd.removeAll(keepingCapacity: true)
        for action in actions { action() }
      }
      let count = sfm_epoll_wait(epoll, events, Int32(capacity), timeoutMilliseconds())
      precondition(count >= 0, "epoll_wait: \(count)")
      for index in 0..<Int(count) {
        let mark = sfm_epoll_data(events + index)
        if mark == Self.wakeupMark {
          sfm_eventfd_drain(wakeup)
        } else {
          // A handler earlier in this round may have removed this one.
          handlers[Int32(truncatingIfNeeded: mark)]?(events[index].events)
        }
      }
      for action in timers.due(now: SystemClock().monotonicNanoseconds()) { action() }
    }
  }

  private func timeoutMilliseconds() -> Int32 {
    if !localJobs.isEmpty { return 0 }
    guard let next = timers.earliest else { return -1 }
    let now = SystemClock().monotonicNanoseconds()
    if next <= now { return 0 }
    // Rounded up: waking early would only spin.
    return Int32(clamping: (next - now + 999_999) / 1_000_000)
  }

  /// False where the loop is to end.
  private func runJobs() -> Bool {
    while true {
      var actions: [@Sendable () -> Void] = []
      let isStopping = remote.withLock { remote in
        localJobs.append(contentsOf: remote.jobs)
        remote.jobs.removeAll(keepingCapacity: true)
        swap(&actions, &remote.actions)
        remote.isAwake = false
        return remote.isStopping
      }
      if isStopping && localJobs.isEmpty && actions.isEmpty { return false }
      if localJobs.isEmpty && actions.isEmpty { return true }
      for action in actions { action() }
      let jobs = localJobs
      localJobs.removeAll(keepingCapacity: true)
      for job in jobs {
        job.runSynchronously(
          isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
      }
    }
  }
}

private final class ThreadStart: Sendable {
  let loop: EventLoop
  let name: String
  let started: DispatchlessSignal

  init(loop: EventLoop, name: String, started: DispatchlessSignal) {
    self.loop = loop
    self.name = name
    self.started = started
  }
}

/// A one-time signal between two threads.
private final class DispatchlessSignal: @unchecked Sendable {
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

/// Several loops, used in turn.
public final class EventLoopGroup: Sendable {
  public let loops: [EventLoop]
  private let next = Locked(0)

  /// - Parameter count: threads; by default one for each processor, at most four.
  public init(count: Int = min(4, max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))) {
    loops = (0..<count).map { EventLoop(name: "loop-\($0)") }
  }

  deinit { for loop in loops { loop.stop() } }

  public func nextLoop() -> EventLoop {
    next.withLock { index in
      index = (index + 1) % loops.count
      return loops[index]
    }
  }
}
