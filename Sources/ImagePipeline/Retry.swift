import RPC

/// Repeats what failed for want of an answer, waiting longer each time, with jitter.
public struct Retry: Sendable {
  /// How often the work is tried at most; nil: until the call's deadline.
  public var maximumAttempts: Int?
  public var firstDelayMilliseconds = 50.0
  public var maximumDelayMilliseconds = 2000.0
  private static let factor = 2.0
  private static let leaderDelayMilliseconds = 30.0

  /// For work whose result is worth the whole deadline, such as an upload.
  public static let untilDeadline = Retry(maximumAttempts: nil)
  /// For questions, where a person would rather hear that the master is away.
  public static let briefly = Retry(maximumAttempts: 4)

  public init(maximumAttempts: Int?) { self.maximumAttempts = maximumAttempts }

  /// Runs `body`, which must be safe to repeat. Repeated are UNAVAILABLE, ABORTED (another attempt
  /// was in the way) and RESOURCE_EXHAUSTED with the reason "Overloaded" (a server that sheds load).
  ///
  /// Where the deadline leaves no time for another attempt, the error that stopped the last one is
  /// thrown: it tells more than DEADLINE_EXCEEDED would.
  public func run<Result: Sendable>(
    within context: CallContext, _ body: @Sendable () async throws -> Result
  ) async throws -> Result {
    var delay = firstDelayMilliseconds
    var attempt = 1
    while true {
      do {
        return try await body()
      } catch let error as RPCError where Self.mayRepeat(error) {
        if let maximumAttempts, attempt >= maximumAttempts, error.notLeader == nil { throw error }
        // A leader is elected in a moment; whoever waits longer each time comes late.
        if error.notLeader != nil { delay = min(delay, Self.leaderDelayMilliseconds) }
        // Jitter, so that the calls that one restart broke do not all return together.
        let pause = Duration.milliseconds(delay * Double.random(in: 0.8...1.2))
        guard pause < context.remaining else { throw error }
        try await Task.sleep(for: pause)
        delay = min(delay * Self.factor, maximumDelayMilliseconds)
        attempt += 1
      }
    }
  }

  private static func mayRepeat(_ error: RPCError) -> Bool {
    switch error.code {
    case .unavailable, .aborted: true
    case .resourceExhausted: error.reason == "Overloaded"
    default: false
    }
  }
}
