import Base
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(1))) struct HedgingPlanTests {
  private static let hedging = Hedging(after: .milliseconds(50), attempts: 2)

  @Test func aSlowAttemptIsDoubledElsewhereAndTheFirstAnswerWins() {
    var script = PlanScript(hedging: Self.hedging)
    script.begin()
    #expect(script.waitMilliseconds == 50)
    script.elapse()
    #expect(script.begun.count == 2 && script.begun[0].endpoint != script.begun[1].endpoint)
    #expect(script.begun.map(\.number) == [1, 2])
    // Two were asked for, so no third follows.
    #expect(script.waits.isEmpty)
    let winner = script.running.remove(at: 1)
    script.step(.succeeded(attempt: winner.id))
    #expect(script.endings == [.succeed(attempt: winner.id)])
    // The loser's end changes nothing but the count at its address.
    script.fail(RPCError(.cancelled, "the caller cancelled"))
    #expect(script.endings.count == 1)
    #expect(script.core.balancer.callsInFlight(at: script.begun[0].endpoint) == 0)
    #expect(script.core.counters.hedges == 1 && script.core.counters.retries == 0)
  }

  @Test func onlyQuestionsAreHedgedAndOnlyElsewhere() {
    for idempotency in [Idempotency.unknown, .idempotent] {
      var script = PlanScript(idempotency: idempotency, hedging: Self.hedging)
      script.begin()
      #expect(script.waits.isEmpty)
      #expect(!script.plan.mayHedge)
    }
    var alone = PlanScript(endpoints: 1, hedging: Self.hedging)
    alone.begin()
    #expect(alone.waits.isEmpty)
    // The other address is out: a hedge there would wait for what is known to be away.
    var script = PlanScript(endpoints: 2, hedging: Self.hedging)
    let first = script.core.balancer.begin(at: 0)
    script.core.end(first, unreachable, now: script.now)
    script.begin()
    script.elapse()
    #expect(script.begun.count == 1)
  }

  @Test func aFailureBringsTheHedgeForward() {
    var script = PlanScript(hedging: Hedging(after: .milliseconds(50), attempts: 3))
    script.begin()
    script.elapse()
    #expect(script.running.count == 2)
    script.fail(unavailable)
    #expect(script.begun.count == 3)
    #expect(Set(script.begun.map(\.endpoint)).count == 3)
    // The hedge's own failure leaves the other attempt to decide.
    script.fail(overloaded, index: 1)
    #expect(script.endings.isEmpty && script.running.count == 1)
    script.succeed()
    #expect(script.endings == [.succeed(attempt: script.begun[1].id)])
  }

  @Test func anAnswerThatNobodyWouldGiveOtherwiseEndsTheCall() {
    let gone = RPCError(.notFound, "gone").answered
    var script = PlanScript(hedging: Self.hedging)
    script.begin()
    script.elapse()
    script.fail(gone, index: 1)
    #expect(script.endings == [.fail(gone)])
    // Trouble of one server does not.
    script.next(hedging: Self.hedging)
    script.begin()
    script.elapse()
    script.fail(RPCError(.internalError, "bug").answered)
    #expect(script.endings.isEmpty)
    script.succeed()
    #expect(script.endings.count == 1)
  }

  @Test func aServerThatWantsNoMoreStopsTheHedges() {
    var script = PlanScript(hedging: Hedging(after: .milliseconds(50), attempts: 3))
    script.begin()
    script.elapse()
    script.fail(overloaded.retry(.never))
    #expect(script.begun.count == 2)
    while !script.waits.isEmpty { script.elapse() }
    #expect(script.begun.count == 2 && script.endings.isEmpty)
    script.succeed()
    #expect(script.endings.count == 1)
  }

  /// Servers that are slow and never fail are not given every call twice.
  @Test func hedgesAreHeldByTheBudget() {
    var script = PlanScript(hedging: Self.hedging)
    let calls = 1000
    for _ in 0..<calls {
      script.next(hedging: Self.hedging)
      script.begin()
      script.elapse()
      script.succeed()
      while !script.running.isEmpty { script.fail(RPCError(.cancelled, "")) }
    }
    #expect(script.core.counters.hedges <= UInt64(0.1 * Double(calls)) + 10)
    #expect(script.core.counters.hedges > 90)
    #expect(script.core.counters.budgetRefusals > 0)
  }

  @Test func allAttemptsFailingIsOneFailure() {
    var script = PlanScript(
      hedging: Self.hedging,
      policy: {
        var policy = RetryPolicy()
        policy.maximumAttempts = 2
        return policy
      }())
    script.begin()
    script.elapse()
    script.fail(unavailable)
    script.fail(overloaded)
    #expect(script.endings == [.fail(overloaded)])
  }
}

@Suite(.timeLimit(.minutes(2))) struct HedgingTests {
  @Test func theFastServerAnswersAndTheSlowOneIsCancelled() async throws {
    let blocks = Locked(false)
    let (blocked, cancelled) = (Gate(), Gate())
    let slow = Locked<Int?>(nil)
    let cluster = try Cluster(2) { index, _ in
      // Whichever server is asked first is the slow one.
      let isSlow =
        blocks.withLock { $0 }
        && slow.withLock { slow in
          defer { slow = slow ?? index }
          return slow == nil
        }
      guard isSlow else { return reply(index) }
      await blocked.open()
      do {
        try await Task.sleep(for: .seconds(3600))
      } catch {
        await cancelled.open()
        throw error
      }
      return reply(index)
    }
    let client = try cluster.client()
    try await client.warmUp(servers: 2)
    blocks.withLock { $0 = true }
    var options = CallOptions(timeout: .seconds(3000))
    options.hedging = Hedging(after: .milliseconds(10))
    let answer = try await client.ask(question, options)
    await blocked.wait()
    #expect(answer != slow.withLock { $0 })
    #expect(client.counters.hedges == 1)
    await cancelled.wait()
    // The loser had ended here before the answer was handed out.
    #expect(client.callsInFlight == 0)
    client.close()
    await cluster.stop()
  }

  @Test func cancellingTheCallerCancelsEveryAttempt() async throws {
    let blocks = Locked(false)
    let (blocked, cancelled) = (Locked(0), Locked(0))
    let cluster = try Cluster(2) { index, _ in
      guard blocks.withLock({ $0 }) else { return reply(index) }
      blocked.withLock { $0 += 1 }
      do {
        try await Task.sleep(for: .seconds(3600))
      } catch {
        cancelled.withLock { $0 += 1 }
        throw error
      }
      return reply(index)
    }
    let client = try cluster.client()
    try await client.warmUp(servers: 2)
    blocks.withLock { $0 = true }
    let call = Task {
      var options = CallOptions(timeout: .seconds(3000))
      options.hedging = Hedging(after: .milliseconds(1))
      return try await client.ask(question, options)
    }
    await eventually { blocked.withLock { $0 } == 2 }
    call.cancel()
    await #expect(throws: RPCError(.cancelled, "the caller cancelled")) { try await call.value }
    await eventually { cancelled.withLock { $0 } == 2 }
    #expect(client.callsInFlight == 0)
    client.close()
    await cluster.stop()
  }
}
