import Simulator
import Testing

@Suite struct LinearizabilityTests {
  private typealias Call = Operation<RegisterInput, RegisterOutput>

  private func call(
    _ input: RegisterInput, _ output: RegisterOutput?, _ invoked: UInt64, _ completed: UInt64
  ) -> Call {
    Call(client: 0, input: input, output: output, invoked: invoked, completed: completed)
  }

  private func verdict(_ calls: [Call]) -> LinearizabilityChecker<RegisterModel>.Verdict {
    LinearizabilityChecker(RegisterModel()).check(calls)
  }

  private func expectViolated(_ calls: [Call], _ comment: Comment) {
    guard case .violated(let unplaced) = verdict(calls) else {
      Issue.record(comment)
      return
    }
    #expect(!unplaced.isEmpty)
  }

  @Test func nothingAndOneAfterAnother() {
    #expect(verdict([]) == .linearizable)
    #expect(
      verdict([
        call(.read, .value(0), 0, 1), call(.write(5), .done, 2, 3), call(.read, .value(5), 4, 5),
        call(.exchange(expected: 5, new: 6), .exchanged(true), 6, 7),
        call(.exchange(expected: 5, new: 7), .exchanged(false), 8, 9),
        call(.read, .value(6), 10, 11),
      ]) == .linearizable)
  }

  @Test func concurrentCallsMayTakeEffectInAnyOrder() {
    #expect(
      verdict([
        call(.write(1), .done, 0, 10), call(.write(2), .done, 0, 10),
        call(.read, .value(2), 11, 12),
      ]) == .linearizable)
    #expect(
      verdict([
        call(.write(1), .done, 0, 10), call(.read, .value(1), 1, 3), call(.read, .value(1), 4, 5),
      ]) == .linearizable)
  }

  @Test func aStaleRead() {
    expectViolated(
      [call(.write(1), .done, 0, 1), call(.read, .value(0), 2, 3)], "what was written is not seen")
  }

  @Test func aReadThatGoesBack() {
    expectViolated(
      [
        call(.write(1), .done, 0, 10), call(.read, .value(1), 1, 2), call(.read, .value(0), 3, 4),
      ], "seen, and then not any more")
  }

  @Test func aValueOutOfNowhere() {
    expectViolated([call(.read, .value(7), 0, 1)], "nobody wrote it")
    expectViolated(
      [call(.read, .value(7), 0, 1), call(.write(7), .done, 2, 3)], "nobody had written it yet")
  }

  @Test func aLostWrite() {
    expectViolated(
      [
        call(.write(1), .done, 0, 1), call(.write(2), .done, 2, 3), call(.read, .value(1), 4, 5),
      ], "the second one is gone")
  }

  @Test func twoExchangesOfTheSameValue() {
    expectViolated(
      [
        call(.exchange(expected: 0, new: 1), .exchanged(true), 0, 9),
        call(.exchange(expected: 0, new: 2), .exchanged(true), 0, 9),
      ], "only one can have found it")
    expectViolated(
      [call(.exchange(expected: 0, new: 1), .exchanged(false), 0, 9)], "it was there")
  }

  @Test func anUnknownOutcomeMayTakeEffectLateOrNever() {
    let lost = call(.write(1), nil, 0, 0)
    #expect(verdict([lost, call(.read, .value(0), 5, 6)]) == .linearizable)
    #expect(verdict([lost, call(.read, .value(1), 5, 6)]) == .linearizable)
    #expect(
      verdict([lost, call(.read, .value(0), 5, 6), call(.read, .value(1), 7, 8)]) == .linearizable)
    expectViolated(
      [
        lost, call(.read, .value(1), 5, 6), call(.write(2), .done, 7, 8),
        call(.read, .value(1), 9, 10),
      ], "it took effect before, and does so once")
    expectViolated(
      [call(.read, .value(1), 0, 1), call(.write(1), nil, 2, 0)], "not before it was called")
  }

  @Test func aSearchThatTakesTooLongIsGivenUp() {
    let calls =
      (0..<12).map { call(.write($0), .done, 0, 100) } + [call(.read, .value(99), 101, 102)]
    let checker = LinearizabilityChecker(RegisterModel(), maximumSteps: 1000)
    #expect(checker.check(calls) == .undecided)
  }
}
