import Base

/// Counts what is done for owners and users, so that care can stand back.
final class ForegroundGauge: Sendable {
  private struct State {
    var running = 0
    var begun: UInt64 = 0
  }
  private let state = Locked(State())

  func run<Value>(_ body: () async throws -> Value) async throws -> Value {
    state.withLock { state in
      state.running += 1
      state.begun += 1
    }
    defer { state.withLock { $0.running -= 1 } }
    return try await body()
  }

  /// Calls that began so far, and whether some are running.
  var now: (begun: UInt64, isBusy: Bool) { state.withLock { ($0.begun, $0.running > 0) } }
}

/// Holds care to its rate, and to its part of the time while others are served.
final class CarePace: Sendable {
  private let configuration: CareConfiguration
  private let foreground: ForegroundGauge
  private let clock: any Clock
  /// When the bytes written so far are paid for at the configured rate.
  let paidUntil = Locked<UInt64>(0)

  init(
    _ configuration: CareConfiguration, foreground: ForegroundGauge,
    clock: any Clock = SystemClock()
  ) {
    self.configuration = configuration
    self.foreground = foreground
    self.clock = clock
  }

  /// A piece of work: waits until what was written before has been paid for, and rests behind it where somebody else was
  /// served meanwhile.
  ///
  /// - Parameter rests: false for what cannot wait.
  /// - Parameter body: returns its result and the bytes that it wrote.
  func work<Value>(rests: Bool = true, _ body: () async -> (Value, bytes: UInt64)) async -> Value {
    await sleep(until: paidUntil.withLock { $0 })
    let before = foreground.now
    let began = clock.monotonicNanoseconds()
    let (value, bytes) = await body()
    let ended = clock.monotonicNanoseconds()
    pay(bytes, at: ended)
    let after = foreground.now
    let isBusy = before.isBusy || after.isBusy || after.begun != before.begun
    if rests, isBusy { await sleep(until: ended + rest(after: ended - min(ended, began))) }
    return value
  }

  /// Notes bytes that were written.
  func pay(_ bytes: UInt64, at now: UInt64) {
    guard configuration.bytesPerSecond > 0 else { return }
    let cost = UInt64(min(Double(bytes) * 1e9 / Double(configuration.bytesPerSecond), 3600e9))
    paidUntil.withLock { $0 = max($0, now) + cost }
  }

  /// Nanoseconds without work, so that work has its share of the time.
  func rest(after worked: UInt64) -> UInt64 {
    UInt64(min(Double(worked) * (1 / configuration.shareWhenBusy - 1), 600e9))
  }

  private func sleep(until time: UInt64) async {
    let now = clock.monotonicNanoseconds()
    if time > now { try? await Task.sleep(for: .nanoseconds(Int64(time - now))) }
  }
}
