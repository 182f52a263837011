/// Which of several addresses gets the next attempt. A value without clock or sockets.
///
/// Of two ready addresses chosen at random the one with fewer calls in flight (Mitzenmacher, "The power of two choices in
/// randomized load balancing", 2001). An address that cannot be reached, drains or fails several calls in a
/// row is out for a while; then a probe connects to it, and a call that fails after that puts it out for longer.
struct Balancer {
  /// One attempt's stay at an address.
  struct Visit: Equatable, Sendable {
    let endpoint: Int
    /// What began before the address went out says nothing about it after that.
    let generation: Int
  }

  /// What an attempt says about its address.
  enum Verdict: Equatable {
    case good
    case failed
    /// The connection broke under the call: whether a new one can be made is asked at once.
    case lost
    /// Takes no calls now.
    case unreachable
    /// Says nothing, for instance a cancelled call.
    case none
  }

  enum Condition: Equatable {
    case ready
    /// Until then no probe is made (nanoseconds). Addresses begin with 0: nothing is known of them.
    case out(until: UInt64)
    case probing
  }

  private struct Endpoint {
    var condition = Condition.out(until: 0)
    var callsInFlight = 0
    var failures = 0
    var ejections = 0
    var generation = 0
  }

  private let policy: HealthPolicy
  private var endpoints: [Endpoint]
  private(set) var ejections: UInt64 = 0

  init(count: Int, policy: HealthPolicy) {
    precondition(count > 0, "no address")
    self.policy = policy
    endpoints = Array(repeating: Endpoint(), count: count)
  }

  var count: Int { endpoints.count }

  func condition(of endpoint: Int) -> Condition { endpoints[endpoint].condition }

  func callsInFlight(at endpoint: Int) -> Int { endpoints[endpoint].callsInFlight }

  mutating func add() -> Int {
    endpoints.append(Endpoint())
    return endpoints.count - 1
  }

  func isReady(_ endpoint: Int) -> Bool { endpoints[endpoint].condition == .ready }

  func hasReady(besides tried: [Int]) -> Bool {
    endpoints.indices.contains { isReady($0) && !tried.contains($0) }
  }

  /// Ready, or nothing bad is known of it yet.
  private func isHopeful(_ endpoint: Int) -> Bool {
    isReady(endpoint) || endpoints[endpoint].generation == 0
  }

  func hasHope(besides tried: [Int]) -> Bool {
    endpoints.indices.contains { isHopeful($0) && !tried.contains($0) }
  }

  /// The address for an attempt of a call that was at `tried` before.
  ///
  /// - Parameter strictly: not at one of them again while there is any other.
  func pick(avoiding tried: [Int], strictly: Bool = false, _ dice: inout Dice) -> Int {
    // Where nothing is ready, one that is out gets the call: perhaps it is back, and the error says why not.
    func rank(_ endpoint: Int) -> Int {
      let rank = isReady(endpoint) ? 0 : isHopeful(endpoint) ? 2 : 4
      return tried.contains(endpoint) ? rank + (strictly ? 6 : 1) : rank
    }
    var (best, candidates) = (Int.max, 0)
    for endpoint in endpoints.indices {
      let rank = rank(endpoint)
      if rank < best { (best, candidates) = (rank, 0) }
      if rank == best { candidates += 1 }
    }
    func candidate(_ number: Int) -> Int {
      var left = number
      for endpoint in endpoints.indices where rank(endpoint) == best {
        if left == 0 { return endpoint }
        left -= 1
      }
      preconditionFailure("candidate \(number) of \(candidates)")
    }
    let first = dice.below(candidates)
    if candidates == 1 { return candidate(first) }
    var second = dice.below(candidates - 1)
    if second >= first { second += 1 }
    let (left, right) = (candidate(first), candidate(second))
    return endpoints[right].callsInFlight < endpoints[left].callsInFlight ? right : left
  }

  mutating func begin(at endpoint: Int) -> Visit {
    endpoints[endpoint].callsInFlight += 1
    return Visit(endpoint: endpoint, generation: endpoints[endpoint].generation)
  }

  mutating func end(_ visit: Visit, _ verdict: Verdict, now: UInt64, _ dice: inout Dice) {
    let endpoint = visit.endpoint
    endpoints[endpoint].callsInFlight -= 1
    guard visit.generation == endpoints[endpoint].generation else { return }
    switch verdict {
    case .none: break
    case .good:
      endpoints[endpoint].condition = .ready
      endpoints[endpoint].failures = 0
      endpoints[endpoint].ejections = 0
    case .failed:
      endpoints[endpoint].failures += 1
      if endpoints[endpoint].failures >= policy.maximumFailures { eject(endpoint, now, &dice) }
    case .lost:
      endpoints[endpoint].condition = .out(until: now)
      endpoints[endpoint].generation += 1
    case .unreachable: eject(endpoint, now, &dice)
    }
  }

  private mutating func eject(_ endpoint: Int, _ now: UInt64, _ dice: inout Dice) {
    ejections += 1
    endpoints[endpoint].ejections += 1
    let delay = policy.ejectionNanoseconds(
      number: endpoints[endpoint].ejections, unit: dice.unit())
    endpoints[endpoint].condition = .out(until: now + delay)
    endpoints[endpoint].generation += 1
  }

  /// The addresses to which a probe is to be made now; `endpoint` gets a call anyway.
  mutating func dueProbes(besides endpoint: Int, now: UInt64) -> [Int] {
    var due: [Int] = []
    for other in endpoints.indices where other != endpoint {
      guard case .out(let until) = endpoints[other].condition, until <= now else { continue }
      endpoints[other].condition = .probing
      due.append(other)
    }
    return due
  }

  mutating func probed(_ endpoint: Int, connected: Bool, now: UInt64, _ dice: inout Dice) {
    // A call may have been there first.
    guard endpoints[endpoint].condition == .probing else { return }
    if connected {
      endpoints[endpoint].condition = .ready
      // On trial, unless it had never failed: it answers connections, which is not yet calls.
      if endpoints[endpoint].ejections > 0 {
        endpoints[endpoint].failures = max(0, policy.maximumFailures - 1)
      }
    } else {
      eject(endpoint, now, &dice)
    }
  }
}
