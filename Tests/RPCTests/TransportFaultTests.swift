import Base
import Foundation
import TestSupport
import Testing

@testable import RPC

@Suite struct TransportFaultTests {
  @Test func linesThatMakeNoSenseHoldNothingBack() {
    let delays = TransportFaults.delays(
      in: "10.1.0.2 40 20\n* 5 0\nten 1\n10.1.0.3 1 1 1\n10.1.0.4 -1 0\n10.1.0.5 99999999 0\n\n")
    #expect(
      delays == [
        "10.1.0.2": .init(milliseconds: 40, jitterMilliseconds: 20),
        "*": .init(milliseconds: 5, jitterMilliseconds: 0),
      ])
  }

  @Test func theFileIsLookedAtAgain() throws {
    let directory = try TemporaryDirectory("faults")
    let faults = TransportFaults(path: directory.path("faults"))
    func replace(_ text: String) throws {
      try Data(text.utf8).write(
        to: URL(fileURLWithPath: directory.path("faults")), options: .atomic)
    }
    let second: UInt64 = 1_000_000_000
    #expect(faults.delay(to: "10.1.0.2:7100", now: second) == nil)
    try replace("10.1.0.2 40 0\n")
    // Not for every call, and not for others.
    #expect(faults.delay(to: "10.1.0.2:7100", now: second + 1) == nil)
    #expect(faults.delay(to: "10.1.0.2:7100", now: 2 * second)?.milliseconds == 40)
    #expect(faults.delay(to: "10.1.0.3:7100", now: 2 * second) == nil)
    try replace("* 7 0\n")
    #expect(faults.delay(to: "10.1.0.3:7100", now: 3 * second)?.milliseconds == 7)
    try FileManager.default.removeItem(atPath: directory.path("faults"))
    #expect(faults.delay(to: "10.1.0.3:7100", now: 4 * second) == nil)
  }

  /// Whatever the delays, bytes leave in order, each of them once, and not before its time.
  @Test(arguments: 0..<20 as Range<UInt64>) func bytesLeaveInOrder(seed: UInt64) {
    let entropy = SeededEntropy(seed: seed)
    var held = HeldBytes()
    var (total, left, now): (Int, Int, UInt64) = (0, 0, 0)
    /// How many bytes may have left by when, at the earliest.
    var allowed: [(due: UInt64, upTo: Int)] = []
    for _ in 0..<500 {
      now += entropy.uniform(below: 5)
      held.release(now: now)
      if entropy.uniform(below: 2) == 0 {
        total += 1 + Int(entropy.uniform(below: 100))
        let delay = entropy.uniform(below: 3) == 0 ? nil : entropy.uniform(below: 20)
        allowed.append((now + (delay ?? 0), total))
        _ = held.note(total: total - left, now: now, delayNanoseconds: delay)
      }
      let count = Int(entropy.uniform(below: UInt64(held.released + 1)))
      held.took(count)
      left += count
      // Nothing leaves before the latest of the moments of what stands before it.
      let tooEarly = allowed.first { $0.due > now }
      let bound = tooEarly.map { early in allowed.last { $0.upTo < early.upTo }?.upTo ?? 0 }
      #expect(left <= bound ?? total, "seed \(seed)")
    }
    held.release(now: now + 1000)
    #expect(held.isEmpty)
    #expect(left + held.released == total)
  }
}
