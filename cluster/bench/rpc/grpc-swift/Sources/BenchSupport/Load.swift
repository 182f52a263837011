import Glibc

/// Monotonic time in nanoseconds.
public func monotonicNanoseconds() -> UInt64 { nanoseconds(CLOCK_MONOTONIC) }

/// Processor time of all threads of this process, in nanoseconds.
public func processorNanoseconds() -> UInt64 { nanoseconds(CLOCK_PROCESS_CPUTIME_ID) }

private func nanoseconds(_ clock: clockid_t) -> UInt64 {
  var time = timespec()
  clock_gettime(clock, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// The arguments of `load`: `concurrency` callers on `connections` connections, each of which sends
/// its next call when its last has returned.
public struct Load: Sendable {
  public let port: Int
  public let certificates: String
  public let payloadBytes: Int
  public let concurrency: Int
  public let connections: Int
  public let seconds: Double
  public let warmup: Double

  public init(_ options: inout Options) {
    port = options.count("port", in: 1...65535)
    certificates = options.text("certs")
    payloadBytes = options.count("payload", in: 0...(16 << 20) - 1024)
    concurrency = options.count("concurrency", in: 1...10_000)
    connections = options.count("connections", in: 1...concurrency, default: 1)
    seconds = options.seconds("seconds")
    warmup = options.seconds("warmup")
  }

  /// The span of time in which calls count, from now on.
  public func window() -> Window {
    let from = monotonicNanoseconds() + UInt64(warmup * 1e9)
    return Window(from: from, end: from + UInt64(seconds * 1e9))
  }

  /// Prints the one JSON line.
  ///
  /// - Parameters:
  ///   - latencies: of the counted calls, in nanoseconds.
  ///   - processorNanoseconds: this process's, warm-up included.
  public func report(latencies: [UInt64], errors: Int, processorNanoseconds: UInt64) {
    let sorted = latencies.sorted()
    func microseconds(_ quantile: Double) -> String {
      guard !sorted.isEmpty else { return "null" }
      let index = min(sorted.count - 1, Int(Double(sorted.count) * quantile))
      return decimal(Double(sorted[index]) / 1e3)
    }
    let rate = Double(sorted.count) / seconds
    let fields = [
      ("calls", "\(sorted.count)"), ("errors", "\(errors)"), ("seconds", decimal(seconds)),
      ("calls_per_s", decimal(rate)), ("MBps", decimal(rate * 2 * Double(payloadBytes) / 1e6)),
      ("p50_us", microseconds(0.5)), ("p90_us", microseconds(0.9)),
      ("p99_us", microseconds(0.99)), ("max_us", microseconds(1)),
      ("client_cpu_s", decimal(Double(processorNanoseconds) / 1e9)),
    ]
    announce("{" + fields.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}")
  }
}

/// When calls count, in monotonic nanoseconds: those that end between `from` and `end`.
public struct Window: Sendable {
  public let from: UInt64
  public let end: UInt64

  public func counts(_ time: UInt64) -> Bool { time >= from && time <= end }
}

/// Three digits after the point, without Foundation.
private func decimal(_ value: Double) -> String {
  let thousandths = UInt64((value * 1000).rounded())
  let fraction = String(thousandths % 1000)
  return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - fraction.count) + fraction
}
