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
  /// When the bytes admitted so far will have been written at the configured rate.
  private let paidUntil = Locked<UInt64>(0)

  init(
    _ configuration: CareConfiguration, foreground: ForegroundGauge,
    clock: any Clock = SystemClock()
  ) {
    self.configuration = configuration
    self.foreground = foreground
    self.clock = clock
  }

  /// A piece of work that writes so many bytes: waits for its turn first, and rests behind it where somebody else was served meanwhile.
  func work<Value>(bytes: UInt64, _ body: () async throws -> Value) async rethrows -> Value {
    await waitForTurn(bytes)
    let before = foreground.now
    let began = clock.monotonicNanoseconds()
    let value = try await body()
    let after = foreground.now
    if before.isBusy || after.isBusy || after.begun != before.begun {
      let taken = Double(clock.monotonicNanoseconds() - began)
      let rest = taken * (1 / configuration.shareWhenBusy - 1)
      try? await Task.sleep(for: .nanoseconds(Int64(min(rest, 10e9))))
    }
    return value
  }

  private func waitForTurn(_ bytes: UInt64) async {
    guard configuration.bytesPerSecond > 0 else { return }
    let now = clock.monotonicNanoseconds()
    let cost = UInt64(Double(bytes) * 1e9 / Double(configuration.bytesPerSecond))
    let start = paidUntil.withLock { paidUntil in
      let start = max(now, paidUntil)
      paidUntil = start + cost
      return start
    }
    if start > now { try? await Task.sleep(for: .nanoseconds(Int64(start - now))) }
  }
}
