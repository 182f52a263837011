import Base
import CWire
import Glibc
import Synchronization

/// Something that waits for a descriptor.
protocol DescriptorHandler: AnyObject {
  /// Loop thread: epoll's events for the descriptor.
  func descriptorIsReady(_ events: UInt32)
  /// Loop thread: nothing will ever be ready again. The descriptor is closed here.
  func loopEnds()
}

/// Something that gathers output during a round of the loop and lets it go once at the round's end.
protocol RoundFlusher: AnyObject {
  func flushRound()
}

/// Something that holds memory while it is busy and lets go of it when it is not.
protocol Warmable: AnyObject {
  /// Called a few times a second; false where it has cooled down.
  func staysWarm() -> Bool
}

/// One thread with one epoll: sockets, timers and tasks, all on the same thread.
///
/// It is a task executor, so a call's handler runs where its connection lives and nothing hops.
/// What is confined to a loop is a class with `@unchecked Sendable` whose methods check `inLoop`.
///
/// A loop made with ``init(simulation:)`` has no thread: whoever simulates runs it, on simulated time.
public final class EventLoop: TaskExecutor, @unchecked Sendable {
  private struct Remote {
    var jobs: [UnownedJob] = []
    var actions: [@Sendable () -> Void] = []
    var isAsleep = false
    var isStopping = false
    /// The thread has ended: what comes now is dropped.
    var isOver = false
  }

  private let epoll: Int32
  private let wakeup: Int32
  private let simulation: SimulatedTime?
  private var threadID: pthread_t = 0
  private let remote = Locked(Remote())
  /// Set with the lock held; read without it, so that a round with nothing new takes no lock.
  private let remoteIsWaiting = Atomic(false)
  let handover = Handover()
  // The rest belongs to the loop's thread.
  private var handlers: [(any DescriptorHandler)?] = []
  private var localJobs: [UnownedJob] = []
  private var runningJobs: [UnownedJob] = []
  private var takenActions: [@Sendable () -> Void] = []
  private var atRoundEnd: [() -> Void] = []
  private var flushers: [any RoundFlusher] = []
  private var runningFlushers: [any RoundFlusher] = []
  private var timers = TimerQueue()
  private var warm: [any Warmable] = []
  private var waiting: WaitPolicy
  /// Encrypted bytes on their way to the sockets of this loop, and plain ones on their way in.
  let buffers = LoopBuffers()

  private static let wakeupMark = UInt64.max

  /// - Parameter busyPollMicroseconds: see ``EventLoopGroup``.
  public init(name: String, busyPollMicroseconds: UInt64 = 0) {
    sfm_ignore_sigpipe()
    epoll = sfm_epoll_create()
    wakeup = sfm_eventfd_create()
    simulation = nil
    waiting = WaitPolicy(busyPollNanoseconds: busyPollMicroseconds * 1000)
    precondition(epoll >= 0 && wakeup >= 0, "no descriptors for an event loop: \(epoll), \(wakeup)")
    let added = sfm_epoll_add(epoll, wakeup, EPOLLIN.rawValue, Self.wakeupMark)
    precondition(added == 0, "epoll refused the wake-up descriptor: \(added)")
    start(name)
  }

  /// A loop without a thread or sockets; ``SimulatedTime`` runs it.
  init(simulation: SimulatedTime) {
    epoll = -1
    wakeup = -1
    self.simulation = simulation
    waiting = WaitPolicy(busyPollNanoseconds: 0)
    threadID = pthread_self()
    simulation.adopt(self)
  }

  deinit {
    if epoll >= 0 { sfm_close(epoll) }
    if wakeup >= 0 { sfm_close(wakeup) }
  }

  private func start(_ name: String) {
    // The thread keeps the loop alive until stop().
    let started = OneTimeSignal()
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

  public var inLoop: Bool {
    guard pthread_equal(pthread_self(), threadID) != 0 else { return false }
    // All loops of a simulation share a thread.
    return simulation.map { ($0.current ?? $0.ambient) === self } ?? true
  }

  /// Nanoseconds that only grow: the machine's monotonic clock, or the simulation's.
  public func nowNanoseconds() -> UInt64 {
    simulation?.nowNanoseconds ?? SystemClock().monotonicNanoseconds()
  }

  /// Chance, so that many who began together do not go on together. A simulation's seed decides its own.
  func jitter(in range: ClosedRange<Double>) -> Double {
    simulation?.jitter(in: range) ?? Double.random(in: range)
  }

  /// Ends the thread after what it is doing. Sockets that their owners have not closed before are closed, and
  /// whoever waits for them hears so. What is asked of it afterwards never happens.
  public func stop() {
    guard simulation == nil else { return }
    remote.withLock { $0.isStopping = true }
    remoteIsWaiting.store(true, ordering: .releasing)
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

  public func asUnownedTaskExecutor() -> UnownedTaskExecutor {
    UnownedTaskExecutor(ordinary: self)
  }

  func checkInLoop() { precondition(inLoop, "not on the event loop's thread") }

  // MARK: work

  /// Runs on the loop's thread: at once where this is it.
  public func execute(_ action: @escaping @Sendable () -> Void) {
    if inLoop {
      action()
    } else {
      wakeIfNeeded { if !$0.isOver { $0.actions.append(action) } }
    }
  }

  /// Loop thread only: runs once when this round of events and jobs is done.
  func executeAtRoundEnd(_ action: @escaping () -> Void) {
    checkInLoop()
    atRoundEnd.append(action)
  }

  /// Loop thread only: one write a round for whoever has output. Each asks once a round.
  func flushAtRoundEnd(_ flusher: any RoundFlusher) { flushers.append(flusher) }

  private static let warmthMilliseconds: UInt64 = 250

  /// Loop thread only: `one` is asked from now on whether it is still busy.
  func keepWarm(_ one: any Warmable) {
    if warm.isEmpty { scheduleCooling() }
    warm.append(one)
  }

  private func scheduleCooling() {
    _ = schedule(afterMilliseconds: Self.warmthMilliseconds) { [weak self] in
      guard let self else { return }
      warm.removeAll { !$0.staysWarm() }
      if !warm.isEmpty { scheduleCooling() }
    }
  }

  /// Loop thread only. The action does not run once the timer is cancelled.
  func schedule(atNanoseconds deadline: UInt64, _ action: @escaping () -> Void) -> TimerID {
    checkInLoop()
    return timers.insert(deadline: deadline, action)
  }

  func schedule(afterMilliseconds delay: UInt64, _ action: @escaping () -> Void) -> TimerID {
    schedule(atNanoseconds: nowNanoseconds() &+ delay &* 1_000_000, action)
  }

  func cancel(_ timer: TimerID?) {
    checkInLoop()
    if let timer { timers.cancel(timer) }
  }

  private func wakeIfNeeded(_ change: (inout Remote) -> Void) {
    let wake = remote.withLock { remote in
      change(&remote)
      defer { remote.isAsleep = false }
      return remote.isAsleep
    }
    remoteIsWaiting.store(true, ordering: .releasing)
    if wake && wakeup >= 0 { sfm_eventfd_signal(wakeup) }
  }

  // MARK: descriptors, loop thread only

  func add(_ descriptor: Int32, events: UInt32, _ handler: any DescriptorHandler) -> Bool {
    checkInLoop()
    while handlers.count <= Int(descriptor) { handlers.append(nil) }
    handlers[Int(descriptor)] = handler
    let added = sfm_epoll_add(epoll, descriptor, events, UInt64(UInt32(bitPattern: descriptor)))
    if added != 0 { handlers[Int(descriptor)] = nil }
    return added == 0
  }

  func modify(_ descriptor: Int32, events: UInt32) {
    let changed = sfm_epoll_modify(
      epoll, descriptor, events, UInt64(UInt32(bitPattern: descriptor)))
    precondition(changed == 0, "epoll_ctl(MOD, \(descriptor)): \(changed)")
  }

  func remove(_ descriptor: Int32) {
    checkInLoop()
    handlers[Int(descriptor)] = nil
    _ = sfm_epoll_remove(epoll, descriptor)
  }

  // MARK: the thread

  private func run() {
    let capacity = 256
    let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity)
    defer { events.deallocate() }
    while runRound() {
      let count = wait(events, Int32(capacity))
      for index in 0..<count {
        let mark = sfm_epoll_data(events + index)
        if mark == Self.wakeupMark {
          sfm_eventfd_drain(wakeup)
        } else if let handler = handlers[Int(mark)] {
          // A handler earlier in this round may have removed this one.
          handler.descriptorIsReady(events[index].events)
        }
      }
      runDueTimers()
    }
    end()
  }

  /// Sockets hold on to their loop and it to them: without this both would stay for ever.
  private func end() {
    for _ in 0..<Self.lastRounds {
      for handler in handlers { handler?.loopEnds() }
      let actions = atRoundEnd
      atRoundEnd = []
      for action in actions { action() }
      flushers = []
      if localJobs.isEmpty { break }
      runLocalJobs()
    }
    (handlers, warm, atRoundEnd, flushers) = ([], [], [], [])
    timers = TimerQueue()
    // Released without the lock: what goes with them may come back here.
    let dropped = remote.withLock { remote in
      remote.isOver = true
      defer { remote.actions = [] }
      return remote.actions
    }
    _ = dropped
  }

  /// A task that tries again at once, for ever, does not keep the loop.
  private static let lastRounds = 1000

  /// Everything that waits on this side; then what it wrote leaves. False where the loop is to end.
  @discardableResult
  func runRound() -> Bool {
    if !runJobs() { return false }
    while !atRoundEnd.isEmpty {
      let actions = atRoundEnd
      atRoundEnd.removeAll(keepingCapacity: true)
      for action in actions { action() }
    }
    swap(&flushers, &runningFlushers)
    for flusher in runningFlushers { flusher.flushRound() }
    runningFlushers.removeAll(keepingCapacity: true)
    return true
  }

  func runDueTimers() {
    guard let earliest = timers.earliest else { return }
    let now = nowNanoseconds()
    guard earliest <= now else { return }
    let round = timers.round(at: now)
    // One at a time: an action may cancel the next.
    while let action = timers.takeNext(of: round) { action() }
  }

  /// When the next timer is due; nil where none waits.
  var earliestTimer: UInt64? { timers.earliest }

  /// True where another thread, or this one, left work that has not run.
  var hasWork: Bool {
    // What a flush asked to be flushed comes after a look at the sockets, or a fast reader would hold the loop.
    !localJobs.isEmpty || !flushers.isEmpty || !atRoundEnd.isEmpty
      || remoteIsWaiting.load(ordering: .acquiring)
  }

  private func wait(_ events: UnsafeMutablePointer<epoll_event>, _ capacity: Int32) -> Int {
    if hasWork { return poll(events, capacity, 0) }
    var now = SystemClock().monotonicNanoseconds()
    let began = now
    let spinsUntil = waiting.spinsUntil(now)
    while now < spinsUntil {
      let count = poll(events, capacity, 0)
      now = SystemClock().monotonicNanoseconds()
      if count > 0 || hasWork || (timers.earliest ?? .max) <= now {
        waiting.gapEnded(after: now - began)
        return count
      }
    }
    let mayBlock = remote.withLock { remote in
      remote.isAsleep = remote.jobs.isEmpty && remote.actions.isEmpty && !remote.isStopping
      return remote.isAsleep
    }
    guard mayBlock else { return poll(events, capacity, 0) }
    let count = poll(events, capacity, timeoutMilliseconds(now))
    remote.withLock { $0.isAsleep = false }
    waiting.gapEnded(after: SystemClock().monotonicNanoseconds() - began)
    return count
  }

  private func poll(
    _ events: UnsafeMutablePointer<epoll_event>, _ capacity: Int32, _ timeout: Int32
  ) -> Int {
    let count = sfm_epoll_wait(epoll, events, capacity, timeout)
    precondition(count >= 0, "epoll_wait: \(count)")
    return Int(count)
  }

  private func timeoutMilliseconds(_ now: UInt64) -> Int32 {
    guard let next = timers.earliest else { return -1 }
    if next <= now { return 0 }
    // Rounded up: waking early would only spin.
    return Int32(clamping: (next - now + 999_999) / 1_000_000)
  }

  /// Loop thread only, between two reads: a handler that waited for what came may take the rest directly.
  func runReadyJobs() {
    while !localJobs.isEmpty && runningJobs.isEmpty { runLocalJobs() }
  }

  private func runLocalJobs() {
    // Two arrays in turn: a copy would be a new allocation each round.
    swap(&localJobs, &runningJobs)
    let executor = asUnownedTaskExecutor()
    for job in runningJobs { job.runSynchronously(on: executor) }
    runningJobs.removeAll(keepingCapacity: true)
  }

  /// False where the loop is to end.
  private func runJobs() -> Bool {
    while true {
      if remoteIsWaiting.exchange(false, ordering: .acquiringAndReleasing) {
        let isStopping = remote.withLock { remote in
          localJobs.append(contentsOf: remote.jobs)
          remote.jobs.removeAll(keepingCapacity: true)
          swap(&takenActions, &remote.actions)
          return remote.isStopping
        }
        if isStopping && localJobs.isEmpty && takenActions.isEmpty { return false }
        if isStopping { remoteIsWaiting.store(true, ordering: .releasing) }
        for action in takenActions { action() }
        takenActions.removeAll(keepingCapacity: true)
      }
      if localJobs.isEmpty { return true }
      runLocalJobs()
    }
  }
}
