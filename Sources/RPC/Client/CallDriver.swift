import Base

extension ServiceClient {
  /// One thing after the other: an attempt, a wait, an attempt.
  ///
  /// - Parameter goesOn: the visit lasts beyond the attempt's success.
  func run<Value: Sendable>(
    _ initial: CallPlan, goesOn: Bool,
    _ body: @Sendable (CallPlan.Attempt) async -> Result<Value, RPCError>
  ) async throws(RPCError) -> Value {
    var plan = initial
    var event = CallPlan.Event.begin
    while true {
      let actions = step(&plan, event)
      var next: CallPlan.Event?
      for action in actions {
        switch action {
        case .probe(let endpoint): probe(endpoint)
        case .attempt(let attempt):
          switch await body(attempt) {
          case .success(let value):
            let end = CallPlan.Event.handedOver(attempt: attempt.id)
            _ = step(&plan, goesOn ? end : .succeeded(attempt: attempt.id))
            return value
          case .failure(let error):
            next = .failed(attempt: attempt.id, error, hinted: leader(namedIn: error))
          }
        case .wait(let timer, let until): next = await Self.wait(timer, until)
        case .fail(let error): throw error
        case .succeed(let attempt): preconditionFailure("attempt \(attempt) ended twice")
        }
      }
      guard let following = next else { preconditionFailure("nothing follows \(event)") }
      event = following
    }
  }

  private enum Occurrence<Value: Sendable>: Sendable {
    case answered(Int, Value)
    case event(CallPlan.Event)
  }

  /// Several attempts at once: what has lost is cancelled, and has ended before this returns.
  func runHedged<Value: Sendable>(
    _ initial: CallPlan,
    _ body: @escaping @Sendable (CallPlan.Attempt) async -> Result<Value, RPCError>
  ) async throws(RPCError) -> Value {
    let outcome = await withTaskGroup(of: Occurrence<Value>.self) { group in
      var plan = initial
      var outcome: Result<Value, RPCError>?
      var pending: Occurrence<Value>? = .event(.begin)
      while let occurrence = pending {
        let (event, value) = Self.event(of: occurrence)
        for action in step(&plan, event) {
          switch action {
          case .probe(let endpoint): probe(endpoint)
          case .attempt(let attempt):
            group.addTask { [self] in
              switch await body(attempt) {
              case .success(let value): .answered(attempt.id, value)
              case .failure(let error):
                .event(.failed(attempt: attempt.id, error, hinted: leader(namedIn: error)))
              }
            }
          case .wait(let timer, let until):
            group.addTask { .event(await Self.wait(timer, until)) }
          case .succeed: outcome = value.map { .success($0) }
          case .fail(let error): outcome = .failure(error)
          }
        }
        if outcome != nil { group.cancelAll() }
        pending = await group.next()
      }
      return outcome
    }
    guard let outcome else { preconditionFailure("a call without an end") }
    return try outcome.get()
  }

  private static func event<Value>(
    of occurrence: Occurrence<Value>
  ) -> (CallPlan.Event, Value?) {
    switch occurrence {
    case .answered(let attempt, let value): (.succeeded(attempt: attempt), value)
    case .event(let event): (event, nil)
    }
  }

  private static func wait(_ timer: Int, _ until: UInt64) async -> CallPlan.Event {
    let now = SystemClock().monotonicNanoseconds()
    do {
      if until > now { try await Task.sleep(nanoseconds: until - now) }
      return .timer(timer)
    } catch {
      return .cancelled
    }
  }
}

/// Hears how a call ended; the first word counts.
protocol CallObserver: AnyObject, Sendable {
  /// - Parameter error: nil for a good end.
  func ended(_ error: RPCError?)
}

/// A stream's stay at its address: counts there until it has ended or nobody holds it any more.
final class Stay: CallObserver {
  private let client: ServiceClient
  private let visit: Balancer.Visit
  private let isCounted = Locked(false)

  init(_ client: ServiceClient, _ visit: Balancer.Visit) {
    self.client = client
    self.visit = visit
  }

  deinit { ended(RPCError(.cancelled, "the caller gave up")) }

  /// From here on the stream, not the plan that opened it, says how the visit ends.
  func begin() { isCounted.withLock { $0 = true } }

  func ended(_ error: RPCError?) {
    let counts = isCounted.withLock { isCounted in
      defer { isCounted = false }
      return isCounted
    }
    if counts { client.ended(visit, error) }
  }
}
