import Base
import CAllocationCount
import Foundation
import RPC

/// Numbers of a soak at one moment.
struct SoakCounts: Sendable {
  var began: UInt64 = 0
  var ended: UInt64 = 0
  var twice: UInt64 = 0
  var wrong: UInt64 = 0
  var statuses: [String: UInt64] = [:]
}

/// Every call of a soak, from its beginning to its one end.
final class SoakTally: Sendable {
  private struct State {
    var counts = SoakCounts()
    var open: Set<UInt64> = []
    var isResting = false
  }

  private let state = Locked(State())

  var counts: SoakCounts { state.withLock { $0.counts } }

  var openCalls: Int { state.withLock { $0.open.count } }

  /// No new calls while true: what is held is then no call's.
  func rest(_ isResting: Bool) { state.withLock { $0.isResting = isResting } }

  func waitWhileResting() async {
    while state.withLock({ $0.isResting }) { try? await Task.sleep(for: .milliseconds(5)) }
  }

  func begin() -> UInt64 {
    state.withLock { state in
      state.counts.began += 1
      state.open.insert(state.counts.began)
      return state.counts.began
    }
  }

  func end(_ number: UInt64, _ outcome: Result<[UInt8], RPCError>, expected: [UInt8]) {
    state.withLock { state in
      guard state.open.remove(number) != nil else {
        state.counts.twice += 1
        return
      }
      state.counts.ended += 1
      switch outcome {
      case .success(let bytes):
        state.counts.statuses["OK", default: 0] += 1
        if bytes != expected { state.counts.wrong += 1 }
      case .failure(let error):
        state.counts.statuses["\(error.code)", default: 0] += 1
        // These would be our own doing.
        if error.code == .internalError || error.code == .dataLoss || error.code == .invalidArgument
        {
          state.counts.wrong += 1
        }
      }
    }
  }
}

/// What the process holds at one moment.
struct SoakSample {
  let elapsedSeconds: Int
  let residentKiB: Int
  /// Allocated and not freed.
  let heapKiB: Int
  let descriptors: Int

  init(elapsedSeconds: Int) {
    self.elapsedSeconds = elapsedSeconds
    let status = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    let pages = status.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    residentKiB = pages * sysconf(Int32(_SC_PAGESIZE)) / 1024
    heapKiB = Int(sfm_heap_in_use() / 1024)
    descriptors = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0
  }

  /// Least squares over the samples.
  static func slopeKiBPerMinute(_ samples: [SoakSample], _ size: KeyPath<SoakSample, Int>) -> Double
  {
    guard samples.count > 1 else { return 0 }
    let times = samples.map { Double($0.elapsedSeconds) / 60 }
    let sizes = samples.map { Double($0[keyPath: size]) }
    let meanTime = times.reduce(0, +) / Double(times.count)
    let meanSize = sizes.reduce(0, +) / Double(sizes.count)
    var above = 0.0
    var below = 0.0
    for (time, size) in zip(times, sizes) {
      above += (time - meanTime) * (size - meanSize)
      below += (time - meanTime) * (time - meanTime)
    }
    return below == 0 ? 0 : above / below
  }
}
