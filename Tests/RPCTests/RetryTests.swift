import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Retries over real connections; which and when without them is in RetryPlanTests.
@Suite(.timeLimit(.minutes(2))) struct RetryTests {
  @Test func whatFailsIsAskedAgainWithTheTimeThatIsLeft() async throws {
    let seen = Locked<[(attempt: Int, remaining: Duration)]>([])
    let cluster = try Cluster(1) { _, context in
      seen.withLock { $0.append((context.attempt, context.remaining)) }
      guard context.attempt > 1 else { throw RPCError(.unavailable, "once") }
      return reply(7)
    }
    var configuration = ServiceClient.Configuration()
    configuration.retries.firstDelayMilliseconds = 300
    let client = try cluster.client(configuration)
    let timeout = Duration.seconds(50)
    #expect(try await client.ask(question, CallOptions(timeout: timeout)) == 7)
    let attempts = seen.withLock { $0 }
    #expect(attempts.map(\.attempt) == [1, 2])
    // The wait was 240 milliseconds at least, on any machine.
    #expect(attempts[1].remaining <= timeout - .milliseconds(240))
    #expect(client.counters.retries == 1)
    client.close()
    await cluster.stop()
  }

  @Test func whatActsOnceMoreIsNotMadeAgain() async throws {
    let calls = Locked(0)
    let cluster = try Cluster(2) { _, _ in
      calls.withLock { $0 += 1 }
      throw RPCError(.unavailable, "who knows what was done")
    }
    let client = try cluster.client()
    let error = await failure { () async throws(RPCError) in try await client.ask(onceOnly) }
    #expect(error?.code == .unavailable)
    #expect(calls.withLock { $0 } == 1)
    client.close()
    await cluster.stop()
  }

  @Test func whatWasRefusedAtTheDoorIsMadeElsewhere() async throws {
    let calls = Locked<[Int]>([])
    let cluster = try Cluster(2) { index, _ in
      let isFirst = calls.withLock { calls in
        calls.append(index)
        return calls.count == 1
      }
      if isFirst { throw RPCError(.unavailable, "leaving", reason: "Draining").asRefusal }
      return reply(index)
    }
    let client = try cluster.client()
    let answer = try await client.ask(onceOnly)
    let asked = calls.withLock { $0 }
    #expect(asked.count == 2 && asked[0] != asked[1] && asked[1] == answer)
    #expect(client.counters.failovers == 1)
    client.close()
    await cluster.stop()
  }

  @Test func cancellingTheCallerEndsAttemptsAndWaits() async throws {
    let (started, ended) = (Gate(), Gate())
    let fails = Locked(false)
    let cluster = try Cluster(1) { _, _ in
      await started.open()
      if fails.withLock({ $0 }) { throw RPCError(.unavailable, "later") }
      do {
        try await Task.sleep(for: .seconds(3600))
      } catch {
        await ended.open()
        throw error
      }
      return reply(0)
    }
    var configuration = ServiceClient.Configuration()
    configuration.retries.firstDelayMilliseconds = 1_000_000
    configuration.retries.maximumDelayMilliseconds = 1_000_000
    let client = try cluster.client(configuration)
    let options = CallOptions(timeout: .seconds(3000))
    let inAttempt = Task { try await client.ask(question, options) }
    await started.wait()
    inAttempt.cancel()
    await #expect(throws: RPCError(.cancelled, "the caller cancelled")) {
      try await inAttempt.value
    }
    await ended.wait()

    fails.withLock { $0 = true }
    let inWait = Task { try await client.ask(question, options) }
    await eventually { client.counters.retries == 1 }
    inWait.cancel()
    await #expect(throws: RPCError(.cancelled, "the caller cancelled")) { try await inWait.value }
    client.close()
    await cluster.stop()
  }

  /// All servers fail: sixteen callers make hundreds of calls, and few are made again.
  @Test func aStormIsHeldByTheBudget() async throws {
    let arrived = Locked(0)
    let cluster = try Cluster(3) { _, _ in
      arrived.withLock { $0 += 1 }
      throw RPCError(.unavailable, "trouble")
    }
    var configuration = ServiceClient.Configuration()
    configuration.retries.firstDelayMilliseconds = 1
    let client = try cluster.client(configuration)
    let calls = 480
    let failed = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<16 {
        group.addTask {
          var failed = 0
          for _ in 0..<calls / 16 {
            let error = await failure { () async throws(RPCError) in try await client.ask() }
            if error?.code == .unavailable { failed += 1 }
          }
          return failed
        }
      }
      return await group.reduce(0, +)
    }
    #expect(failed == calls / 16 * 16)
    let allowance = Double(failed) * 1.1 + configuration.retries.budgetTokens
    #expect(Double(arrived.withLock { $0 }) <= allowance)
    #expect(client.counters.budgetRefusals > 0)
    client.close()
    await cluster.stop()
  }

  @Test func serversThatAreAllDownAreNotAskedForEver() async throws {
    let cluster = try Cluster(3) { _, _ in reply(0) }
    // Nobody serves these ports. Those of servers that were stopped may be another test's a moment later.
    let client = try cluster.client(
      at: (1...3).map { Address(host: "127.0.0.1", port: $0) })
    await cluster.stop()
    let calls = 150
    for _ in 0..<calls {
      let error = await failure { () async throws(RPCError) in
        try await client.ask(question, CallOptions(timeout: .seconds(60)))
      }
      #expect(error?.code == .unavailable)
    }
    #expect(
      client.counters.attempts
        <= UInt64(Double(calls) * 1.1 + RetryPolicy().budgetTokens / 2 + 3))
    client.close()
  }

  @Test func aStreamIsOpenedWhereThereIsAServer() async throws {
    let authority = try TestAuthority()
    let harnesses = try (0..<2).map { _ in
      try Harness(authority: authority, routes: CallTests.echoRoutes)
    }
    let client = ServiceClient(
      harnesses.map {
        ServiceClient.Endpoint(Address(host: "127.0.0.1", port: $0.server.port))
      },
      tls: try .client(authority.credentials(.master, "node-1")),
      expecting: PeerExpectation(cluster: "test", role: .slave), group: harnesses[0].group,
      logger: harnesses[0].logger, entropy: SeededEntropy(seed: 3))
    await harnesses[0].stop()
    for round in 0..<10 {
      let call = try await client.open(
        ImageUserMethods.queryImages, CallOptions(timeout: .seconds(60)))
      var header = QueryImagesHeader()
      header.fileBytes = UInt64(round)
      try await call.send(header)
      try await call.finishSending()
      #expect(try await call.receiveMessage()?.fileBytes == UInt64(round))
      #expect(try await call.receiveMessage() == nil)
    }
    #expect(client.callsInFlight == 0)
    // One that is dropped half-way does not stay in the count.
    do {
      let call = try await client.open(
        ImageUserMethods.queryImages, CallOptions(timeout: .seconds(60)))
      try await call.send(QueryImagesHeader())
      #expect(client.callsInFlight == 1)
    }
    await eventually { client.callsInFlight == 0 }
    client.close()
    await harnesses[1].stop()
  }
}
