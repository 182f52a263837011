import Base
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(2))) struct DetailsTests {
  private static let options = CallOptions(timeout: .seconds(30))

  private static func entry(_ key: String, _ bytes: Int) -> MetadataEntry {
    var entry = MetadataEntry()
    entry.key = key
    entry.value = [UInt8](repeating: 7, count: bytes)
    return entry
  }

  /// What a server that answers with `error` says, as its client hears it.
  private func answered(_ error: RPCError) async throws -> RPCError {
    let harness = try Harness { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in throw error }
    }
    let channel = try harness.channel()
    let heard = await failure { () async throws(RPCError) in
      try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), Self.options)
    }
    await harness.stop()
    return try #require(heard)
  }

  @Test func detailsTravelWithTheError() async throws {
    let said = RPCError(
      .aborted, "later", reason: "Busy", details: [Self.entry("a.B", 3), Self.entry("c.D", 0)])
    let heard = try await answered(said)
    #expect(heard == said)
    #expect(!heard.wasNotStarted)
  }

  @Test func theLeadersAddressTravelsTyped() async throws {
    let heard = try await answered(.notLeader(node: "mcs-2", address: "10.0.0.2:7443", term: 9))
    #expect(heard.code == .unavailable && heard.reason == "NotLeader")
    #expect(heard.wasNotStarted)
    let leader = try #require(heard.notLeader)
    #expect(leader.node == "mcs-2" && leader.address == "10.0.0.2:7443" && leader.term == 9)
    #expect(heard.pushBack == nil)
  }

  @Test func pushBackTravelsTyped() async throws {
    let busy = RPCError(.resourceExhausted, "busy", reason: "Overloaded")
    #expect(
      try await answered(busy.retry(.after(milliseconds: 250))).pushBack
        == .after(milliseconds: 250))
    #expect(try await answered(busy.retry(.never)).pushBack == .never)
    // The number that means never cannot be said by accident, and the last word counts.
    let patient = busy.retry(.never).retry(.after(milliseconds: .max))
    #expect(patient.pushBack == .after(milliseconds: .max - 1))
    #expect(patient.details.count == 1)
    #expect(RPCError(.notFound, "gone").retry(.never).pushBack == nil)
  }

  @Test func theSenderDropsWhatIsOverTheBounds() async throws {
    let many = (0..<40).map { Self.entry("entry.\($0)", 10) }
    #expect(
      try await answered(RPCError(.aborted, "", details: many)).details
        == Array(many.prefix(16)))
    // A large one does not take the small ones behind it along.
    let sizes = [5000, 5000, 100, 9000, 3000]
    let mixed = sizes.map { Self.entry("e", $0) }
    let sent = Trailer(answering: RPCError(.aborted, "", details: mixed))
    #expect(sent.details.map(\.value.count) == [5000, 100, 3000])
  }

  @Test func aServerThatSendsMoreIsCutShort() {
    var trailer = Trailer()
    trailer.status = StatusCode.aborted.rawValue
    trailer.details = (0..<1000).map { _ in Self.entry("k", 100) }
    let error = RPCError(receivedIn: trailer)
    #expect(error?.details.count == 16)
    trailer.details = [Self.entry("k", 100_000), Self.entry(NotLeader.protobufName, 5)]
    let second = RPCError(receivedIn: trailer)
    #expect(second?.details.count == 1)
    // Bytes that are no message of the type are no detail.
    #expect(second?.notLeader == nil)
  }

  @Test func theSentenceIsBoundedInBytes() {
    // One character of a thousand scalars and more.
    let long = "e" + String(repeating: "\u{301}", count: 50_000)
    #expect(Trailer(answering: RPCError(.aborted, long)).message.utf8.count <= 4000)
  }

  /// A daemon that hands its own server's refusal on has itself begun the call.
  @Test func aRefusalIsNotPassedOnAsOnesOwn() async throws {
    let inner = try await answered(.notLeader(node: "mcs-2", term: 3))
    #expect(inner.wasNotStarted)
    let outer = try await answered(inner)
    #expect(outer == inner)
    #expect(!outer.wasNotStarted)
    let unsent = RPCError(.unavailable, "cannot connect").asUnsent
    #expect(try await !answered(unsent).wasNotStarted)
  }

  @Test func aCallThatCannotConnectWasNotStarted() async throws {
    let harness = try Harness { _ in }
    let channel = try harness.channel()
    await harness.stop()
    let error = await failure { () async throws(RPCError) in
      try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), Self.options)
    }
    #expect(error?.code == .unavailable)
    #expect(error?.wasNotStarted == true)
  }
}

@Suite(.timeLimit(.minutes(1))) struct GoAwayTests {
  /// Calls that crossed the go-away fail at once, as not begun; those before it go on.
  @Test func callsAboveTheLastStreamWereNotStarted() async throws {
    let group = EventLoopGroup(count: 1)
    let loop = group.nextLoop()
    let outcome = await withCheckedContinuation {
      (done: CheckedContinuation<[RPCError?], Never>) in
      loop.execute {
        let transport = ScriptedTransport(loop: loop)
        let connection = Connection(
          loop: loop, side: .client, transport: transport, limits: ConnectionLimits(),
          logger: CapturedLog().logger)
        connection.start()
        transport.receive(helloFrame())
        let deadline = SystemClock().monotonicNanoseconds() + 60_000_000_000
        let streams = (0..<3).compactMap { _ in
          connection.open("test", [], deadlineNanoseconds: deadline)
        }
        var goAway = GoAway()
        goAway.lastStream = 2
        goAway.status = StatusCode.unavailable.rawValue
        goAway.message = "shutting down"
        transport.receive(frame(FrameType.goAway.rawValue, goAway.encoded()))
        let errors = streams.map { stream -> RPCError? in
          if case .finished(let error) = stream.finish { error } else { nil }
        }
        connection.close(RPCError(.unavailable, "the test is over"))
        done.resume(returning: errors)
      }
    }
    #expect(outcome.count == 3)
    #expect(outcome[0] == nil && outcome[1] == nil)
    let error = try #require(outcome[2])
    #expect(error.code == .unavailable && error.reason == "Draining" && error.wasNotStarted)
  }
}
