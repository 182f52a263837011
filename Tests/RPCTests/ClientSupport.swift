import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Plays the world to a call's plan: no sockets, and time goes only where a test sends it.
struct PlanScript {
  var core: ClientCore
  var plan: CallPlan
  var now: UInt64 = 1_000_000_000
  /// Attempts begun and not yet ended.
  var running: [CallPlan.Attempt] = []
  var waits: [(timer: Int, until: UInt64)] = []
  var probes: [Int] = []
  var endings: [CallPlan.Action] = []
  var begun: [CallPlan.Attempt] = []

  static let millisecond: UInt64 = 1_000_000

  init(
    endpoints: Int = 3, ready: Bool = true, idempotency: Idempotency = .noSideEffects,
    timeoutMilliseconds: UInt64 = 10_000, waitsForReady: Bool = false, hedging: Hedging? = nil,
    policy: RetryPolicy = RetryPolicy(), health: HealthPolicy = HealthPolicy(),
    followsLeader: Bool = false, seed: UInt64 = 1
  ) {
    core = ClientCore(
      endpoints: endpoints, policy: policy, health: health, followsLeader: followsLeader,
      seed: seed)
    plan = CallPlan(
      method: "a/B", idempotency: idempotency,
      deadlineNanoseconds: now + timeoutMilliseconds * Self.millisecond,
      waitsForReady: waitsForReady, hedging: hedging)
    if ready {
      for endpoint in 0..<endpoints {
        let visit = core.balancer.begin(at: endpoint)
        core.end(visit, nil, now: 0)
      }
    }
  }

  /// Another call of the same client.
  mutating func next(
    idempotency: Idempotency = .noSideEffects, timeoutMilliseconds: UInt64 = 10_000,
    hedging: Hedging? = nil
  ) {
    plan = CallPlan(
      method: "a/B", idempotency: idempotency,
      deadlineNanoseconds: now + timeoutMilliseconds * Self.millisecond, hedging: hedging)
    (running, waits, probes, endings, begun) = ([], [], [], [], [])
  }

  mutating func step(_ event: CallPlan.Event) {
    for action in plan.step(event, now: now, &core) {
      switch action {
      case .attempt(let attempt):
        running.append(attempt)
        begun.append(attempt)
      case .wait(let timer, let until): waits.append((timer, until))
      case .probe(let endpoint): probes.append(endpoint)
      case .succeed, .fail: endings.append(action)
      }
    }
  }

  mutating func begin() { step(.begin) }

  mutating func succeed() { step(.succeeded(attempt: running.removeFirst().id)) }

  mutating func fail(_ error: RPCError, hinted: Int? = nil, index: Int = 0) {
    step(.failed(attempt: running.remove(at: index).id, error, hinted: hinted))
  }

  /// The earliest wait is over.
  mutating func elapse() {
    guard let index = waits.indices.min(by: { waits[$0].until < waits[$1].until }) else {
      Issue.record("nothing to wait for")
      return
    }
    let wait = waits.remove(at: index)
    now = max(now, wait.until)
    step(.timer(wait.timer))
  }

  var error: RPCError? {
    if case .fail(let error) = endings.first { error } else { nil }
  }

  /// How long the only wait lasts.
  var waitMilliseconds: Double? {
    waits.count == 1 ? Double(waits[0].until - now) / Double(Self.millisecond) : nil
  }
}

extension RPCError {
  /// As it is when it came in a trailer.
  var answered: RPCError { RPCError(receivedIn: Trailer(answering: self)) ?? self }
}

let unavailable = RPCError(.unavailable, "trouble").answered
let overloaded = RPCError(.resourceExhausted, "busy", reason: "Overloaded").answered
let draining = RPCError(.unavailable, "bye", reason: "Draining").asRefusal.answered
let unreachable = RPCError(.unavailable, "cannot connect").asUnsent
let connectionLost = RPCError(.unavailable, "the peer closed the connection")

/// A method that may be asked for twice, and the same one without that mark.
let question = SlaveCloudMethods.slaveStatus
let onceOnly = Method<Empty, SlaveStatusReply>(
  question.name, clientStreams: false, serverStreams: false)

/// Several servers of one authority, and what each was asked.
final class Cluster: Sendable {
  let harnesses: [Harness]
  let authority: TestAuthority

  /// - Parameter body: gets the server's index.
  init(
    _ count: Int,
    _ body: @escaping @Sendable (Int, CallContext) async throws -> SlaveStatusReply
  ) throws {
    let authority = try TestAuthority()
    self.authority = authority
    harnesses = try (0..<count).map { index in
      try Harness(
        authority: authority, credentials: authority.credentials(.slave, "scs-\(index + 1)")
      ) { router in
        router.unary(question) { _, context in try await body(index, context) }
      }
    }
  }

  func address(_ index: Int) -> Address {
    Address(host: "127.0.0.1", port: harnesses[index].server.port)
  }

  /// - Parameter addresses: of `servers`, where they are not this cluster's.
  func client(
    _ configuration: ServiceClient.Configuration = .init(), servers: [Int]? = nil,
    at addresses: [Address]? = nil, seed: UInt64 = 1
  ) throws -> ServiceClient {
    let servers = servers ?? Array(harnesses.indices)
    return ServiceClient(
      servers.map {
        ServiceClient.Endpoint(addresses?[$0] ?? address($0), node: "scs-\($0 + 1)")
      },
      tls: try .client(authority.credentials(.master, "node-1")),
      expecting: PeerExpectation(cluster: "test", role: .slave), group: harnesses[0].group,
      logger: harnesses[0].logger, configuration: configuration,
      entropy: SeededEntropy(seed: seed))
  }

  func stop() async {
    for harness in harnesses { await harness.stop() }
  }
}

func reply(_ shadows: Int) -> SlaveStatusReply {
  var reply = SlaveStatusReply()
  reply.shadows = UInt64(shadows)
  return reply
}

extension ServiceClient {
  func ask(
    _ method: Method<Empty, SlaveStatusReply> = question,
    _ options: CallOptions = CallOptions(timeout: .seconds(60))
  ) async throws(RPCError) -> Int {
    Int(try await unary(method, Empty(), options).shadows)
  }

  /// Calls until every server has answered, so that all addresses are known to be ready.
  func warmUp(servers: Int) async throws {
    var met: Set<Int> = []
    while met.count < servers, !Task.isCancelled { met.insert(try await ask()) }
  }
}
