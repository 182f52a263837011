import Base
import Logging
import Messages

/// Calls to one service at several addresses: balanced, repeated where that is safe, hedged, sent on to the leader.
///
/// A call ends once, with one status, within its one deadline: each attempt is given what is left of it.
/// Cancelling the caller's task cancels all its attempts.
public final class ServiceClient: Sendable {
  /// A server's address, and its node's name where it must be that one.
  public struct Endpoint: Sendable, Equatable {
    public var address: Address
    public var node: String?

    public init(_ address: Address, node: String? = nil) {
      self.address = address
      self.node = node
    }
  }

  public struct Configuration: Sendable {
    public var retries = RetryPolicy()
    public var health = HealthPolicy()
    public var limits = ConnectionLimits()
    /// Go where a `NotLeader` answer points, and there first with later calls.
    public var followsLeader = false
    /// Where the leader that an answer names is reached, if it is none of the configured addresses; nil
    /// refuses. Without this function a server can send a client to the configured addresses only.
    public var findLeader: (@Sendable (NotLeader) -> Endpoint?)?

    public init() {}
  }

  private struct State {
    var core: ClientCore
    var endpoints: [Endpoint]
    var channels: [Channel]
    var added = 0
    var isClosed = false
  }

  private let state: Locked<State>
  private let configuration: Configuration
  private let makeChannel: @Sendable (Endpoint) -> Channel

  /// Addresses that `findLeader` may add, all together.
  private static let maximumAddedEndpoints = 16

  /// - Parameters:
  ///   - endpoints: at least one.
  ///   - expectation: cluster and role of all of them; its node is that of endpoints that name none.
  ///   - entropy: seeds the dice that choose addresses and waits.
  public convenience init(
    _ endpoints: [Endpoint], tls: TLSContext, expecting expectation: PeerExpectation,
    group: EventLoopGroup, logger: Logger, configuration: Configuration = Configuration(),
    entropy: any Entropy = SystemEntropy(), interceptors: [any ClientInterceptor] = []
  ) {
    let makeChannel = { @Sendable (endpoint: Endpoint) in
      Channel(
        address: endpoint.address, tls: tls,
        expecting: PeerExpectation(
          cluster: expectation.cluster, role: expectation.role,
          node: endpoint.node ?? expectation.node),
        group: group, logger: logger, limits: configuration.limits, interceptors: interceptors)
    }
    self.init(
      endpoints, channels: endpoints.map(makeChannel), configuration: configuration,
      entropy: entropy, makeChannel: makeChannel)
  }

  /// Over channels that its caller has made; ``close()`` closes them.
  public convenience init(
    over channels: [Channel], configuration: Configuration = Configuration(),
    entropy: any Entropy = SystemEntropy()
  ) {
    self.init(
      channels.map { Endpoint($0.address) }, channels: channels, configuration: configuration,
      entropy: entropy, makeChannel: { _ in channels[0] })
  }

  private init(
    _ endpoints: [Endpoint], channels: [Channel], configuration: Configuration,
    entropy: any Entropy, makeChannel: @escaping @Sendable (Endpoint) -> Channel
  ) {
    self.configuration = configuration
    self.makeChannel = makeChannel
    let core = ClientCore(
      endpoints: endpoints.count, policy: configuration.retries, health: configuration.health,
      followsLeader: configuration.followsLeader, seed: entropy.uniform(below: .max))
    state = Locked(State(core: core, endpoints: endpoints, channels: channels))
  }

  /// Where it calls, for people.
  public var addresses: String {
    state.withLock { $0.endpoints.map { "\($0.address)" }.joined(separator: ", ") }
  }

  /// What this client has done so far.
  public var counters: ClientCounters { state.withLock { $0.core.counters } }

  /// At all addresses together, for tests and status.
  public var callsInFlight: Int {
    state.withLock { state in
      (0..<state.core.balancer.count).reduce(0) { $0 + state.core.balancer.callsInFlight(at: $1) }
    }
  }

  /// Configured addresses and those that `findLeader` added.
  public var endpointCount: Int { state.withLock { $0.endpoints.count } }

  /// No more calls; running ones end.
  public func close() {
    let channels = state.withLock { state in
      state.isClosed = true
      return state.channels
    }
    for channel in channels { channel.close() }
  }

  // MARK: calls

  /// One message there, one message back.
  ///
  /// Made again, under the policy and its budget, after UNAVAILABLE, ABORTED and overload where the schema marks the
  /// method as idempotent or without side effects; any other method only where nothing of it was begun.
  public func unary<Request, Reply>(
    _ method: Method<Request, Reply>, _ request: Request, _ options: CallOptions
  ) async throws(RPCError) -> Reply {
    let plan = plan(method.name, method.idempotency, options)
    let attempt = { @Sendable (attempt: CallPlan.Attempt) async -> Result<Reply, RPCError> in
      do throws(RPCError) {
        let channel = try self.channel(attempt.endpoint)
        return .success(
          try await channel.unary(method, request, Self.options(options, for: attempt)))
      } catch {
        return .failure(error)
      }
    }
    return plan.mayHedge
      ? try await runHedged(plan, attempt) : try await run(plan, goesOn: false, attempt)
  }

  /// Begins a call of any shape. Only the beginning is made again, elsewhere, where no connection could be
  /// made: what a stream did before it failed is known to its caller alone.
  public func open<Request, Reply>(
    _ method: Method<Request, Reply>, _ options: CallOptions
  ) async throws(RPCError) -> ClientCall<Request, Reply> {
    let plan = plan(method.name, .unknown, options)
    return try await run(plan, goesOn: true) { attempt in
      let stay = Stay(self, attempt.visit)
      var options = Self.options(options, for: attempt)
      options.observer = stay
      do throws(RPCError) {
        let call = try await self.channel(attempt.endpoint).open(method, options)
        stay.begin()
        return .success(call)
      } catch {
        return .failure(error)
      }
    }
  }

  private func plan(
    _ method: String, _ idempotency: Idempotency, _ options: CallOptions
  ) -> CallPlan {
    CallPlan(
      method: method, idempotency: idempotency,
      deadlineNanoseconds: SystemClock().monotonicNanoseconds() + options.timeout.wholeNanoseconds,
      waitsForReady: options.waitsForReady, hedging: options.hedging)
  }

  private static func options(
    _ options: CallOptions, for attempt: CallPlan.Attempt
  ) -> CallOptions {
    var options = options
    options.timeout = .nanoseconds(Int64(attempt.timeoutNanoseconds))
    // Waiting at one address would keep the call from the others.
    options.waitsForReady = false
    // Where a call goes next is decided here, with all addresses in view.
    options.movesWithinChannel = false
    options.metadata = AttemptNumber.metadata(options.metadata, attempt: attempt.number)
    return options
  }

  func channel(_ endpoint: Int) throws(RPCError) -> Channel {
    let channel = state.withLock { $0.isClosed ? nil : $0.channels[endpoint] }
    guard let channel else { throw RPCError(.cancelled, "the client is closed") }
    return channel
  }

  // MARK: for those who drive calls

  func step(_ plan: inout CallPlan, _ event: CallPlan.Event) -> [CallPlan.Action] {
    state.withLock { plan.step(event, now: SystemClock().monotonicNanoseconds(), &$0.core) }
  }

  /// A call that `open` handed over has ended.
  func ended(_ visit: Balancer.Visit, _ error: RPCError?) {
    // A stream was begun before its server could say that it does not lead.
    if let error, configuration.followsLeader, error.wasNotStarted,
      let notLeader = error.notLeader
    {
      let hinted = leader(namedIn: error)
      state.withLock {
        _ = $0.core.leadership.denied(by: visit.endpoint, hinted: hinted, term: notLeader.term)
      }
    }
    state.withLock { state in
      state.core.end(visit, error, now: SystemClock().monotonicNanoseconds())
      if error == nil { state.core.budget.succeeded() }
    }
  }

  /// Connects to an address that was out, so that no call has to find out whether it is back.
  func probe(_ endpoint: Int) {
    guard let channel = try? channel(endpoint) else { return }
    Task { [timeout = configuration.health.probeTimeout] in
      var connected = true
      do {
        try await channel.connect(timeout: timeout)
      } catch {
        connected = false
      }
      state.withLock { state in
        state.core.balancer.probed(
          endpoint, connected: connected, now: SystemClock().monotonicNanoseconds(),
          &state.core.dice)
      }
    }
  }

  /// The address to which the error of a server that does not lead sends this client; nil where it may
  /// not go there.
  func leader(namedIn error: RPCError) -> Int? {
    guard configuration.followsLeader, error.wasNotStarted, let named = error.notLeader,
      !named.node.isEmpty || !named.address.isEmpty
    else { return nil }
    if let known = state.withLock({ Self.find(named, in: $0.endpoints) }) { return known }
    guard let found = configuration.findLeader?(named) else { return nil }
    return state.withLock { state in
      if let known = state.endpoints.firstIndex(of: found) { return known }
      guard state.added < Self.maximumAddedEndpoints, !state.isClosed else { return nil }
      state.added += 1
      state.endpoints.append(found)
      state.channels.append(makeChannel(found))
      return state.core.balancer.add()
    }
  }

  private static func find(_ named: NotLeader, in endpoints: [Endpoint]) -> Int? {
    if let byNode = endpoints.firstIndex(where: { $0.node != nil && $0.node == named.node }) {
      return byNode
    }
    guard let address = Address(named.address) else { return nil }
    // An address that is known to be another node's would refuse us.
    return endpoints.firstIndex {
      $0.address == address && ($0.node == nil || named.node.isEmpty)
    }
  }
}
