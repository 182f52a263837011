import Synchronization

/// What a server has counted of one method.
public struct MethodMetricsSnapshot: Sendable, Equatable {
  /// "sfmedir.v1.Service/Name"
  public var method: String
  /// Begun, whether ended or not.
  public var calls: UInt64 = 0
  public var inFlight: UInt64 = 0
  /// Ended, by status; codes that never came are not there.
  public var statuses: [StatusCode: UInt64] = [:]
  public var receivedBytes: UInt64 = 0
  public var sentBytes: UInt64 = 0
  /// Durations of ended calls, to about 3 % either way; 0 where none has ended.
  public var p50Microseconds: Double = 0
  public var p90Microseconds: Double = 0
  public var p99Microseconds: Double = 0
  /// Exact.
  public var maximumMicroseconds: Double = 0
}

/// Counters of a server's methods, which its loops add to without locks or memory of their own.
///
/// Counters are independent of one another: a snapshot taken during a call may have part of it.
public final class MethodMetrics: @unchecked Sendable {
  /// In the order of the indices.
  public let methods: [String]
  private let indices: [String: Int]
  /// `stride` counters for each method. The pointer never changes and what it leads to is atomic.
  private let counters: UnsafeMutablePointer<Atomic<UInt64>>

  private enum Counter {
    static let begun = 0
    static let received = 1
    static let sent = 2
    static let maximum = 3
    static let statuses = 4
    static let buckets = statuses + StatusCode.allCases.count
    // Whole cache lines, so that two methods do not share one.
    static let stride = (buckets + LatencyBuckets.count + 7) & ~7
  }

  public init(methods: [String]) {
    self.methods = methods
    indices = Dictionary(zip(methods, 0...), uniquingKeysWith: { first, _ in first })
    let count = methods.count * Counter.stride
    counters = UnsafeMutableRawPointer.allocate(
      byteCount: max(1, count) * MemoryLayout<Atomic<UInt64>>.stride, alignment: 64
    ).bindMemory(to: Atomic<UInt64>.self, capacity: max(1, count))
    for index in 0..<count { (counters + index).initialize(to: Atomic(0)) }
  }

  deinit {
    counters.deinitialize(count: methods.count * Counter.stride)
    UnsafeMutableRawPointer(counters).deallocate()
  }

  /// For `began` and `ended`; nil for a method that is not counted.
  public func index(of method: String) -> Int? { indices[method] }

  /// A call of the method with this index began.
  public func began(_ index: Int) { add(1, to: Counter.begun, of: index) }

  /// A call that began has ended. Bytes are those of messages and bulk, without frames.
  public func ended(
    _ index: Int, status: StatusCode, durationNanoseconds: UInt64, receivedBytes: Int,
    sentBytes: Int
  ) {
    add(1, to: Counter.statuses + Int(status.rawValue), of: index)
    add(
      1, to: Counter.buckets + LatencyBuckets.index(nanoseconds: durationNanoseconds), of: index)
    if receivedBytes > 0 { add(UInt64(receivedBytes), to: Counter.received, of: index) }
    if sentBytes > 0 { add(UInt64(sentBytes), to: Counter.sent, of: index) }
    let maximum = counters + offset(Counter.maximum, of: index)
    if maximum.pointee.load(ordering: .relaxed) < durationNanoseconds {
      maximum.pointee.max(durationNanoseconds, ordering: .relaxed)
    }
  }

  private func offset(_ counter: Int, of index: Int) -> Int {
    precondition(index >= 0 && index < methods.count, "index \(index) of \(methods.count) methods")
    return index * Counter.stride + counter
  }

  private func add(_ value: UInt64, to counter: Int, of index: Int) {
    (counters + offset(counter, of: index)).pointee.wrappingAdd(value, ordering: .relaxed)
  }

  private func load(_ counter: Int, of index: Int) -> UInt64 {
    (counters + offset(counter, of: index)).pointee.load(ordering: .relaxed)
  }

  /// One for each method, in the order of the indices.
  public func snapshot() -> [MethodMetricsSnapshot] { methods.indices.map(snapshot) }

  private func snapshot(of index: Int) -> MethodMetricsSnapshot {
    var snapshot = MethodMetricsSnapshot(method: methods[index])
    var ended: UInt64 = 0
    for code in StatusCode.allCases {
      let count = load(Counter.statuses + Int(code.rawValue), of: index)
      if count > 0 { snapshot.statuses[code] = count }
      ended += count
    }
    snapshot.calls = load(Counter.begun, of: index)
    snapshot.inFlight = snapshot.calls > ended ? snapshot.calls - ended : 0
    snapshot.receivedBytes = load(Counter.received, of: index)
    snapshot.sentBytes = load(Counter.sent, of: index)
    let maximum = load(Counter.maximum, of: index)
    let buckets = (0..<LatencyBuckets.count).map { load(Counter.buckets + $0, of: index) }
    func microseconds(_ fraction: Double) -> Double {
      let value = LatencyBuckets.quantile(fraction, of: buckets)
      return Double(min(value, maximum)) / 1000
    }
    snapshot.p50Microseconds = microseconds(0.5)
    snapshot.p90Microseconds = microseconds(0.9)
    snapshot.p99Microseconds = microseconds(0.99)
    snapshot.maximumMicroseconds = Double(maximum) / 1000
    return snapshot
  }
}

/// Which counter a duration belongs to: sixteen of them for each doubling, so each is about 6 % wide,
/// from 1 microsecond to 1 hour. Below 1 microsecond they are a sixteenth of it wide.
enum LatencyBuckets {
  /// Longer ones count as this.
  static let longestNanoseconds: UInt64 = 3_600_000_000_000
  static let count = index(nanoseconds: longestNanoseconds) + 1

  static func index(nanoseconds: UInt64) -> Int {
    // Sixteenths of a microsecond: 62.5 nanoseconds.
    let units = min(nanoseconds, longestNanoseconds) * 2 / 125
    if units < 16 { return Int(units) }
    let shift = 63 - units.leadingZeroBitCount - 4
    return shift * 16 + Int(units >> UInt64(shift))
  }

  /// The middle of a counter's durations.
  static func middleNanoseconds(_ index: Int) -> UInt64 {
    let shift = index < 32 ? 0 : index / 16 - 1
    let width: UInt64 = 1 << UInt64(shift)
    let low = UInt64(index - shift * 16) << UInt64(shift)
    return (2 * low + width) * 125 / 4
  }

  /// The duration that `fraction` of all counted ones do not exceed; 0 where none is counted.
  static func quantile(_ fraction: Double, of buckets: [UInt64]) -> UInt64 {
    let total = buckets.reduce(0, +)
    if total == 0 { return 0 }
    let rank = max(1, UInt64((fraction * Double(total)).rounded(.up)))
    var seen: UInt64 = 0
    for (index, count) in buckets.enumerated() {
      seen += count
      if seen >= rank { return middleNanoseconds(index) }
    }
    return middleNanoseconds(buckets.count - 1)
  }
}
