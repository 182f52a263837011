import Base
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(2))) struct ConnectionTests {
  private static func statusRoute(_ router: inout Router) {
    router.unary(SlaveCloudMethods.slaveStatus) { _, _ in SlaveStatusReply() }
  }

  private static let options = CallOptions(timeout: .seconds(20))

  private func statusError(_ channel: Channel) async -> RPCError? {
    await failure { () async throws(RPCError) in
      try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), Self.options)
    }
  }

  @Test func onlyCertificatesOfTheClusterGetIn() async throws {
    let harness = try Harness(routes: Self.statusRoute)
    #expect(await statusError(try harness.channel()) == nil)

    let otherAuthority = try TestAuthority()
    let foreign = try otherAuthority.credentials(.master, "node-1")
    // The client trusts the server's authority but shows a certificate of another one.
    let mixed = Credentials(
      certificatePEM: foreign.certificatePEM, privateKeyPEM: foreign.privateKeyPEM,
      authorityPEM: try harness.authority.credentials(.master, "x").authorityPEM)
    let refused = await statusError(try harness.channel(credentials: mixed))
    #expect(refused?.code == .unavailable || refused?.code == .unauthenticated)

    // The client does not trust the server.
    let distrusted = await statusError(try harness.channel(credentials: foreign))
    #expect(distrusted?.code == .unauthenticated)
    #expect(distrusted?.message.contains("certificate refused") == true)

    let expired = try harness.authority.expiredCredentials(.master, "node-1")
    let late = await statusError(try harness.channel(credentials: expired))
    #expect(late?.code == .unavailable || late?.code == .unauthenticated)

    let strangers = harness.channel(
      tls: try .stranger(authorityPEM: harness.authority.certificatePEM))
    #expect(await statusError(strangers) != nil)
    await harness.stop()
  }

  @Test func aCertificateOfAnotherClusterIsToldSo() async throws {
    let harness = try Harness(routes: Self.statusRoute)
    let identity = try #require(Identity(cluster: "elsewhere", role: .master, node: "node-1"))
    let credentials = try harness.authority.credentials(
      for: identity, validFrom: -60, validTo: 3600)
    let error = await statusError(try harness.channel(credentials: credentials))
    #expect(error?.code == .unauthenticated)
    #expect(error?.message.contains("cluster 'elsewhere'") == true)
    await harness.stop()
  }

  @Test func anExpiredServerIsRefused() async throws {
    let authority = try TestAuthority()
    let harness = try Harness(
      authority: authority, credentials: try authority.expiredCredentials(.slave, "scs-1"),
      routes: Self.statusRoute)
    let error = await statusError(try harness.channel())
    #expect(error?.code == .unauthenticated)
    #expect(error?.message.contains("expired") == true)
    await harness.stop()
  }

  @Test func theClientChecksWhomItMeets() async throws {
    let harness = try Harness(routes: Self.statusRoute)
    let wrongRole = await statusError(try harness.channel(expecting: .keyControl))
    #expect(wrongRole?.code == .unauthenticated)
    let wrongNode = await statusError(try harness.channel(node: "scs-2"))
    #expect(wrongNode?.message.contains("expected sfmedir://test/scs/scs-2") == true)
    #expect(await statusError(try harness.channel(node: "scs-1")) == nil)
    await harness.stop()
  }

  @Test func rolesAndMethodsAreChecked() async throws {
    let harness = try Harness(admitsStrangers: true, routes: Self.statusRoute)
    #expect(await statusError(try harness.channel(role: .imageUser))?.code == .permissionDenied)
    let unknown = await failure { () async throws(RPCError) in
      try await harness.channel(tls: try! .client(harness.authority.credentials(.master, "n")))
        .unary(
          Method<Empty, Empty>(
            "sfmedir.v1.Nobody/Knows", clientStreams: false, serverStreams: false),
          Empty(), Self.options)
    }
    #expect(unknown?.code == .unimplemented)
    let stranger = harness.channel(
      tls: try .stranger(authorityPEM: harness.authority.certificatePEM))
    #expect(await statusError(stranger)?.code == .unauthenticated)
    await harness.stop()
  }

  /// A machine that hangs accepts connections in its kernel and says nothing more.
  @Test func aCallerThatGivesUpDoesNotWaitForAHandshake() async throws {
    let harness = try Harness(routes: Self.statusRoute)
    let addresses = try Address(host: "127.0.0.1", port: 0).resolve(passive: true)
    var address = addresses[0]
    let silent = listenSocket(&address)
    defer { closeSocket(silent) }
    // Far above the time limit of the test: a call that waited for the handshake would not end in it.
    var patient = ConnectionLimits()
    patient.handshakeMilliseconds = 3_600_000
    let channel = Channel(
      address: Address(host: "127.0.0.1", port: localPort(silent)),
      tls: try .client(harness.authority.credentials(.master, "node-1")),
      expecting: PeerExpectation(cluster: "test", role: .slave), group: harness.group,
      logger: harness.logger, limits: patient)
    let call = Task {
      try await channel.unary(
        SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: .seconds(3000)))
    }
    // The connection is under way, so the call waits for its handshake.
    await eventually { acceptSocket(silent) >= 0 }
    call.cancel()
    await #expect(throws: RPCError.self) { try await call.value }
    channel.close()
    await harness.stop()
  }

  @Test func aServerThatComesBackIsFoundAgain() async throws {
    let authority = try TestAuthority()
    let first = try Harness(authority: authority, routes: Self.statusRoute)
    let port = first.server.port
    let channel = try first.channel()
    #expect(await statusError(channel) == nil)
    await first.stop()
    // The connection is gone and nobody listens.
    let away = await statusError(channel)
    #expect(away?.code == .unavailable)
    let waiting = Task {
      var options = CallOptions(timeout: .seconds(60))
      options.waitsForReady = true
      return try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
    }
    let second = try Harness(authority: authority, port: port, routes: Self.statusRoute)
    _ = try await waiting.value
    await second.stop()
  }

  @Test func drainingLetsRunningCallsEnd() async throws {
    let (started, finish) = (Gate(), Gate())
    let harness = try Harness { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in
        await started.open()
        await finish.wait()
        var reply = SlaveStatusReply()
        reply.shadows = 42
        return reply
      }
    }
    let channel = try harness.channel()
    let running = Task {
      try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), Self.options)
    }
    await started.wait()
    let stopping = Task { await harness.server.shutdown(graceMilliseconds: 60_000) }
    // A new call finds no listener once the connection is told to go away.
    var refused: RPCError?
    while refused == nil {
      refused = await failure { () async throws(RPCError) in
        try await channel.unary(
          SlaveCloudMethods.listShadows, ListShadowsRequest(), Self.options)
      }
      if refused?.code == .unimplemented { refused = nil }
    }
    #expect(refused?.code == .unavailable)
    await finish.open()
    #expect(try await running.value.shadows == 42)
    await stopping.value
    #expect(harness.server.connectionCount == 0)
  }

  @Test func aSilentPeerIsGivenUp() async throws {
    let harness = try Harness(routes: Self.statusRoute)
    var limits = ConnectionLimits()
    limits.handshakeMilliseconds = 200
    let strict = try Harness(
      authority: harness.authority, limits: limits, routes: Self.statusRoute)
    // TLS is done, hello never comes.
    let raw = try RawPeer(
      strict, tls: .client(strict.authority.credentials(.master, "node-1")))
    await raw.send([])
    _ = await raw.waitUntilClosed()
    await eventually { strict.server.connectionCount == 0 }
    await harness.stop()
    await strict.stop()
  }

  @Test func keepaliveEndsAConnectionThatStoppedAnswering() async throws {
    var limits = ConnectionLimits()
    limits.handshakeMilliseconds = 100_000
    limits.keepaliveMilliseconds = 100
    limits.keepaliveTimeoutMilliseconds = 100
    let harness = try Harness(limits: limits, routes: Self.statusRoute)
    let raw = try RawPeer(
      harness, tls: .client(harness.authority.credentials(.master, "node-1")))
    await raw.send(helloFrame())
    _ = await raw.waitUntilClosed()
    #expect(raw.frames().contains { $0.header.type == .ping })
    await harness.stop()
  }

  @Test func everyBrokenFrameClosesTheConnectionAndNothingElse() async throws {
    let harness = try Harness(routes: CallTests.echoRoutes)
    let tls = try TLSContext.client(harness.authority.credentials(.master, "node-1"))
    let query = ImageUserMethods.queryImages.name
    let hello = helloFrame()
    let message = FrameType.message.rawValue
    let bulk = FrameType.bulk.rawValue
    let window = FrameType.window.rawValue
    let cases: [(String, [UInt8])] = [
      ("header before hello", headerFrame(query, stream: 1)),
      ("another protocol version", helloFrame(version: 2)),
      ("two hellos", hello + hello),
      ("unknown type", hello + frame(77)),
      ("unknown flags", hello + frame(message, stream: 1, flags: 0x80)),
      (
        "reserved bytes",
        hello + frame(FrameType.ping.rawValue, [UInt8](repeating: 0, count: 8), reserved: 1)
      ),
      ("an oversized frame", hello + frame(bulk, stream: 1, length: 0x7fff_ffff)),
      ("garbage", SeededEntropy(seed: 99).bytes(4096)),
      (
        "a stream used twice", hello + headerFrame(query, stream: 1) + headerFrame(query, stream: 1)
      ),
      (
        "a stream below the last",
        hello + headerFrame(query, stream: 5) + headerFrame(query, stream: 4)
      ),
      ("data on no stream", hello + frame(bulk, stream: 9, [1])),
      (
        "data after the end",
        hello + headerFrame(query, stream: 1, ends: true) + frame(bulk, stream: 1, [1])
      ),
      (
        "a header that is no message",
        hello + frame(FrameType.header.rawValue, stream: 1, [0xff, 0xff])
      ),
      (
        "a trailer from a client",
        hello + headerFrame(query, stream: 1) + frame(FrameType.trailer.rawValue, stream: 1)
      ),
      ("a short window frame", hello + frame(window, [1])),
      (
        "a window that overflows",
        hello + frame(window, [255, 255, 255, 255]) + frame(window, [255, 255, 255, 255])
      ),
      (
        "a ping of nine bytes",
        hello + frame(FrameType.ping.rawValue, [UInt8](repeating: 0, count: 9))
      ),
    ]
    for (name, bytes) in cases {
      let raw = try RawPeer(harness, tls: tls)
      await raw.send(bytes)
      #expect(await raw.waitUntilClosed() != nil, "\(name)")
    }
    // The server still serves.
    let reply = try await harness.channel().unary(
      SlaveCloudMethods.listShadows, ListShadowsRequest(), Self.options)
    #expect(reply.names.count == 2)
    await harness.stop()
    #expect(harness.server.connectionCount == 0)
  }

  @Test func aWindowOverrunIsAViolation() async throws {
    var limits = ConnectionLimits()
    limits.streamWindowBytes = 64 << 10
    let blocked = Gate()
    let harness = try Harness(limits: limits) { router in
      router.streaming(SlaveCloudMethods.putShadow) { _ in await blocked.wait() }
    }
    let raw = try RawPeer(
      harness, tls: .client(harness.authority.credentials(.master, "node-1")))
    var bytes = helloFrame() + headerFrame(SlaveCloudMethods.putShadow.name, stream: 1)
    for _ in 0..<8 {
      bytes += frame(FrameType.bulk.rawValue, stream: 1, [UInt8](repeating: 0, count: 16 << 10))
    }
    await raw.send(bytes)
    _ = await raw.waitUntilClosed()
    let goAway = raw.frames().last { $0.header.type == .goAway }
    let said = try GoAway(decoding: try #require(goAway).payload)
    #expect(said.message.contains("overran its window"))
    await blocked.open()
    await harness.stop()
  }

  @Test func moreCallsThanAllowedAreRefusedOneByOne() async throws {
    var limits = ConnectionLimits()
    limits.maximumStreams = 4
    let blocked = Gate()
    let harness = try Harness(limits: limits) { router in
      router.streaming(SlaveCloudMethods.putShadow) { _ in await blocked.wait() }
    }
    let raw = try RawPeer(
      harness, tls: .client(harness.authority.credentials(.master, "node-1")))
    var bytes = helloFrame()
    for stream in 1...6 {
      bytes += headerFrame(SlaveCloudMethods.putShadow.name, stream: UInt32(stream))
    }
    await raw.send(bytes)
    await eventually { raw.frames().filter { $0.header.type == .trailer }.count >= 2 }
    let refused = raw.frames().filter { $0.header.type == .trailer }
    #expect(refused.map(\.header.stream) == [5, 6])
    for trailer in refused {
      #expect(
        try Trailer(decoding: trailer.payload).status == StatusCode.resourceExhausted.rawValue)
    }
    #expect(harness.server.connectionCounters["CallTooManyCalls"] == 2)
    await blocked.open()
    raw.close()
    await harness.stop()
  }

  @Test func manyShortConnectionsLeaveNothingBehind() async throws {
    let harness = try Harness(routes: Self.statusRoute)
    let tls = try TLSContext.client(harness.authority.credentials(.master, "node-1"))
    for round in 0..<50 {
      let raw = try RawPeer(harness, tls: tls)
      if round.isMultiple(of: 2) { await raw.send(helloFrame()) }
      raw.close()
    }
    await eventually { harness.server.connectionCount == 0 }
    await harness.stop()
  }
}
