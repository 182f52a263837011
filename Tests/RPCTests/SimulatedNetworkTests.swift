import Base
import Logging
import Messages
import TestSupport
import Testing

@testable import RPC

/// One server and one client on simulated time.
private final class SimulatedPair: @unchecked Sendable {
  static let address = Address(host: "server", port: 1)
  let time: SimulatedTime
  let network: SimulatedNetwork
  let loops: EventLoopGroup
  let server: Server
  let channel: Channel
  private let logger = Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() }

  init(
    limits: ConnectionLimits = ConnectionLimits(), bytesPerSecond: UInt64 = 0,
    routes: (inout Router, SimulatedTime) -> Void
  ) {
    time = SimulatedTime(dice: SeededGenerator(SeededEntropy(seed: 1)))
    var conditions = SimulatedNetwork.Conditions()
    // Always the same, so that tests may count.
    conditions.delayNanoseconds = 10_000_000...10_000_000
    conditions.bytesPerSecond = bytesPerSecond
    network = SimulatedNetwork(time: time, conditions: conditions)
    loops = time.makeLoops(count: 2)
    var configuration = ServerConfiguration(address: Self.address, cluster: "test")
    configuration.permissions = Harness.permissions
    configuration.limits = limits
    var router = Router()
    routes(&router, time)
    server = Server(inProcess: configuration, router: router, group: loops, logger: logger)
    channel = network.channel(
      from: "client", as: Identity(cluster: "test", role: .master, node: "mcs-1"),
      to: Self.address, expecting: PeerExpectation(cluster: "test", role: .slave), group: loops,
      logger: logger, limits: limits)
    do {
      try network.listen(
        server, as: Identity(cluster: "test", role: .slave, node: "scs-1")!, at: Self.address)
    } catch {
      preconditionFailure("\(error)")
    }
  }

  /// What a task comes to, and when.
  final class Answer<Value: Sendable>: @unchecked Sendable {
    fileprivate(set) var value: Value?
    fileprivate(set) var error: RPCError?
    fileprivate(set) var nanoseconds: UInt64?
  }

  func begin<Value: Sendable>(
    _ body: @escaping @Sendable (Channel) async throws -> Value
  ) -> Answer<Value> {
    let answer = Answer<Value>()
    Task(executorPreference: loops.loops[0]) { [self] in
      do { answer.value = try await body(channel) } catch { answer.error = error as? RPCError }
      answer.nanoseconds = time.nowNanoseconds
    }
    return answer
  }

  func status(_ timeout: Duration, waits: Bool = false) -> Answer<SlaveStatusReply> {
    begin { channel in
      var options = CallOptions(timeout: timeout)
      options.waitsForReady = waits
      return try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
    }
  }

  func advance(seconds: UInt64) { time.advance(nanoseconds: seconds * 1_000_000_000) }

  static func statusRoute(_ router: inout Router, _ time: SimulatedTime) {
    router.immediate(SlaveCloudMethods.slaveStatus) { _, _ in SlaveStatusReply() }
  }
}

@Suite(.timeLimit(.minutes(2))) struct SimulatedNetworkTests {
  @Test func aDeadlineOfAnHourPassesAtOnce() {
    let pair = SimulatedPair { router, time in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in
        try await time.sleep(nanoseconds: .max / 4)
        return SlaveStatusReply()
      }
    }
    let begin = pair.time.nowNanoseconds
    let answer = pair.status(.seconds(3600))
    pair.advance(seconds: 3599)
    #expect(answer.nanoseconds == nil && pair.server.runningCalls == 1)
    pair.advance(seconds: 2)
    #expect(answer.error?.code == .deadlineExceeded)
    #expect(answer.nanoseconds == begin + 3600 * 1_000_000_000)
    #expect(pair.server.runningCalls == 0)
    pair.time.end()
  }

  /// An answer that takes long to arrive is no reason to cut it off: not at a drain, and not by the server's end.
  @Test func lastWordsTakeTheirTime() {
    let pair = SimulatedPair(bytesPerSecond: 100_000) { router, _ in
      router.immediate(SlaveCloudMethods.listShadows) { _, _ in
        var reply = ListShadowsReply()
        reply.names = [[UInt8](repeating: 7, count: 800_000)]
        return reply
      }
    }
    let answer = pair.begin { channel in
      try await channel.unary(
        SlaveCloudMethods.listShadows, ListShadowsRequest(), CallOptions(timeout: .seconds(60)))
    }
    pair.advance(seconds: 1)
    #expect(answer.nanoseconds == nil)
    let stopping = pair.begin { [server = pair.server] _ in
      await server.shutdown(graceMilliseconds: 30_000)
    }
    pair.advance(seconds: 20)
    #expect(answer.value?.names.first?.count == 800_000, "\(answer.error as Any)")
    // What is under way needs 2.6 seconds more and nobody to wait for it.
    #expect(stopping.nanoseconds ?? 0 >= (answer.nanoseconds ?? .max) - 3_000_000_000)
    #expect(pair.server.connectionCount == 0)
    pair.time.end()
  }

  @Test func aCutHoldsBytesUntilItIsHealed() {
    let pair = SimulatedPair(routes: SimulatedPair.statusRoute)
    let first = pair.status(.seconds(5))
    pair.advance(seconds: 1)
    #expect(first.value != nil)
    // The request arrives, the answer does not.
    pair.network.cut(from: "server", to: "client")
    let second = pair.status(.seconds(50))
    pair.advance(seconds: 5)
    #expect(second.nanoseconds == nil)
    pair.network.heal(from: "server", to: "client")
    pair.advance(seconds: 1)
    #expect(second.value != nil)
    #expect(pair.network.openConnections == [1])
    pair.time.end()
  }

  /// The server hears everything and the client nothing: the client's keepalive ends it, the server then hears so.
  @Test func aCutThatLastsEndsTheConnection() {
    let pair = SimulatedPair(routes: SimulatedPair.statusRoute)
    _ = pair.status(.seconds(5))
    pair.advance(seconds: 1)
    pair.network.cut(from: "server", to: "client")
    let lost = pair.status(.seconds(500))
    pair.advance(seconds: 31)
    #expect(lost.error?.reason == CloseReason.silent)
    #expect(pair.server.connectionCount == 0)
    pair.network.healAll()
    let found = pair.status(.seconds(20), waits: true)
    pair.advance(seconds: 10)
    #expect(found.value != nil)
    pair.time.end()
  }

  @Test(arguments: SimulatedNetwork.Witness.allCases)
  func aBrokenConnectionIsNoticedByBothInTheEnd(_ witness: SimulatedNetwork.Witness) {
    let pair = SimulatedPair(routes: SimulatedPair.statusRoute)
    _ = pair.status(.seconds(5))
    pair.advance(seconds: 1)
    pair.network.breakConnection(1, seenBy: witness)
    pair.advance(seconds: 1)
    #expect(pair.server.connectionCount == (witness == .client ? 1 : 0))
    let next = pair.status(.seconds(60))
    pair.advance(seconds: 31)
    // A client that knows makes a new connection; another learns it from the silence.
    #expect((next.value != nil) == (witness != .server))
    #expect(pair.server.connectionCount == (witness == .server ? 0 : 1))
    pair.time.end()
  }

  @Test func aHostThatRefusesIsAskedAgain() {
    let pair = SimulatedPair(routes: SimulatedPair.statusRoute)
    pair.network.setRefusing("server", true)
    let impatient = pair.status(.seconds(60))
    let patient = pair.status(.seconds(60), waits: true)
    pair.advance(seconds: 5)
    #expect(impatient.error?.code == .unavailable)
    #expect(patient.nanoseconds == nil)
    pair.network.setRefusing("server", false)
    pair.advance(seconds: 10)
    #expect(patient.value != nil)
    pair.time.end()
  }

  // MARK: what simulations found

  /// The old connection goes away while the new one is being made.
  @Test func anOldConnectionsEndIsNotTheNewOnesFailure() {
    var limits = ConnectionLimits()
    limits.maximumAgeMilliseconds = 1000
    let pair = SimulatedPair(limits: limits) { router, time in
      router.unary(SlaveCloudMethods.listShadows) { _, _ in
        try await time.sleep(nanoseconds: 4_000_000_000)
        return ListShadowsReply()
      }
      SimulatedPair.statusRoute(&router, time)
    }
    let long = pair.begin { channel in
      try await channel.unary(
        SlaveCloudMethods.listShadows, ListShadowsRequest(), CallOptions(timeout: .seconds(20)))
    }
    // The connection is told to go after a second and lives on for its call, whose answer comes after 4.04.
    pair.time.advance(nanoseconds: 4_035_000_000)
    #expect(long.nanoseconds == nil)
    // Connecting takes 0.02, so the old connection closes in the middle of it.
    let next = pair.status(.seconds(20))
    pair.advance(seconds: 1)
    #expect(long.value != nil)
    #expect(next.error == nil && next.value != nil)
    pair.time.end()
  }

  /// What a handler leaves unread must not count against the connection for ever.
  @Test func anAnswerBeforeTheWholeRequestGivesTheCreditBack() {
    let pair = SimulatedPair { router, time in
      router.streaming(SlaveCloudMethods.putShadow) { call in
        _ = try await call.receiveMessage()
        try await time.sleep(nanoseconds: 1_000_000_000)
        try await call.send(PutShadowReply())
      }
    }
    // Three windows' worth, of which nobody reads anything.
    let count = 3 * ConnectionLimits().connectionWindowBytes / ConnectionLimits().streamWindowBytes
    let answer = pair.begin { channel in
      for _ in 0..<count {
        let call = try await channel.open(
          SlaveCloudMethods.putShadow, CallOptions(timeout: .seconds(10)))
        try await call.send(PutShadowHeader())
        // It does not fit the window, and waits for the call's end.
        try? await call.send(
          bulk: [UInt8](repeating: 1, count: ConnectionLimits().streamWindowBytes))
        _ = try await call.receiveOnly()
      }
      return count
    }
    pair.advance(seconds: 1000)
    #expect(answer.value == count)
    #expect(pair.server.unreadBytes == 0)
    pair.time.end()
  }

  /// Keeps what is sent.
  private final class KeepingLane: Lane, @unchecked Sendable {
    private(set) var parcels: [Parcel] = []
    override func carry(_ parcel: Parcel) { parcels.append(parcel) }
  }

  @Test func whatWasWrittenBeforeCloseStillLeaves() {
    let time = SimulatedTime(dice: SeededGenerator(SeededEntropy(seed: 1)))
    let loop = time.makeLoops(count: 1).loops[0]
    let lane = KeepingLane()
    let link = InProcessLink(
      name: "kept", clientIdentity: nil, clientLoop: loop, toServer: lane, toClient: Lane()
    ) { nil }
    loop.execute {
      let transport = link.makeClient()
      let connection = Connection(
        loop: loop, side: .client, transport: transport, limits: ConnectionLimits(),
        logger: Logger(label: "kept") { _ in SwiftLogNoOpLogHandler() })
      connection.start()
      transport.arrived(.accepted)
      connection.close(RPCError(.cancelled, "enough"))
    }
    time.run()
    guard lane.parcels.count == 3, case .open = lane.parcels[0],
      case .bytes = lane.parcels[1], case .end = lane.parcels[2]
    else {
      Issue.record("\(lane.parcels)")
      return
    }
    time.end()
  }
}
