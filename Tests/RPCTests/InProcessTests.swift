import Base
import Logging
import Messages
import TestSupport
import Testing

@testable import RPC

/// A server and its callers without a socket between them.
private final class InProcessHarness: Sendable {
  static let address = Address(host: "scs-1", port: 1)
  let network = InProcessNetwork()
  let group: EventLoopGroup
  let server: Server
  let log = CapturedLog()

  init(
    loops: Int = 2, limits: ConnectionLimits = ConnectionLimits(), admitsStrangers: Bool = false,
    routes: (inout Router) -> Void = CallTests.echoRoutes
  ) throws {
    group = EventLoopGroup(count: loops)
    server = Self.makeServer(group, log.logger, limits, routes)
    try listen(server, admitsStrangers: admitsStrangers)
  }

  static func makeServer(
    _ group: EventLoopGroup, _ logger: Logger, _ limits: ConnectionLimits = ConnectionLimits(),
    _ routes: (inout Router) -> Void = CallTests.echoRoutes
  ) -> Server {
    var configuration = ServerConfiguration(address: Self.address, cluster: "test")
    configuration.permissions = Harness.permissions
    configuration.limits = limits
    var router = Router()
    routes(&router)
    return Server(inProcess: configuration, router: router, group: group, logger: logger)
  }

  func listen(_ server: Server, admitsStrangers: Bool = false) throws {
    try network.listen(
      server, as: #require(Identity(cluster: "test", role: .slave, node: "scs-1")),
      at: Self.address, admitsStrangers: admitsStrangers)
  }

  func channel(
    cluster: String = "test", role: Role? = .master, node: String? = nil,
    to address: Address = InProcessHarness.address, limits: ConnectionLimits = ConnectionLimits()
  ) -> Channel {
    network.channel(
      to: address, as: role.flatMap { Identity(cluster: cluster, role: $0, node: "node-1") },
      expecting: PeerExpectation(cluster: "test", role: .slave, node: node), group: group,
      logger: log.logger, limits: limits)
  }

  func list(_ channel: Channel) async -> Result<ListShadowsReply, RPCError> {
    var request = ListShadowsRequest()
    request.after = [1, 2, 3]
    do throws(RPCError) {
      return .success(
        try await channel.unary(
          SlaveCloudMethods.listShadows, request, CallOptions(timeout: .seconds(60))))
    } catch {
      return .failure(error)
    }
  }

  func stop() async { await server.shutdown(graceMilliseconds: 0) }
}

extension Result {
  fileprivate var error: Failure? { if case .failure(let error) = self { error } else { nil } }
}

@Suite(.timeLimit(.minutes(2))) struct InProcessTests {
  @Test(arguments: [1, 2]) func callsOfEveryShapeArrive(_ loops: Int) async throws {
    let harness = try InProcessHarness(loops: loops)
    let channel = harness.channel()
    let reply = try await harness.list(channel).get()
    #expect(reply.names == [[1, 2, 3], Array("sfmedir://test/mcs/node-1".utf8)])

    let options = CallOptions(timeout: .seconds(60))
    let body = SeededEntropy(seed: 7).bytes(3_000_000)
    let put = try await channel.open(SlaveCloudMethods.putShadow, options)
    var header = PutShadowHeader()
    header.name = sha256(body)
    header.bodyBytes = UInt64(body.count)
    try await put.send(header)
    try await put.send(bulk: body)
    try await put.finishSending()
    #expect(try await put.receiveOnly().existed)

    let get = try await channel.open(SlaveCloudMethods.getShadow, options)
    var request = GetShadowRequest()
    request.name = [9]
    try await get.sendLast(request)
    let announced = try #require(try await get.receiveMessage())
    let bytes = try await get.receiveBulk(count: announced.bodyBytes, maximum: 8_000_000)
    #expect(bytes == SeededEntropy(seed: 9).bytes(5_000_000))
    #expect(try await get.receive() == nil)
    await harness.stop()
    #expect(harness.server.connectionCount == 0)
  }

  @Test func bothSidesAreCheckedAsOverTLS() async throws {
    let harness = try InProcessHarness()
    let elsewhere = await harness.list(harness.channel(cluster: "elsewhere")).error
    #expect(elsewhere?.code == .unauthenticated)
    #expect(elsewhere?.message.contains("cluster 'elsewhere'") == true)
    let otherNode = await harness.list(harness.channel(node: "scs-2")).error
    #expect(otherNode?.message.contains("expected sfmedir://test/scs/scs-2") == true)
    #expect(await harness.list(harness.channel(role: .imageUser)).error?.code == .permissionDenied)
    #expect(await harness.list(harness.channel(role: nil)).error?.code == .unauthenticated)
    await harness.stop()

    let open = try InProcessHarness(admitsStrangers: true)
    let stranger = await open.list(open.channel(role: nil)).error
    #expect(stranger?.message.contains("needs a certificate") == true)
    await open.stop()
  }

  @Test func whoIsNotThereIsSaidSoAndFoundWhenItComes() async throws {
    let harness = try InProcessHarness()
    let nobody = harness.channel(to: Address(host: "nobody", port: 1))
    #expect(await harness.list(nobody).error?.message.contains("nobody listens") == true)

    let another = InProcessHarness.makeServer(harness.group, harness.log.logger)
    #expect(throws: RPCError.self) { try harness.listen(another) }
    let channel = harness.channel()
    #expect(await harness.list(channel).error == nil)
    await harness.stop()
    #expect(await harness.list(channel).error?.code == .unavailable)
    try harness.listen(another)
    var options = CallOptions(timeout: .seconds(60))
    options.waitsForReady = true
    _ = try await channel.unary(SlaveCloudMethods.listShadows, ListShadowsRequest(), options)
    await another.shutdown(graceMilliseconds: 0)
  }

  /// A call that runs while the server drains is answered; the other end sees the connection close.
  @Test func lastWordsArrive() async throws {
    let (started, finish) = (Gate(), Gate())
    let harness = try InProcessHarness { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in
        await started.open()
        await finish.wait()
        return SlaveStatusReply()
      }
    }
    let channel = harness.channel()
    let running = Task {
      try await channel.unary(
        SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: .seconds(60)))
    }
    await started.wait()
    let stopping = Task { await harness.server.shutdown(graceMilliseconds: 60_000) }
    await eventually { harness.server.isShutDown }
    await finish.open()
    _ = try await running.value
    await stopping.value
    #expect(harness.server.connectionCount == 0)
  }

  /// A lane that leads nowhere takes as much as a socket's buffers, and no more.
  @Test func whatIsNotTakenIsBounded() {
    let time = SimulatedTime(dice: SeededGenerator(SeededEntropy(seed: 1)))
    let loop = time.makeLoops(count: 1).loops[0]
    let writer = LoneWriter(loop)
    loop.execute { writer.write(1_000_000) }
    time.run()
    let transport = writer.transport
    #expect(transport.bytesUnderWay == InProcessTransport.capacityBytes)
    #expect(transport.pendingBytes == 1_000_000 - InProcessTransport.capacityBytes)
    loop.execute { writer.transport.arrived(.taken(100_000)) }
    time.run()
    #expect(transport.bytesUnderWay == InProcessTransport.capacityBytes)
    #expect(transport.pendingBytes == 900_000 - InProcessTransport.capacityBytes)
    #expect(writer.rooms == 2)
    loop.execute { writer.transport.close() }
    time.run()
    #expect(transport.pendingBytes == 0)
    time.end()
  }
}

/// Owns one end of a link that leads nowhere. Confined to its loop.
private final class LoneWriter: TransportOwner, @unchecked Sendable {
  let transport: InProcessTransport
  private(set) var rooms = 0

  init(_ loop: EventLoop) {
    let link = InProcessLink(
      name: "nowhere", clientIdentity: nil, clientLoop: loop, toServer: Lane(), toClient: Lane()
    ) { nil }
    transport = link.makeClient()
  }

  func write(_ count: Int) {
    transport.owner = self
    transport.arrived(.accepted)
    for _ in 0..<10 {
      [UInt8](repeating: 1, count: count / 10).withUnsafeBytes { transport.output.append($0) }
      transport.outputWasAppended()
    }
  }

  func transportIsReady(_ peer: Identity?) {}
  func transportReceived(_ bytes: UnsafeRawBufferPointer) {}
  var transportWantsFilling: Bool { false }
  func transportFill(_ read: (UnsafeMutableRawBufferPointer) -> Int) {}
  func transportHasRoom() { rooms += 1 }
  func transportClosed(_ error: RPCError) {}
}
