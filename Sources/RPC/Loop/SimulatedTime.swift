import Base

/// Time that passes only when nothing is left to do: a simulation's clock, its dice and the runner of its loops.
///
/// Everything of a simulation runs on the thread that made it and calls ``run(until:limitNanoseconds:)``, in an
/// order that depends on nothing but the program and the dice. Tasks take part that prefer one of the loops
/// (`Task(executorPreference:)`); what waits for the machine's clock or runs elsewhere does not belong in one.
public final class SimulatedTime: Clock, @unchecked Sendable {
  /// Starts at a second, so that "long ago" can be expressed.
  public private(set) var nowNanoseconds: UInt64 = 1_000_000_000
  private var loops: [EventLoop] = []
  /// The loop whose work runs at this moment.
  private(set) var current: EventLoop?
  /// The loop that the simulation's thread counts as between two runs: for who drives one loop by hand.
  var ambient: EventLoop?
  private var timers = TimerQueue()
  private var dice: any RandomNumberGenerator

  /// So many rounds at one moment are no work but a circle.
  private static let mostRounds = 1_000_000

  /// - Parameter dice: a generator of a known seed, from which all chance of the simulation comes.
  public init(dice: some RandomNumberGenerator) { self.dice = dice }

  public func monotonicNanoseconds() -> UInt64 { nowNanoseconds }
  /// The simulation begins in November 2023.
  public func wallMilliseconds() -> UInt64 { 1_700_000_000_000 + nowNanoseconds / 1_000_000 }

  public func random(in range: ClosedRange<UInt64>) -> UInt64 { .random(in: range, using: &dice) }
  func jitter(in range: ClosedRange<Double>) -> Double { .random(in: range, using: &dice) }

  /// Loops of this simulation; the machine's threads have no part in them.
  public func makeLoops(count: Int) -> EventLoopGroup {
    EventLoopGroup(loops: (0..<count).map { _ in EventLoop(simulation: self) })
  }

  func adopt(_ loop: EventLoop) { loops.append(loop) }

  /// Runs on no loop, when nothing else is to be done before.
  public func schedule(atNanoseconds moment: UInt64, _ action: @escaping () -> Void) {
    _ = timers.insert(deadline: moment, action)
  }

  public func schedule(afterNanoseconds delay: UInt64, _ action: @escaping () -> Void) {
    schedule(atNanoseconds: nowNanoseconds + delay, action)
  }

  /// Returns when so much simulated time has passed, or at once with CancellationError.
  public func sleep(nanoseconds: UInt64) async throws {
    let sleeper = Sleeper()
    await withTaskCancellationHandler {
      await withUnsafeContinuation { (waiting: UnsafeContinuation<Void, Never>) in
        sleeper.waiting = waiting
        if Task.isCancelled { sleeper.wake() }
        schedule(afterNanoseconds: nanoseconds) { sleeper.wake() }
      }
    } onCancel: {
      sleeper.wake()
    }
    try Task.checkCancellation()
  }

  /// Confined to the simulation's thread.
  private final class Sleeper: @unchecked Sendable {
    var waiting: UnsafeContinuation<Void, Never>?

    func wake() {
      waiting?.resume()
      waiting = nil
    }
  }

  /// Runs until `isDone`, which is asked when all work of a moment is done.
  ///
  /// False where nothing is left to happen up to the limit, a moment on this clock.
  @discardableResult
  public func run(
    until isDone: () -> Bool = { false }, limitNanoseconds: UInt64 = .max
  ) -> Bool {
    precondition(current == nil, "run() inside run()")
    while true {
      finishMoment()
      if isDone() { return true }
      let next = loops.reduce(timers.earliest ?? .max) { min($0, $1.earliestTimer ?? .max) }
      guard next < .max, next <= limitNanoseconds else { return false }
      nowNanoseconds = max(nowNanoseconds, next)
    }
  }

  /// Lets so much time pass.
  public func advance(nanoseconds: UInt64) {
    let target = nowNanoseconds + nanoseconds
    run(limitNanoseconds: target)
    nowNanoseconds = target
  }

  /// Forgets the loops and all that waits in them: what is left of a simulation refers to itself in circles.
  public func end() {
    loops = []
    ambient = nil
    timers = TimerQueue()
  }

  /// All that can happen without time passing. Rounds may give each other work.
  private func finishMoment() {
    for _ in 0..<Self.mostRounds {
      let due = timers.round(at: nowNanoseconds)
      while let action = timers.takeNext(of: due) { action() }
      var busy = loops.filter { $0.hasWork || ($0.earliestTimer ?? .max) <= nowNanoseconds }
      // Loops of real threads are in no order either.
      if busy.count > 1 { busy.shuffle(using: &dice) }
      for loop in busy {
        current = loop
        loop.runRound()
        loop.runDueTimers()
        current = nil
      }
      if busy.isEmpty && (timers.earliest ?? .max) > nowNanoseconds { return }
    }
    preconditionFailure("no time passes: something works in a circle")
  }
}
