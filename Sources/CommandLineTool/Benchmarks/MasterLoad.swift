import Base
import Histogram
import Messages
import RPC

/// Closed-loop callers of the masters: each waits for an answer before it asks again.
struct MasterLoad: Sendable {
  /// What callers saw in a time.
  struct Figures: Sendable {
    /// In microseconds.
    var times = Histogram<UInt64>(highestTrackableValue: 3_600_000_000)
    var seconds = 0.0
    var failed = 0

    var callsPerSecond: Double { Double(times.totalCount) / max(1e-9, seconds) }
    func microseconds(_ percentile: Double) -> UInt64 { times.valueAtPercentile(percentile) }
  }

  /// One call; throws where it failed. Its numbers: the caller's, and the call's of that caller.
  typealias Call = @Sendable (_ caller: Int, _ number: UInt64) async throws -> Void

  private let executor: any TaskExecutor
  private let clock = SystemClock()

  /// - Parameter executor: that of the connection, so that no call has to change threads.
  init(executor: any TaskExecutor) { self.executor = executor }

  /// - Parameter warmUpSeconds: called in this time too, and not counted.
  func run(
    callers: Int, warmUpSeconds: Double, seconds: Double, _ call: @escaping Call
  ) async -> Figures {
    let begin = clock.monotonicNanoseconds() + UInt64(warmUpSeconds * 1e9)
    let end = begin + UInt64(seconds * 1e9)
    return await withTaskGroup(of: Figures.self) { group in
      for caller in 0..<callers {
        group.addTask(executorPreference: executor) { await self.loop(caller, begin, end, call) }
      }
      var all = Figures()
      for await one in group {
        all.times.add(one.times)
        all.failed += one.failed
      }
      all.seconds = seconds
      return all
    }
  }

  private func loop(
    _ caller: Int, _ begin: UInt64, _ end: UInt64, _ call: Call
  ) async -> Figures {
    var figures = Figures()
    var number: UInt64 = 0
    var start = clock.monotonicNanoseconds()
    while start < end, !Task.isCancelled {
      var isDone = true
      do { try await call(caller, number) } catch { isDone = false }
      number += 1
      let now = clock.monotonicNanoseconds()
      // What began before the time or ended after it belongs to it in part only.
      if start >= begin, now <= end {
        if isDone { figures.times.record((now - start) / 1000) } else { figures.failed += 1 }
      }
      start = now
    }
    return figures
  }
}

/// Small changes of the masters' state, each one entry of their log: an owner's quota is set.
struct QuotaWrites: Sendable {
  let masters: ServiceClient
  /// Owners of one caller; each caller has its own.
  var ownersPerCaller = 16
  var timeout = Duration.seconds(10)

  /// 63 letters, as long as a name may be.
  static func owner(_ caller: Int, _ number: Int) -> String {
    let name = "bench-\(caller)-\(number)-"
    return name + String(repeating: "x", count: 63 - name.count)
  }

  func write(_ caller: Int, _ number: UInt64) async throws {
    var request = SetQuotaRequest()
    request.owner = Self.owner(caller, Int(number % UInt64(ownersPerCaller)))
    request.maximumBytes = number + 1
    _ = try await masters.unary(
      MasterCloudMethods.setQuota, request, CallOptions(timeout: timeout))
  }

  /// Asks for one thing, and is answered as of now whatever else goes on.
  func read(_ caller: Int, _ number: UInt64) async throws {
    var request = ListEndangeredRequest()
    request.limit = 1
    _ = try await masters.unary(
      MasterCloudMethods.listEndangered, request, CallOptions(timeout: timeout))
  }
}
