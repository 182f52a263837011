import Base
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(1))) struct LeaderPlanTests {
  private func denial(_ term: UInt64, _ node: String = "") -> RPCError {
    RPCError.notLeader(node: node, term: term).answered
  }

  private func script(
    idempotency: Idempotency = .unknown, timeoutMilliseconds: UInt64 = 60_000
  ) -> PlanScript {
    PlanScript(
      idempotency: idempotency, timeoutMilliseconds: timeoutMilliseconds, followsLeader: true)
  }

  @Test func aCallGoesWhereItIsSentAndLaterOnesStartThere() {
    var script = script()
    script.begin()
    let leader = (script.begun[0].endpoint + 1) % 3
    script.fail(denial(4, "b"), hinted: leader)
    #expect(script.begun.count == 2 && script.begun[1].endpoint == leader)
    script.succeed()
    for _ in 0..<20 {
      script.next(idempotency: .unknown)
      script.begin()
      #expect(script.begun[0].endpoint == leader)
      script.succeed()
    }
    #expect(script.core.counters.redirects == 1)
    #expect(script.core.budget.tokens == script.core.policy.budgetTokens)
  }

  @Test func anErrorThatWasOnlyPassedOnIsNotFollowed() {
    // It has the detail but not the flag: this server has begun the call.
    var passedOn = RPCError.notLeader(node: "b", term: 4)
    passedOn.standing = .answer
    var script = script()
    script.begin()
    script.fail(passedOn, hinted: (script.begun[0].endpoint + 1) % 3)
    #expect(script.begun.count == 1 && script.endings == [.fail(passedOn)])
    #expect(script.core.leadership == Leadership())
  }

  @Test func whereNobodyLeadsTheCallWaitsAndAsksAnother() {
    var script = script()
    script.begin()
    var waits: [Double] = []
    for _ in 0..<8 {
      script.fail(denial(1))
      waits.append(script.waitMilliseconds ?? 0)
      script.elapse()
    }
    #expect(waits[0] >= 40 && waits[0] <= 60 && waits[5] >= 1280)
    for (left, right) in zip(script.begun, script.begun.dropFirst()) {
      #expect(left.endpoint != right.endpoint)
    }
    script.fail(denial(1))
    #expect(script.endings == [.fail(denial(1))])
    #expect(script.core.counters.leaderWaits == 8)
  }

  @Test func twoThatNameEachOtherAreNotFollowedRoundAndRound() {
    var script = script()
    script.begin()
    var steps = 0
    while script.endings.isEmpty, steps < 1000 {
      steps += 1
      if script.running.isEmpty { script.elapse() }
      if !script.running.isEmpty {
        script.fail(denial(5, "x"), hinted: script.running[0].endpoint == 0 ? 1 : 0)
      }
    }
    let policy = script.core.policy
    #expect(script.begun.count <= (1 + policy.maximumLeaderWaits) * (1 + policy.maximumRedirects))
    #expect(script.endings.count == 1)
  }

  @Test func waitingForALeaderEndsBeforeTheDeadline() {
    var script = script(timeoutMilliseconds: 300)
    script.begin()
    let start = script.now
    while script.endings.isEmpty {
      script.fail(denial(1))
      if !script.waits.isEmpty { script.elapse() }
    }
    #expect(script.now - start < 300 * PlanScript.millisecond)
    #expect(script.error == denial(1))
  }

  @Test func theNewerElectionCounts() {
    var leadership = Leadership()
    #expect(leadership.denied(by: 0, hinted: 1, term: 5) == 1)
    // An old story does not change that, wherever it points.
    #expect(leadership.denied(by: 2, hinted: 2, term: 4) == 1)
    #expect(leadership.denied(by: 2, hinted: 0, term: 4) == 1)
    #expect(leadership.denied(by: 2, hinted: nil, term: 5) == 1)
    // A newer election without a result does.
    #expect(leadership.denied(by: 2, hinted: nil, term: 6) == nil)
    #expect(leadership.denied(by: 2, hinted: 0, term: 6) == 0)
    leadership.unreachable(1)
    #expect(leadership.endpoint == 0)
    leadership.unreachable(0)
    #expect(leadership.endpoint == nil)
    // Nobody sends a call to himself.
    #expect(leadership.denied(by: 2, hinted: 2, term: 7) == nil)
  }

  @Test func aMadeUpTermDoesNotBindForEver() {
    var leadership = Leadership()
    #expect(leadership.denied(by: 0, hinted: 1, term: .max) == 1)
    // 1 knows nothing of it: from here on the true terms count again.
    #expect(leadership.denied(by: 1, hinted: 2, term: 9) == 2)
    #expect(leadership.denied(by: 0, hinted: 1, term: 10) == 1)
  }

  @Test func aLeaderThatCannotBeReachedIsForgotten() {
    var script = script()
    script.begin()
    let leader = (script.begun[0].endpoint + 1) % 3
    script.fail(denial(4, "b"), hinted: leader)
    script.fail(unreachable)
    #expect(script.begun.count == 3 && script.begun[2].endpoint != leader)
    #expect(script.core.leadership.endpoint == nil)
  }

  @Test func withoutFollowingItIsAnAddressLikeAnyOther() {
    var script = PlanScript(idempotency: .unknown)
    script.begin()
    script.fail(denial(4, "b"), hinted: nil)
    #expect(script.begun.count == 2 && script.core.counters.failovers == 1)
    #expect(script.core.leadership == Leadership())
  }
}

@Suite(.timeLimit(.minutes(2))) struct LeaderTests {
  /// Servers that name whoever leads, by a name that they make up from its index.
  private func cluster(
    _ leader: Locked<Int?>, _ asked: Locked<[Int]>,
    named: @escaping @Sendable (Int) -> RPCError = {
      .notLeader(node: "scs-\($0 + 1)", address: "far.away:1", term: 3)
    }
  ) throws -> Cluster {
    try Cluster(3) { index, _ in
      asked.withLock { $0.append(index) }
      let leader = leader.withLock { $0 }
      if leader == index { return reply(index) }
      throw leader.map(named) ?? .notLeader(term: 3)
    }
  }

  private var following: ServiceClient.Configuration {
    var configuration = ServiceClient.Configuration()
    configuration.followsLeader = true
    configuration.retries.firstDelayMilliseconds = 5
    return configuration
  }

  @Test func theLeaderIsFoundRememberedAndFoundAgain() async throws {
    let (leader, asked) = (Locked<Int?>(2), Locked<[Int]>([]))
    let cluster = try cluster(leader, asked)
    let client = try cluster.client(following)
    #expect(try await client.ask(onceOnly) == 2)
    #expect(asked.withLock { $0.count } <= 2)
    asked.withLock { $0 = [] }
    for _ in 0..<20 { #expect(try await client.ask(onceOnly) == 2) }
    #expect(asked.withLock { $0 } == Array(repeating: 2, count: 20))
    leader.withLock { $0 = 0 }
    for _ in 0..<20 { #expect(try await client.ask(onceOnly) == 0) }
    #expect(asked.withLock { $0.count } == 41)
    client.close()
    await cluster.stop()
  }

  @Test func aCallOutlivesAnElection() async throws {
    let (leader, asked) = (Locked<Int?>(nil), Locked<[Int]>([]))
    let cluster = try cluster(leader, asked)
    let client = try cluster.client(following)
    async let answer = client.ask(onceOnly)
    await eventually { client.counters.leaderWaits > 0 }
    leader.withLock { $0 = 1 }
    #expect(try await answer == 1)
    client.close()
    await cluster.stop()
  }

  @Test func aDeadLeaderIsReplaced() async throws {
    let (leader, asked) = (Locked<Int?>(0), Locked<[Int]>([]))
    let cluster = try cluster(leader, asked)
    let client = try cluster.client(following)
    #expect(try await client.ask(onceOnly) == 0)
    await cluster.harnesses[0].stop()
    leader.withLock { $0 = 1 }
    #expect(try await client.ask(onceOnly) == 1)
    client.close()
    await cluster.stop()
  }

  /// A server cannot send its clients to addresses that nobody configured or allowed.
  @Test func aStrangeAddressIsRefusedUnlessAllowed() async throws {
    let (leader, asked) = (Locked<Int?>(2), Locked<[Int]>([]))
    let address = Locked("")
    let cluster = try cluster(leader, asked) { index in
      .notLeader(node: "scs-\(index + 1)", address: address.withLock { $0 }, term: 3)
    }
    address.withLock { $0 = "\(cluster.address(2))" }
    // This client knows the first two servers only.
    let strict = try cluster.client(following, servers: [0, 1])
    let error = await failure { () async throws(RPCError) in
      try await strict.ask(onceOnly, CallOptions(timeout: .milliseconds(500)))
    }
    // Its time may also run out within an attempt.
    #expect(error?.code == .unavailable || error?.code == .deadlineExceeded)
    #expect(!asked.withLock { $0.contains(2) })
    #expect(strict.counters.redirects == 0)
    strict.close()

    var configuration = following
    configuration.findLeader = { named in
      Address(named.address).map { ServiceClient.Endpoint($0, node: named.node) }
    }
    let trusting = try cluster.client(configuration, servers: [0, 1])
    #expect(try await trusting.ask(onceOnly) == 2)
    // Also there it must show the name that was announced: nobody listens for another one.
    address.withLock { $0 = "\(cluster.address(1))" }
    let misled = try cluster.client(configuration, servers: [0])
    let refused = await failure { () async throws(RPCError) in
      try await misled.ask(onceOnly, CallOptions(timeout: .milliseconds(500)))
    }
    #expect(refused != nil)
    trusting.close()
    misled.close()
    await cluster.stop()
  }

  @Test func aServerCannotMakeAClientCollectAddresses() async throws {
    let port = Locked<UInt16>(1)
    let cluster = try Cluster(1) { _, _ in
      let next = port.withLock { port in
        port += 1
        return port
      }
      throw RPCError.notLeader(node: "n\(next)", address: "127.0.0.1:\(next)", term: UInt64(next))
    }
    var configuration = following
    configuration.findLeader = { named in
      Address(named.address).map { ServiceClient.Endpoint($0, node: named.node) }
    }
    let client = try cluster.client(configuration)
    for _ in 0..<200 where client.endpointCount < 17 {
      _ = await failure { () async throws(RPCError) in
        try await client.ask(onceOnly, CallOptions(timeout: .milliseconds(200)))
      }
    }
    for _ in 0..<5 {
      _ = await failure { () async throws(RPCError) in
        try await client.ask(onceOnly, CallOptions(timeout: .milliseconds(200)))
      }
    }
    #expect(client.endpointCount == 17)
    client.close()
    await cluster.stop()
  }
}
