import Base
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(1))) struct BalancerTests {
  private static let second: UInt64 = 1_000_000_000

  private func ready(_ count: Int, _ policy: HealthPolicy = HealthPolicy()) -> Balancer {
    var balancer = Balancer(count: count, policy: policy)
    var dice = Dice(seed: 1)
    for endpoint in 0..<count {
      let visit = balancer.begin(at: endpoint)
      balancer.end(visit, .good, now: 0, &dice)
    }
    return balancer
  }

  @Test func ofTwoAtRandomTheOneWithFewerCallsIsChosen() {
    var balancer = ready(8)
    let entropy = SeededEntropy.announced()
    var dice = Dice(seed: entropy.next())
    var (most, total) = (0, 0)
    // Calls that never end: the counts stay close together, which blind chance would not do.
    for _ in 0..<8000 {
      let visit = balancer.begin(at: balancer.pick(avoiding: [], &dice))
      most = max(most, balancer.callsInFlight(at: visit.endpoint))
      total += 1
    }
    #expect(most <= 1000 + 10)
    for endpoint in 0..<8 { #expect(balancer.callsInFlight(at: endpoint) >= 1000 - 40) }
  }

  @Test func theSameSeedChoosesTheSame() {
    let balancer = ready(5)
    func choices(_ seed: UInt64) -> [Int] {
      var dice = Dice(seed: seed)
      return (0..<50).map { _ in balancer.pick(avoiding: [], &dice) }
    }
    #expect(choices(7) == choices(7))
    #expect(choices(7) != choices(8))
    #expect(Set(choices(7)) == [0, 1, 2, 3, 4])
  }

  @Test func whatWasTriedIsAvoidedWhileThereIsAnother() {
    var balancer = ready(3)
    var dice = Dice(seed: 1)
    for _ in 0..<50 {
      #expect(balancer.pick(avoiding: [0, 2], &dice) == 1)
      #expect(balancer.pick(avoiding: [0, 1, 2], strictly: true, &dice) < 3)
    }
    // A ready one that was tried beats one that is out, but for a call that must move.
    balancer.end(balancer.begin(at: 1), .unreachable, now: 5, &dice)
    for _ in 0..<50 {
      #expect(balancer.pick(avoiding: [0, 2], &dice) != 1)
      #expect(balancer.pick(avoiding: [0, 2], strictly: true, &dice) == 1)
    }
  }

  @Test func failuresInARowPutAnAddressOutAndSuccessesDoNot() {
    var balancer = ready(2)
    var dice = Dice(seed: 1)
    for _ in 0..<4 { balancer.end(balancer.begin(at: 0), .failed, now: 1, &dice) }
    balancer.end(balancer.begin(at: 0), .good, now: 1, &dice)
    for _ in 0..<4 { balancer.end(balancer.begin(at: 0), .failed, now: 1, &dice) }
    #expect(balancer.isReady(0))
    // A cancelled call says nothing.
    balancer.end(balancer.begin(at: 0), .none, now: 1, &dice)
    balancer.end(balancer.begin(at: 0), .failed, now: 1, &dice)
    #expect(!balancer.isReady(0) && balancer.ejections == 1)
    for _ in 0..<50 { #expect(balancer.pick(avoiding: [], &dice) == 1) }
  }

  @Test func callsOfBeforeAnEjectionSayNothingAfterIt() {
    var balancer = ready(2)
    var dice = Dice(seed: 1)
    let visits = (0..<64).map { _ in balancer.begin(at: 0) }
    balancer.end(visits[0], .unreachable, now: 1, &dice)
    for visit in visits[1..<40] { balancer.end(visit, .unreachable, now: 1, &dice) }
    #expect(balancer.ejections == 1)
    // Calls that a draining server still finishes do not bring it back.
    for visit in visits[40...] { balancer.end(visit, .good, now: 1, &dice) }
    #expect(!balancer.isReady(0))
    #expect(balancer.callsInFlight(at: 0) == 0)
  }

  @Test func anAddressComesBackByAProbeAndIsOnTrial() {
    var balancer = ready(2)
    var dice = Dice(seed: 1)
    var now = Self.second
    var delays: [UInt64] = []
    balancer.end(balancer.begin(at: 0), .unreachable, now: now, &dice)
    for _ in 0..<9 {
      guard case .out(let until) = balancer.condition(of: 0) else {
        Issue.record("\(balancer.condition(of: 0))")
        return
      }
      delays.append((until - now) / 1_000_000)
      #expect(balancer.dueProbes(besides: 1, now: until - 1) == [])
      now = until
      // A call on its way there is probe enough.
      #expect(balancer.dueProbes(besides: 0, now: now) == [])
      #expect(balancer.dueProbes(besides: 1, now: now) == [0])
      // One probe at a time.
      #expect(balancer.dueProbes(besides: 1, now: now) == [])
      balancer.probed(0, connected: false, now: now, &dice)
    }
    for (delay, middle) in zip(delays, [200.0, 400, 800, 1600, 3200, 6400, 10_000, 10_000]) {
      #expect(Double(delay) >= 0.79 * middle && Double(delay) <= 1.2 * middle)
    }
    now += 60 * Self.second
    #expect(balancer.dueProbes(besides: 1, now: now) == [0])
    balancer.probed(0, connected: true, now: now, &dice)
    #expect(balancer.isReady(0))
    // It accepts connections; one failed call shows that this was all.
    balancer.end(balancer.begin(at: 0), .failed, now: now, &dice)
    #expect(!balancer.isReady(0))
    now += 60 * Self.second
    #expect(balancer.dueProbes(besides: 1, now: now) == [0])
    balancer.probed(0, connected: true, now: now, &dice)
    balancer.end(balancer.begin(at: 0), .good, now: now, &dice)
    for _ in 0..<4 { balancer.end(balancer.begin(at: 0), .failed, now: now, &dice) }
    #expect(balancer.isReady(0))
  }

  @Test func aBrokenConnectionIsProbedAtOnce() {
    var balancer = ready(2)
    var dice = Dice(seed: 1)
    balancer.end(balancer.begin(at: 0), .lost, now: 5, &dice)
    #expect(!balancer.isReady(0) && balancer.ejections == 0)
    #expect(balancer.dueProbes(besides: 1, now: 5) == [0])
    balancer.probed(0, connected: true, now: 6, &dice)
    #expect(balancer.isReady(0))
  }

  @Test func whereEverythingIsOutSomethingIsStillAsked() {
    var balancer = ready(3)
    var dice = Dice(seed: 1)
    for endpoint in 0..<3 {
      balancer.end(balancer.begin(at: endpoint), .unreachable, now: 1, &dice)
    }
    #expect(!balancer.hasHope(besides: []))
    let chosen = Set((0..<100).map { _ in balancer.pick(avoiding: [], &dice) })
    #expect(chosen == [0, 1, 2])
    // And its success counts.
    balancer.end(balancer.begin(at: 2), .good, now: 2, &dice)
    #expect(balancer.pick(avoiding: [], &dice) == 2)
  }

  @Test func errorsTellAboutTheirAddress() {
    let cases: [(RPCError, Balancer.Verdict)] = [
      (unavailable, .failed), (overloaded, .failed), (draining, .unreachable),
      (unreachable, .unreachable), (connectionLost, .lost),
      (RPCError.notLeader(term: 1).answered, .good),
      (RPCError(.notFound, "gone").answered, .good),
      (RPCError(.resourceExhausted, "", reason: "ImageTooLarge").answered, .good),
      (RPCError(.resourceExhausted, "full").asUnsent, .none),
      (RPCError(.cancelled, "the caller cancelled"), .none),
      (RPCError(.deadlineExceeded, "late"), .failed),
      (RPCError(.internalError, "bug").answered, .failed),
      (RPCError(.unauthenticated, "expired").asUnsent, .unreachable),
    ]
    for (error, verdict) in cases { #expect(ClientCore.verdict(error) == verdict, "\(error)") }
  }
}

@Suite(.timeLimit(.minutes(2))) struct BalancingTests {
  @Test func aServerThatHoldsACallGetsNoMoreWhileAnotherIsFree() async throws {
    let holds = Locked(false)
    let held = Locked<Int?>(nil)
    let release = Gate()
    let cluster = try Cluster(2) { index, _ in
      let isHeld =
        holds.withLock { $0 }
        && held.withLock { held in
          defer { held = held ?? index }
          return held == nil
        }
      if isHeld { await release.wait() }
      return reply(index)
    }
    let client = try cluster.client()
    try await client.warmUp(servers: 2)
    holds.withLock { $0 = true }
    async let slow = client.ask()
    await eventually { held.withLock { $0 } != nil }
    let busy = try #require(held.withLock { $0 })
    for _ in 0..<50 { #expect(try await client.ask() == 1 - busy) }
    await release.open()
    #expect(try await slow == busy)
    client.close()
    await cluster.stop()
  }

  @Test func aServerThatDiesIsLeftOutAndFoundAgain() async throws {
    let cluster = try Cluster(3) { index, _ in reply(index) }
    var configuration = ServiceClient.Configuration()
    configuration.health.firstEjectionMilliseconds = 5
    configuration.health.maximumEjectionMilliseconds = 5
    let client = try cluster.client(configuration)
    try await client.warmUp(servers: 3)
    let port = cluster.harnesses[1].server.port
    await cluster.harnesses[1].stop()
    // Not one call fails, not even of those that act once more.
    for _ in 0..<100 { #expect(try await client.ask(onceOnly) != 1) }
    let again = try Harness(
      authority: cluster.authority, port: port,
      credentials: cluster.authority.credentials(.slave, "scs-2")
    ) { router in
      router.unary(question) { _, _ in reply(1) }
    }
    try await client.warmUp(servers: 3)
    #expect(client.counters.probes > 0)
    client.close()
    await again.stop()
    await cluster.stop()
  }

  @Test func oneAddressWorksToo() async throws {
    let cluster = try Cluster(1) { index, _ in reply(index + 5) }
    let client = try cluster.client()
    for _ in 0..<20 { #expect(try await client.ask() == 5) }
    #expect(
      client.counters
        == {
          var counters = ClientCounters()
          counters.attempts = 20
          return counters
        }())
    client.close()
    let error = await failure { () async throws(RPCError) in try await client.ask() }
    #expect(error?.code == .cancelled)
    await cluster.stop()
  }

  @Test func aServerOfAnotherNameIsNotTakenForIt() async throws {
    let cluster = try Cluster(2) { index, _ in reply(index) }
    let client = ServiceClient(
      [
        ServiceClient.Endpoint(cluster.address(0), node: "scs-2"),
        ServiceClient.Endpoint(cluster.address(1), node: "scs-2"),
      ],
      tls: try .client(cluster.authority.credentials(.master, "node-1")),
      expecting: PeerExpectation(cluster: "test", role: .slave),
      group: cluster.harnesses[0].group, logger: cluster.harnesses[0].logger)
    for _ in 0..<20 { #expect(try await client.ask(onceOnly) == 1) }
    client.close()
    await cluster.stop()
  }
}
