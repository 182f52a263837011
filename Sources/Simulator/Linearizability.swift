/// What one kind of object does when it is asked one thing at a time.
public protocol SequentialModel {
  associatedtype State: Hashable
  associatedtype Input
  associatedtype Output

  var initial: State { get }
  /// The state after the operation; nil where it cannot have answered that in this state.
  /// - Parameter output: nil where the answer is not known: then any is right.
  func apply(_ input: Input, _ output: Output?, to state: State) -> State?
}

/// One call of a client, as its history has it.
public struct Operation<Input, Output> {
  public var client: UInt64
  public var input: Input
  /// Nil where it was never answered: it may take effect at any later time, or never.
  public var output: Output?
  public var invoked: UInt64
  /// Of no meaning without an output, unless it is optional.
  public var completed: UInt64
  /// Without an output: it takes effect before it completed or never.
  public var isOptional = false

  public init(
    client: UInt64, input: Input, output: Output?, invoked: UInt64, completed: UInt64
  ) {
    self.client = client
    self.input = input
    self.output = output
    self.invoked = invoked
    self.completed = completed
  }
}

/// Whether a concurrent history is one that an object could have had which does one thing at a time, each between its call and its
/// answer (Herlihy and Wing 1990). The search is Wing and Gong's with Lowe's memory of what was tried (2017).
public struct LinearizabilityChecker<Model: SequentialModel> {
  public typealias Call = Operation<Model.Input, Model.Output>

  public enum Verdict: Equatable, Sendable {
    case linearizable
    /// No order explains the answers of these operations, numbered as they were given: those that could not be placed in
    /// the attempt that got furthest.
    case violated(unplaced: [Int])
    /// Given up after so many steps.
    case undecided
  }

  private struct Tried: Hashable {
    var done: [UInt64]
    var state: Model.State
  }

  private let model: Model
  private let maximumSteps: Int

  public init(_ model: Model, maximumSteps: Int = 5_000_000) {
    self.model = model
    self.maximumSteps = maximumSteps
  }

  /// A doubly linked list of calls and answers in order of time.
  private struct Timeline {
    var next: [Int]
    var previous: [Int]
    /// Of an event: its operation, and whether it is the answer.
    let operation: [Int]
    let isAnswer: [Bool]
    let callEvent: [Int]
    let answerEvent: [Int]
    static var head: Int { 0 }

    init(_ calls: [Call]) {
      var events: [(time: UInt64, isAnswer: Bool, operation: Int)] = []
      for (number, call) in calls.enumerated() {
        events.append((call.invoked, false, number))
        let isOpen = call.output == nil && !call.isOptional
        events.append((isOpen ? .max : call.completed, true, number))
      }
      // At the same time calls come first: it excludes less.
      events.sort {
        ($0.time, $0.isAnswer ? 1 : 0, $0.operation) < ($1.time, $1.isAnswer ? 1 : 0, $1.operation)
      }
      operation = [-1] + events.map(\.operation)
      isAnswer = [false] + events.map(\.isAnswer)
      var callEvent = [Int](repeating: 0, count: calls.count)
      var answerEvent = callEvent
      for (position, event) in events.enumerated() {
        if event.isAnswer {
          answerEvent[event.operation] = position + 1
        } else {
          callEvent[event.operation] = position + 1
        }
      }
      (self.callEvent, self.answerEvent) = (callEvent, answerEvent)
      next = Array(1...events.count) + [-1]
      previous = Array(-1..<events.count)
    }

    mutating func remove(_ operation: Int) {
      for event in [callEvent[operation], answerEvent[operation]] {
        next[previous[event]] = next[event]
        if next[event] >= 0 { previous[next[event]] = previous[event] }
      }
    }

    mutating func restore(_ operation: Int) {
      for event in [answerEvent[operation], callEvent[operation]] {
        next[previous[event]] = event
        if next[event] >= 0 { previous[next[event]] = event }
      }
    }
  }

  public func check(_ calls: [Call]) -> Verdict {
    guard !calls.isEmpty else { return .linearizable }
    var timeline = Timeline(calls)
    var state = model.initial
    var done = [UInt64](repeating: 0, count: (calls.count + 63) / 64)
    var tried: Set<Tried> = []
    var stack: [(operation: Int, before: Model.State, isLeftOut: Bool)] = []
    var answered = calls.count { $0.output != nil }
    var best: (unplaced: Int, done: [UInt64]) = (.max, done)
    var event = timeline.next[Timeline.head]
    for _ in 0..<maximumSteps {
      // Those that were never answered need not have happened.
      if answered == 0 { return .linearizable }
      if event >= 0 && !timeline.isAnswer[event] {
        let operation = timeline.operation[event]
        let call = calls[operation]
        if let after = model.apply(call.input, call.output, to: state) {
          done[operation / 64] |= 1 << UInt64(operation % 64)
          if tried.insert(Tried(done: done, state: after)).inserted {
            stack.append((operation, state, false))
            state = after
            if call.output != nil { answered -= 1 }
            timeline.remove(operation)
            event = timeline.next[Timeline.head]
            if answered < best.unplaced { best = (answered, done) }
            continue
          }
          done[operation / 64] &= ~(1 << UInt64(operation % 64))
        }
        event = timeline.next[event]
        continue
      }
      // All that could come before its end has been tried.
      if event >= 0, calls[timeline.operation[event]].isOptional {
        let operation = timeline.operation[event]
        done[operation / 64] |= 1 << UInt64(operation % 64)
        if tried.insert(Tried(done: done, state: state)).inserted {
          stack.append((operation, state, true))
          timeline.remove(operation)
          event = timeline.next[Timeline.head]
          continue
        }
        done[operation / 64] &= ~(1 << UInt64(operation % 64))
      }
      // An answer whose call has not been placed: something before it was placed wrongly.
      while let last = stack.last, last.isLeftOut {
        stack.removeLast()
        done[last.operation / 64] &= ~(1 << UInt64(last.operation % 64))
        timeline.restore(last.operation)
      }
      guard let (operation, before, _) = stack.popLast() else {
        let unplaced = calls.indices.filter {
          best.done[$0 / 64] & (1 << UInt64($0 % 64)) == 0 && calls[$0].output != nil
        }
        return .violated(unplaced: unplaced)
      }
      state = before
      done[operation / 64] &= ~(1 << UInt64(operation % 64))
      if calls[operation].output != nil { answered += 1 }
      timeline.restore(operation)
      event = timeline.next[timeline.callEvent[operation]]
    }
    return .undecided
  }
}
