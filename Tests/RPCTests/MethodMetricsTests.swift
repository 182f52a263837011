import Base
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(1))) struct MethodMetricsTests {
  @Test func countersOfOneMethodAreItsOwn() {
    let metrics = MethodMetrics(methods: ["a", "b", "c"])
    #expect(metrics.index(of: "b") == 1)
    #expect(metrics.index(of: "d") == nil)
    metrics.began(1)
    metrics.began(1)
    metrics.ended(1, status: .aborted, durationNanoseconds: 1500, receivedBytes: 3, sentBytes: 4)
    let snapshots = metrics.snapshot()
    #expect(snapshots.map(\.method) == ["a", "b", "c"])
    for other in [snapshots[0], snapshots[2]] {
      #expect(other == MethodMetricsSnapshot(method: other.method))
    }
    let b = snapshots[1]
    #expect(b.calls == 2)
    #expect(b.inFlight == 1)
    #expect(b.statuses == [.aborted: 1])
    #expect(b.receivedBytes == 3)
    #expect(b.sentBytes == 4)
    #expect(b.maximumMicroseconds == 1.5)
    #expect(abs(b.p50Microseconds - 1.5) < 0.05)
    #expect(MethodMetrics(methods: []).snapshot().isEmpty)
  }

  @Test func everyStatusHasACounter() {
    let metrics = MethodMetrics(methods: ["a"])
    for code in StatusCode.allCases {
      for _ in 0...code.rawValue {
        metrics.began(0)
        metrics.ended(0, status: code, durationNanoseconds: 0, receivedBytes: 0, sentBytes: 0)
      }
    }
    let snapshot = metrics.snapshot()[0]
    #expect(snapshot.inFlight == 0)
    for code in StatusCode.allCases {
      #expect(snapshot.statuses[code] == UInt64(code.rawValue) + 1)
    }
  }

  /// Each duration from 1 microsecond to 1 hour is within 3.2 % of its counter's middle, counters touch
  /// one another, and none is outside.
  @Test func resolution() {
    var previous = -1
    var nanoseconds: UInt64 = 1
    while nanoseconds < LatencyBuckets.longestNanoseconds {
      let index = LatencyBuckets.index(nanoseconds: nanoseconds)
      #expect(index == previous || index == previous + 1 || nanoseconds < 1000)
      #expect((0..<LatencyBuckets.count).contains(index))
      previous = index
      let middle = Double(LatencyBuckets.middleNanoseconds(index))
      if nanoseconds >= 1000 {
        #expect(abs(middle / Double(nanoseconds) - 1) < 0.032, "\(nanoseconds)")
      } else {
        #expect(abs(middle - Double(nanoseconds)) <= 63, "\(nanoseconds)")
      }
      nanoseconds += max(1, nanoseconds / 200)
    }
    #expect(previous == LatencyBuckets.count - 1)
    #expect(LatencyBuckets.index(nanoseconds: .max) == LatencyBuckets.count - 1)
    #expect(LatencyBuckets.index(nanoseconds: 0) == 0)
  }

  @Test func quantiles() {
    let entropy = SeededEntropy.announced()
    let metrics = MethodMetrics(methods: ["a"])
    var durations: [UInt64] = []
    for _ in 0..<5000 {
      // Over nine powers of ten, so that every width of counter is met.
      let exponent = entropy.uniform(below: 30)
      let duration = 1000 + entropy.uniform(below: 1000 << exponent)
      durations.append(duration)
      metrics.began(0)
      metrics.ended(
        0, status: .ok, durationNanoseconds: duration, receivedBytes: 0, sentBytes: 0)
    }
    durations.sort()
    let snapshot = metrics.snapshot()[0]
    func isNear(_ microseconds: Double, _ fraction: Double) -> Bool {
      let exact = durations[Int((fraction * 5000).rounded(.up)) - 1]
      return abs(microseconds * 1000 / Double(exact) - 1) < 0.035
    }
    #expect(isNear(snapshot.p50Microseconds, 0.5))
    #expect(isNear(snapshot.p90Microseconds, 0.9))
    #expect(isNear(snapshot.p99Microseconds, 0.99))
    #expect(snapshot.maximumMicroseconds == Double(durations[4999]) / 1000)
  }

  /// A quantile is never above the maximum, though its counter's middle may be.
  @Test func quantilesStayBelowTheMaximum() {
    let metrics = MethodMetrics(methods: ["a"])
    metrics.began(0)
    metrics.ended(
      0, status: .ok, durationNanoseconds: 1_000_000, receivedBytes: 0, sentBytes: 0)
    let snapshot = metrics.snapshot()[0]
    #expect(snapshot.p99Microseconds <= snapshot.maximumMicroseconds)
    #expect(snapshot.maximumMicroseconds == 1000)
  }

  @Test func manyLoopsLoseNothing() async {
    let metrics = MethodMetrics(methods: ["a", "b"])
    let (tasks, rounds) = (8, 5000)
    await withTaskGroup(of: Void.self) { group in
      for task in 0..<tasks {
        group.addTask {
          for round in 0..<rounds {
            metrics.began(round % 2)
            metrics.ended(
              round % 2, status: round.isMultiple(of: 4) ? .ok : .unavailable,
              durationNanoseconds: UInt64(task * rounds + round), receivedBytes: 1, sentBytes: 2)
          }
        }
      }
    }
    let all = metrics.snapshot()
    #expect(all.map(\.calls) == [20_000, 20_000])
    #expect(all.map(\.inFlight) == [0, 0])
    #expect(all[0].statuses == [.ok: 10_000, .unavailable: 10_000])
    #expect(all[1].statuses == [.unavailable: 20_000])
    #expect(all.map(\.receivedBytes) == [20_000, 20_000])
    #expect(all.map(\.sentBytes) == [40_000, 40_000])
    #expect(all[1].maximumMicroseconds == Double(tasks * rounds - 1) / 1000)
  }
}
