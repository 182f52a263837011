import Base
import Enrollment
import ImagePipeline
import ImageTestSupport
import Testing

@testable import RPC

@Suite struct RetryTests {
  private func context(seconds: UInt64) -> CallContext {
    CallContext(
      method: "m", caller: nil,
      deadlineNanoseconds: SystemClock().monotonicNanoseconds() + seconds * 1_000_000_000,
      metadata: [])
  }

  private var impatient: Retry {
    var retry = Retry(maximumAttempts: nil)
    retry.firstDelayMilliseconds = 1
    retry.maximumDelayMilliseconds = 1
    return retry
  }

  private func attempts(
    _ retry: Retry, seconds: UInt64, failingWith errors: [RPCError]
  ) async -> (count: Int, error: RPCError?) {
    let count = Locked(0)
    do {
      try await retry.run(within: context(seconds: seconds)) {
        let index = count.withLock { count in
          count += 1
          return count - 1
        }
        if index < errors.count { throw errors[index] }
      }
      return (count.withLock { $0 }, nil)
    } catch {
      return (count.withLock { $0 }, error as? RPCError)
    }
  }

  @Test func onlyWhatMayPassIsRepeated() async {
    let away = RPCError(.unavailable, "away")
    let passing = [
      away, RPCError(.aborted, "in the way"),
      RPCError(.resourceExhausted, "busy", reason: "Overloaded"),
    ]
    #expect(await attempts(impatient, seconds: 3600, failingWith: passing) == (4, nil))
    for error in [
      RPCError(.invalidArgument, "no"), RPCError(.resourceExhausted, "no"),
      RPCError(.deadlineExceeded, "no"), RPCError(.dataLoss, "no"), RPCError(.cancelled, "no"),
    ] {
      #expect(await attempts(impatient, seconds: 3600, failingWith: [error]) == (1, error))
    }
  }

  @Test func attemptsAndTheDeadlineBoundIt() async {
    let away = RPCError(.unavailable, "away")
    var brief = impatient
    brief.maximumAttempts = 3
    let always = Array(repeating: away, count: 1000)
    #expect(await attempts(brief, seconds: 3600, failingWith: always) == (3, away))
    var slow = impatient
    slow.firstDelayMilliseconds = 60_000
    #expect(await attempts(slow, seconds: 1, failingWith: always) == (1, away))
  }
}

@Suite struct KeySourceTests {
  private final class TestClock: Clock {
    let now = Locked<UInt64>(1_000_000_000)
    func monotonicNanoseconds() -> UInt64 { now.withLock { $0 } }
    func wallMilliseconds() -> UInt64 { 0 }
  }

  @Test func aMissingVersionIsAskedForButNotTooOften() async throws {
    let clock = TestClock()
    let asked = Locked(0)
    let answer = Locked(TestImages.keys(imageVersions: 1))
    let source = KeySource(TestImages.keys(imageVersions: 1), clock: clock) {
      asked.withLock { $0 += 1 }
      return answer.withLock { $0 }
    }
    _ = await source.ring(holding: .image, version: 1)
    #expect(asked.withLock { $0 } == 0)
    for _ in 0..<5 { _ = await source.ring(holding: .image, version: 2) }
    #expect(asked.withLock { $0 } == 1, "an invented version asks once")
    answer.withLock { $0 = TestImages.keys(imageVersions: 2) }
    clock.now.withLock { $0 += 10_000_000_000 }
    let ring = await source.ring(holding: .image, version: 2)
    #expect(ring.key(.image, version: 2) != nil)
    #expect(source.ring.current(.image)?.version == 2)
    #expect(asked.withLock { $0 } == 2)
  }

  @Test func aSilentKeyControlLeavesTheKnownKeys() async {
    let source = KeySource(TestImages.keys()) { throw RPCError(.unavailable, "away") }
    let ring = await source.ring(holding: .image, version: 9)
    #expect(ring.key(.image, version: 1) != nil)
    await #expect(throws: RPCError.self) { try await source.refresh() }
  }
}
