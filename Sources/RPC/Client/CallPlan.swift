import Messages

/// What becomes of one call: which attempts are made, when, where, and which of them decides.
///
/// A value without clock or sockets: whoever drives it performs the actions and says what came of them.
/// After `finish` the rest is cancelled; its ends are still told, so that the addresses' counts stay right.
struct CallPlan {
  struct Attempt: Equatable, Sendable {
    /// Tells the attempts of this call apart.
    let id: Int
    /// 1 is the first; one that never left the client is not counted. Travels as `sfmedir-attempt`.
    let number: Int
    let visit: Balancer.Visit
    let timeoutNanoseconds: UInt64

    var endpoint: Int { visit.endpoint }
  }

  enum Event: Sendable {
    case begin
    case succeeded(attempt: Int)
    /// A stream has begun: whoever holds it says how its visit ends.
    case handedOver(attempt: Int)
    /// - Parameter hinted: the address of the leader that the error names, where the client may go to it.
    case failed(attempt: Int, RPCError, hinted: Int?)
    case timer(Int)
    /// The caller gave up while nothing but a timer ran.
    case cancelled
  }

  enum Action: Equatable {
    case attempt(Attempt)
    /// Tell `.timer` when this time has come (nanoseconds).
    case wait(timer: Int, until: UInt64)
    case probe(Int)
    /// With the answer of this attempt.
    case succeed(attempt: Int)
    case fail(RPCError)
  }

  private let method: String
  private let idempotency: Idempotency
  private let deadline: UInt64
  private let waitsForReady: Bool
  private let hedging: Hedging?
  private var inFlight: [Attempt] = []
  private var tried: [Int] = []
  private var identifiers = 0
  /// Attempts that are counted against the policy's maximum.
  private var spent = 0
  /// Attempts that may have reached a server.
  private var sent = 0
  private var hedges = 0
  private var retries = 0
  private var redirects = 0
  private var leaderWaits = 0
  private var retryTimer: Int?
  private var hedgeTimer: Int?
  private var lastError: RPCError?
  private(set) var isFinished = false

  /// - Parameter hedging: is heeded for methods without side effects only.
  init(
    method: String, idempotency: Idempotency, deadlineNanoseconds: UInt64,
    waitsForReady: Bool = false, hedging: Hedging? = nil
  ) {
    self.method = method
    self.idempotency = idempotency
    self.deadline = deadlineNanoseconds
    self.waitsForReady = waitsForReady
    self.hedging = idempotency == .noSideEffects ? hedging : nil
  }

  /// More than one thing may be under way at once.
  var mayHedge: Bool { hedging != nil }

  mutating func step(_ event: Event, now: UInt64, _ core: inout ClientCore) -> [Action] {
    switch event {
    case .begin:
      spent = 1
      return start(now, &core)
    case .succeeded(let id):
      guard let attempt = remove(id) else { return [] }
      core.end(attempt.visit, nil, now: now)
      core.budget.succeeded()
      if isFinished { return [] }
      isFinished = true
      return [.succeed(attempt: id)]
    case .handedOver(let id):
      guard remove(id) != nil, !isFinished else { return [] }
      isFinished = true
      return [.succeed(attempt: id)]
    case .failed(let id, let error, let hinted):
      guard let attempt = remove(id) else { return [] }
      core.end(attempt.visit, error, now: now)
      if error.standing == .unsent { sent -= 1 }
      return isFinished ? [] : failed(attempt, error, hinted, now, &core)
    case .timer(let timer):
      if isFinished { return [] }
      if timer == retryTimer {
        retryTimer = nil
        return start(now, &core)
      }
      guard timer == hedgeTimer else { return [] }
      hedgeTimer = nil
      return hedge(now, &core)
    case .cancelled:
      return isFinished ? [] : fail(RPCError(.cancelled, "the caller cancelled"))
    }
  }

  private mutating func remove(_ id: Int) -> Attempt? {
    guard let index = inFlight.firstIndex(where: { $0.id == id }) else { return nil }
    return inFlight.remove(at: index)
  }

  // MARK: attempts

  private mutating func start(
    _ now: UInt64, at target: Int? = nil, _ core: inout ClientCore
  ) -> [Action] {
    guard now < deadline else {
      return fail(RPCError(.deadlineExceeded, "no time is left for \(method)"))
    }
    let visit = core.begin(avoiding: tried, at: target)
    tried.removeAll { $0 == visit.endpoint }
    tried.append(visit.endpoint)
    identifiers += 1
    sent += 1
    core.count(\.attempts)
    let attempt = Attempt(
      id: identifiers, number: sent, visit: visit, timeoutNanoseconds: deadline - now)
    inFlight.append(attempt)
    var actions: [Action] = []
    // First: whoever performs these in turn waits for the attempt.
    for other in core.balancer.dueProbes(besides: visit.endpoint, now: now) {
      core.count(\.probes)
      actions.append(.probe(other))
    }
    actions.append(.attempt(attempt))
    if let hedging, hedges + 1 < hedging.attempts, core.balancer.count > 1 {
      let delay = hedging.delay.wholeNanoseconds
      if delay < deadline - now {
        hedgeTimer = nextTimer()
        actions.append(.wait(timer: hedgeTimer!, until: now + delay))
      }
    }
    return actions
  }

  /// Another attempt beside those under way, at a ready address that has none of them.
  private mutating func hedge(_ now: UInt64, _ core: inout ClientCore) -> [Action] {
    guard let hedging, hedges + 1 < hedging.attempts, spent < core.policy.maximumAttempts,
      !inFlight.isEmpty, core.balancer.hasReady(besides: tried)
    else { return [] }
    guard core.budget.allowsMore else {
      core.count(\.budgetRefusals)
      return []
    }
    core.budget.spend()
    core.count(\.hedges)
    hedges += 1
    spent += 1
    let other = core.balancer.pick(avoiding: tried, strictly: true, &core.dice)
    return start(now, at: other, &core)
  }

  private mutating func nextTimer() -> Int {
    identifiers += 1
    return identifiers
  }

  private mutating func fail(_ error: RPCError) -> [Action] {
    isFinished = true
    // That time ran out says less than what it ran out over.
    guard error.code == .deadlineExceeded, let lastError, lastError != error else {
      return [.fail(error)]
    }
    var error = error
    error.message += "; before that: \(lastError)"
    return [.fail(error)]
  }

  // MARK: failures

  private mutating func failed(
    _ attempt: Attempt, _ error: RPCError, _ hinted: Int?, _ now: UInt64, _ core: inout ClientCore
  ) -> [Action] {
    if !inFlight.isEmpty {
      lastError = error
      return failedBesideOthers(error, now, &core)
    }
    defer { lastError = error }
    if core.followsLeader, error.wasNotStarted, let notLeader = error.notLeader {
      let leader = core.leadership.denied(
        by: attempt.endpoint, hinted: hinted, term: notLeader.term)
      return seekLeader(leader, error, now, &core)
    }
    if RetryRules.mayMove(error), core.balancer.hasHope(besides: tried) {
      core.count(\.failovers)
      let other = core.balancer.pick(avoiding: tried, strictly: true, &core.dice)
      return start(now, at: other, &core)
    }
    if core.followsLeader, core.policy.waitsForLostLeader, error.standing == .unsent,
      RetryRules.isTransient(error)
    {
      return seekLeader(nil, error, now, &core)
    }
    if waitsForReady, error.standing == .unsent, RetryRules.isTransient(error) {
      // Nothing reaches a server, so nothing is counted: the channel paces its connections.
      retries += 1
      return wait(before: retries - 1, error, now, &core)
    }
    if RetryRules.isTransient(error) { core.budget.spend() }
    guard RetryRules.mayRepeat(error, idempotency), spent < core.policy.maximumAttempts else {
      return fail(error)
    }
    guard core.budget.allowsMore else {
      core.count(\.budgetRefusals)
      return fail(error)
    }
    let actions = wait(before: retries, error, now, &core)
    if !isFinished {
      core.count(\.retries)
      retries += 1
      spent += 1
    }
    return actions
  }

  private mutating func failedBesideOthers(
    _ error: RPCError, _ now: UInt64, _ core: inout ClientCore
  ) -> [Action] {
    if RetryRules.isFinal(error) { return fail(error) }
    if RetryRules.isTransient(error), !(core.followsLeader && error.notLeader != nil) {
      core.budget.spend()
    }
    if error.pushBack == .never {
      // The server that says so speaks for its whole kind.
      hedges = Int.max - 1
      return []
    }
    return hedge(now, &core)
  }

  private mutating func seekLeader(
    _ leader: Int?, _ error: RPCError, _ now: UInt64, _ core: inout ClientCore
  ) -> [Action] {
    if let leader, redirects < core.policy.maximumRedirects {
      redirects += 1
      core.count(\.redirects)
      return start(now, at: leader, &core)
    }
    // Also where two servers name each other: they will agree in a while.
    guard leaderWaits < core.policy.maximumLeaderWaits else { return fail(error) }
    leaderWaits += 1
    redirects = 0
    let actions = wait(before: leaderWaits - 1, error, now, &core)
    if !isFinished { core.count(\.leaderWaits) }
    return actions
  }

  /// Waits before the next attempt; fails with `error` where the deadline leaves no time for one.
  private mutating func wait(
    before number: Int, _ error: RPCError, _ now: UInt64, _ core: inout ClientCore
  ) -> [Action] {
    var delay = core.policy.delayNanoseconds(beforeRetry: number, unit: core.dice.unit())
    if case .after(let milliseconds) = error.pushBack {
      let asked = Double(milliseconds) * (1 + 0.2 * core.dice.unit()) * 1_000_000
      delay = max(delay, UInt64(asked))
    }
    guard now < deadline, delay < deadline - now else { return fail(error) }
    // Where every address has been tried, the last one alone is avoided.
    if tried.count == core.balancer.count { tried.removeFirst(tried.count - 1) }
    retryTimer = nextTimer()
    return [.wait(timer: retryTimer!, until: now + delay)]
  }
}
