import Base

/// Time that passes only when nothing is left to do: a simulation's clock and the runner of its loops.
///
/// Everything of a simulation runs on the thread that calls ``run(until:)``, in an order that depends on
/// nothing but the program and its seed. Tasks take part that prefer one of the loops.
final class SimulatedTime: @unchecked Sendable {
  /// Starts at a second, so that "long ago" can be expressed.
  private(set) var nowNanoseconds: UInt64 = 1_000_000_000
  private var loops: [EventLoop] = []

  func adopt(_ loop: EventLoop) { loops.append(loop) }

  /// Runs until `isDone`, moving time from timer to timer. False where nothing is left to happen before.
  func run(until isDone: () -> Bool, limitNanoseconds: UInt64 = .max) -> Bool {
    while true {
      // Rounds may give each other work.
      var worked = true
      while worked {
        worked = false
        for loop in loops {
          loop.runRound()
          loop.runDueTimers()
        }
        for loop in loops where loop.hasWork || (loop.earliestTimer ?? .max) <= nowNanoseconds {
          worked = true
        }
      }
      if isDone() { return true }
      guard let next = loops.compactMap(\.earliestTimer).min(), next <= limitNanoseconds else {
        return false
      }
      nowNanoseconds = max(nowNanoseconds, next)
      for loop in loops { loop.runDueTimers() }
    }
  }

  /// Lets `nanoseconds` pass.
  func advance(_ nanoseconds: UInt64) {
    let target = nowNanoseconds + nanoseconds
    _ = run(until: { false }, limitNanoseconds: target)
    nowNanoseconds = target
    _ = run(until: { true })
  }
}
