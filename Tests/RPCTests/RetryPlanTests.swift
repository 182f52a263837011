import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Which calls are made again, and when: no sockets, no clock.
@Suite(.timeLimit(.minutes(1))) struct RetryPlanTests {
  @Test func onlyWhatIsSafeIsMadeAgain() {
    let never = overloaded.retry(.never)
    let notFound = RPCError(.notFound, "gone").answered
    let full = RPCError(.resourceExhausted, "too large", reason: "ImageTooLarge").answered
    let aborted = RPCError(.aborted, "conflict").answered
    let late = RPCError(.deadlineExceeded, "late").answered
    let refused = RPCError(.unauthenticated, "bad certificate").asUnsent
    // Error, then: is a question made again, is something that acts once more.
    let cases: [(RPCError, Bool, Bool)] = [
      (unavailable, true, false), (aborted, true, false), (overloaded, true, false),
      (connectionLost, true, false), (draining, true, true), (unreachable, true, true),
      (overloaded.retry(.after(milliseconds: 5)), true, false),
      (RPCError(.resourceExhausted, "full").asUnsent, true, true),
      (never, false, false), (notFound, false, false), (full, false, false),
      (late, false, false), (refused, false, false),
    ]
    for (error, asQuestion, asOnce) in cases {
      for (idempotency, expected) in [
        (Idempotency.noSideEffects, asQuestion), (.idempotent, asQuestion), (.unknown, asOnce),
      ] {
        var script = PlanScript(endpoints: 1, idempotency: idempotency)
        script.begin()
        script.fail(error)
        #expect(script.waits.count == (expected ? 1 : 0), "\(error) \(idempotency)")
        #expect(script.endings == (expected ? [] : [.fail(error)]), "\(error) \(idempotency)")
      }
    }
  }

  @Test func attemptsAreNumberedAndBounded() {
    var script = PlanScript(endpoints: 1)
    script.begin()
    for _ in 0..<3 {
      script.fail(unavailable)
      script.elapse()
    }
    script.fail(unavailable)
    #expect(script.begun.map(\.number) == [1, 2, 3, 4])
    #expect(script.endings == [.fail(unavailable)])
    #expect(script.core.counters.retries == 3)
    #expect(script.core.counters.attempts == 4)
  }

  @Test func waitsGrowWithJitter() throws {
    var script = PlanScript(endpoints: 1)
    script.begin()
    var waits: [Double] = []
    for _ in 0..<3 {
      script.fail(unavailable)
      waits.append(try #require(script.waitMilliseconds))
      script.elapse()
    }
    for (wait, middle) in zip(waits, [50.0, 100, 200]) {
      #expect(wait >= 0.8 * middle && wait <= 1.2 * middle)
    }
    // Two clients do not wait alike.
    let policy = RetryPolicy()
    var (left, right) = (Dice(seed: 1), Dice(seed: 2))
    #expect(
      policy.delayNanoseconds(beforeRetry: 0, unit: left.unit())
        != policy.delayNanoseconds(beforeRetry: 0, unit: right.unit()))
    #expect(policy.delayNanoseconds(beforeRetry: 1_000_000, unit: 1) <= 2_400_000_000)
  }

  @Test func noWaitPassesTheDeadlineAndAttemptsGetWhatIsLeft() throws {
    var script = PlanScript(endpoints: 1, timeoutMilliseconds: 100)
    script.begin()
    #expect(script.begun[0].timeoutNanoseconds == 100 * PlanScript.millisecond)
    script.now += 20 * PlanScript.millisecond
    script.fail(unavailable)
    let wait = try #require(script.waitMilliseconds)
    script.elapse()
    #expect(
      script.begun[1].timeoutNanoseconds
        == 80 * PlanScript.millisecond - UInt64(wait * 1_000_000))
    // The next wait would be 80 milliseconds at least: the error tells more than the deadline would.
    script.fail(overloaded)
    #expect(script.waits.isEmpty)
    #expect(script.endings == [.fail(overloaded)])
  }

  @Test func anAttemptThatRunsOutOfTimeTellsWhatWentBefore() throws {
    var script = PlanScript(endpoints: 1)
    script.begin()
    script.fail(unavailable)
    script.elapse()
    script.fail(RPCError(.deadlineExceeded, "the deadline passed"))
    let error = try #require(script.error)
    #expect(error.code == .deadlineExceeded)
    #expect(error.message.contains("UNAVAILABLE: trouble"))
  }

  @Test func noTimeNoAttempt() {
    var script = PlanScript(timeoutMilliseconds: 0)
    script.begin()
    #expect(script.begun.isEmpty)
    #expect(script.error?.code == .deadlineExceeded)
  }

  @Test func theServersWordOnWhenToComeBackIsHeeded() throws {
    var script = PlanScript(endpoints: 1)
    script.begin()
    script.fail(overloaded.retry(.after(milliseconds: 700)))
    let wait = try #require(script.waitMilliseconds)
    #expect(wait >= 700 && wait <= 840)
    // It may not make a client come back at once.
    script.elapse()
    script.fail(overloaded.retry(.after(milliseconds: 0)))
    #expect(try #require(script.waitMilliseconds) >= 80)
    // And a wait beyond the deadline is none.
    script.elapse()
    script.fail(overloaded.retry(.after(milliseconds: .max)))
    #expect(script.endings.count == 1)
  }

  @Test func aFailedMoveCostsNoWait() {
    // Nothing of the call left, so even one that acts once more goes to the other two at once.
    var script = PlanScript(endpoints: 3, idempotency: .unknown)
    script.begin()
    script.fail(unreachable)
    script.fail(draining)
    #expect(script.waits.isEmpty)
    #expect(Set(script.begun.map(\.endpoint)) == [0, 1, 2])
    // The one that could not be reached has seen no attempt.
    #expect(script.begun.map(\.number) == [1, 1, 2])
    script.succeed()
    #expect(script.endings == [.succeed(attempt: script.begun[2].id)])
    #expect(script.core.counters.failovers == 2 && script.core.counters.retries == 0)
    #expect(script.core.budget.tokens == script.core.policy.budgetTokens)
  }

  @Test func aBadCertificateAtOneAddressDoesNotHideTheOther() {
    var script = PlanScript(endpoints: 2, ready: false, idempotency: .unknown)
    script.begin()
    script.fail(RPCError(.unauthenticated, "expired").asUnsent)
    #expect(script.begun.count == 2)
    #expect(script.begun[0].endpoint != script.begun[1].endpoint)
  }

  @Test func waitingForReadyGoesOnUntilTheDeadline() {
    var script = PlanScript(endpoints: 2, timeoutMilliseconds: 30_000, waitsForReady: true)
    script.begin()
    var rounds = 0
    while script.endings.isEmpty, rounds < 1000 {
      script.fail(unreachable)
      if !script.waits.isEmpty { script.elapse() }
      rounds += 1
    }
    #expect(rounds > 15 && rounds < 60)
    #expect(script.error == unreachable)
    #expect(script.core.budget.tokens == script.core.policy.budgetTokens)
  }

  /// However many calls fail, few of them are made again.
  @Test func theBudgetHoldsAStorm() {
    for successRate in [0, 10, 50] {
      let entropy = SeededEntropy.announced()
      var script = PlanScript(seed: entropy.next())
      var (calls, successes) = (0, 0)
      for _ in 0..<600 {
        script.next()
        script.begin()
        calls += 1
        while script.endings.isEmpty {
          if entropy.uniform(below: 100) < successRate {
            successes += 1
            script.succeed()
          } else {
            script.fail(unavailable)
            if !script.waits.isEmpty { script.elapse() }
          }
        }
      }
      let counters = script.core.counters
      let allowance = 0.1 * Double(successes) + script.core.policy.budgetTokens / 2
      #expect(Double(counters.retries) <= allowance)
      #expect(counters.attempts == UInt64(calls) + counters.retries)
      #expect(counters.budgetRefusals > 0)
    }
  }

  /// Whatever happens in whatever order: one end, and no address keeps a call that is over.
  @Test func everyCallEndsOnce() {
    let entropy = SeededEntropy.announced()
    let errors = [
      unavailable, overloaded, draining, unreachable, connectionLost, overloaded.retry(.never),
      RPCError(.notFound, "gone").answered, RPCError.notLeader(node: "b", term: 3).answered,
      RPCError.notLeader().answered, RPCError(.internalError, "bug").answered,
      RPCError(.deadlineExceeded, "late"), RPCError(.cancelled, "the caller cancelled"),
    ]
    for _ in 0..<600 {
      var script = PlanScript(
        endpoints: 1 + Int(entropy.uniform(below: 4)), ready: entropy.uniform(below: 2) == 0,
        idempotency: [.unknown, .idempotent, .noSideEffects][Int(entropy.uniform(below: 3))],
        timeoutMilliseconds: entropy.uniform(below: 5000), waitsForReady: false,
        hedging: entropy.uniform(below: 2) == 0
          ? Hedging(after: .milliseconds(20), attempts: 3) : nil,
        followsLeader: entropy.uniform(below: 2) == 0, seed: entropy.next())
      script.begin()
      var steps = 0
      while !script.running.isEmpty || (script.endings.isEmpty && !script.waits.isEmpty) {
        steps += 1
        if steps > 500 { break }
        script.now += entropy.uniform(below: 30) * PlanScript.millisecond
        let choice = entropy.uniform(below: 10)
        if choice < 4, !script.waits.isEmpty {
          script.elapse()
        } else if choice == 4, !script.running.isEmpty {
          script.succeed()
        } else if choice == 5, script.running.isEmpty {
          script.step(.cancelled)
        } else if !script.running.isEmpty {
          let error = errors[Int(entropy.uniform(below: UInt64(errors.count)))]
          let index = Int(entropy.uniform(below: UInt64(script.running.count)))
          let hinted = Int(entropy.uniform(below: UInt64(script.core.balancer.count)))
          script.fail(error, hinted: hinted, index: index)
        }
      }
      #expect(steps <= 500 && script.endings.count == 1)
      for endpoint in 0..<script.core.balancer.count {
        #expect(script.core.balancer.callsInFlight(at: endpoint) == 0)
      }
    }
  }

  @Test func theAttemptsNumberTravelsWhereThereIsRoom() {
    var entry = MetadataEntry()
    entry.key = "k"
    let plain = AttemptNumber.metadata([entry], attempt: 1)
    #expect(plain == [entry])
    let second = AttemptNumber.metadata([entry], attempt: 2)
    #expect(second.map(\.key) == ["k", "sfmedir-attempt"])
    // Its own word on that is not the caller's to say.
    #expect(AttemptNumber.metadata(second, attempt: 1) == [entry])
    #expect(AttemptNumber.metadata(second, attempt: 3).last?.value == Array("3".utf8))
    let full = Array(repeating: entry, count: ConnectionLimits.maximumMetadataEntries)
    #expect(AttemptNumber.metadata(full, attempt: 2) == full)
    entry.value = [UInt8](repeating: 0, count: ConnectionLimits.maximumMetadataBytes - 10)
    #expect(AttemptNumber.metadata([entry], attempt: 2) == [entry])
    for (text, number) in [("2", 2), ("0", 1), ("-5", 1), ("9999", 9999), ("99999", 1), ("x", 1)] {
      entry.key = "sfmedir-attempt"
      entry.value = Array(text.utf8)
      let context = CallContext(
        method: "", caller: nil, deadlineNanoseconds: 0, metadata: [entry])
      #expect(context.attempt == number, "\(text)")
    }
  }
}
