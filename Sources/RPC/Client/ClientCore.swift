import Messages

/// What all calls of one client share. A value; its client keeps it behind a lock.
struct ClientCore {
  let policy: RetryPolicy
  let followsLeader: Bool
  var balancer: Balancer
  var budget: RetryBudget
  var leadership = Leadership()
  var dice: Dice
  private(set) var counted = ClientCounters()

  init(
    endpoints: Int, policy: RetryPolicy = RetryPolicy(), health: HealthPolicy = HealthPolicy(),
    followsLeader: Bool = false, seed: UInt64
  ) {
    self.policy = policy
    self.followsLeader = followsLeader
    balancer = Balancer(count: endpoints, policy: health)
    budget = RetryBudget(capacity: policy.budgetTokens, ratio: policy.budgetRatio)
    dice = Dice(seed: seed)
  }

  var counters: ClientCounters {
    var counters = counted
    counters.ejections = balancer.ejections
    return counters
  }

  mutating func count(_ counter: WritableKeyPath<ClientCounters, UInt64>) {
    counted[keyPath: counter] += 1
  }

  /// The address for an attempt: the leader's where one is followed and known.
  mutating func begin(avoiding tried: [Int], at target: Int?) -> Balancer.Visit {
    let chosen =
      target ?? (followsLeader ? leadership.endpoint : nil)
      ?? balancer.pick(avoiding: tried, &dice)
    return balancer.begin(at: chosen)
  }

  mutating func end(_ visit: Balancer.Visit, _ error: RPCError?, now: UInt64) {
    let verdict = error.map(Self.verdict) ?? .good
    balancer.end(visit, verdict, now: now, &dice)
    if verdict == .lost || verdict == .unreachable { leadership.unreachable(visit.endpoint) }
  }

  /// What a failed call says about the address it was at, not about the call.
  static func verdict(_ error: RPCError) -> Balancer.Verdict {
    switch (error.standing, error.code) {
    // Its connection is full, which is no fault.
    case (.unsent, .resourceExhausted): .none
    case (.unsent, .cancelled), (.unsent, .deadlineExceeded): .none
    case (.unsent, _): .unreachable
    case (.refused, .unavailable): error.notLeader == nil ? .unreachable : .good
    case (.plain, .unavailable): .lost
    case (.plain, .cancelled): .none
    case (_, .unavailable), (_, .deadlineExceeded), (_, .internalError), (_, .unknown): .failed
    case (_, .resourceExhausted): RetryRules.isTransient(error) ? .failed : .good
    default: .good
    }
  }
}

/// Which errors are worth making a call again for (docs/formats/wire.md, "Worth repeating").
enum RetryRules {
  /// A later attempt may fare better.
  static func isTransient(_ error: RPCError) -> Bool {
    switch error.code {
    case .unavailable, .aborted: true
    case .resourceExhausted:
      error.reason == "Overloaded" || error.pushBack != nil || error.wasNotStarted
    default: false
    }
  }

  static func mayRepeat(_ error: RPCError, _ idempotency: Idempotency) -> Bool {
    guard error.pushBack != .never, isTransient(error) else { return false }
    return error.wasNotStarted || idempotency != .unknown
  }

  /// Nothing of the call was begun at this address, and that was not for too many calls: those that it
  /// turns away must not all fall upon the next one.
  static func mayMove(_ error: RPCError) -> Bool {
    guard error.pushBack != .never else { return false }
    // An address whose certificate is refused may stand beside one whose certificate is in order.
    return error.standing == .unsent
      ? error.code != .cancelled && error.code != .deadlineExceeded
      : error.standing == .refused && error.code == .unavailable
  }

  /// The request itself is answered: no other address would say anything else.
  static func isFinal(_ error: RPCError) -> Bool {
    switch error.code {
    case .invalidArgument, .notFound, .alreadyExists, .permissionDenied, .failedPrecondition,
      .outOfRange, .unimplemented:
      true
    case .unauthenticated: error.standing != .unsent
    default: false
    }
  }
}
