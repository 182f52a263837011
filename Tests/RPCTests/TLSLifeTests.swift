import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Certificates that are exchanged, revoked or end while connections live.
@Suite(.serialized, .timeLimit(.minutes(3))) struct TLSLifeTests {
  private static let options = CallOptions(timeout: .seconds(60))

  private static func statusRoute(_ router: inout Router) {
    router.unary(SlaveCloudMethods.slaveStatus) { _, _ in SlaveStatusReply() }
  }

  private func status(_ channel: Channel) async throws(RPCError) {
    _ = try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), Self.options)
  }

  /// A connection that reaches its age is followed by another, with a session that goes on, and no call fails.
  @Test func oldConnectionsGiveWayWithoutAFailedCall() async throws {
    var limits = ConnectionLimits()
    limits.maximumAgeMilliseconds = 300
    let harness = try Harness(limits: limits, routes: Self.statusRoute)
    let channel = try harness.channel()
    var calls = 0
    while harness.server.connectionCounters["Resumed", default: 0] < 3 {
      try await status(channel)
      calls += 1
      if Task.isCancelled { break }
    }
    let counters = harness.server.connectionCounters
    #expect(counters["Drained", default: 0] >= 2, "\(counters) after \(calls) calls")
    // All but the first: a client keeps one ticket for each server, and each is used once.
    #expect(counters["Resumed"] == counters["Ready", default: 0] - 1)
    channel.close()
    await harness.stop()
  }

  @Test func aCallInFlightOutlivesTheAgeOfItsConnection() async throws {
    var limits = ConnectionLimits()
    limits.maximumAgeMilliseconds = 300
    let (started, finish) = (Gate(), Gate())
    let harness = try Harness(limits: limits) { router in
      Self.statusRoute(&router)
      router.unary(SlaveCloudMethods.listShadows) { _, _ in
        await started.open()
        await finish.wait()
        return ListShadowsReply()
      }
    }
    let channel = try harness.channel()
    let running = Task {
      try await channel.unary(SlaveCloudMethods.listShadows, ListShadowsRequest(), Self.options)
    }
    await started.wait()
    // Others have moved on to new connections, twice.
    while harness.server.connectionCounters["Ready", default: 0] < 3, !Task.isCancelled {
      try await status(channel)
    }
    await finish.open()
    _ = try await running.value
    channel.close()
    await harness.stop()
  }

  @Test func aReloadKeepsCallsAndShowsTheNewCertificate() async throws {
    let (started, finish) = (Gate(), Gate())
    let harness = try Harness { router in
      Self.statusRoute(&router)
      router.unary(SlaveCloudMethods.listShadows) { _, _ in
        await started.open()
        await finish.wait()
        return ListShadowsReply()
      }
    }
    let old = try harness.channel(node: "scs-1")
    let running = Task {
      try await old.unary(SlaveCloudMethods.listShadows, ListShadowsRequest(), Self.options)
    }
    await started.wait()
    try harness.tls.reload(harness.authority.credentials(.slave, "scs-2"))
    try await status(harness.channel(node: "scs-2"))
    let missed = await failure { () async throws(RPCError) in
      try await status(try! harness.channel(node: "scs-1"))
    }
    #expect(missed?.message.contains("met sfmedir://test/scs/scs-2") == true)
    // The old connection goes on as it began.
    try await status(old)
    await finish.open()
    _ = try await running.value
    // What cannot be read changes nothing.
    var broken = try harness.authority.credentials(.slave, "scs-3")
    broken.privateKeyPEM = try harness.authority.credentials(.slave, "scs-3").privateKeyPEM
    #expect(throws: TLSError.self) { try harness.tls.reload(broken) }
    try await status(harness.channel(node: "scs-2"))
    await harness.stop()
  }

  /// One connection after another, with the session of the one before where there is one.
  private func connect(_ harness: Harness, _ tls: TLSContext, _ session: TLSSession) async throws {
    let peer = try RawPeer(harness, tls: tls, session: session)
    await peer.exchangeHellos()
    peer.close()
    await eventually { harness.server.connectionCount == 0 }
  }

  /// A ticket belongs to the certificates under which it was given, on both sides.
  @Test func exchangedCertificatesEndSessions() async throws {
    let harness = try Harness(routes: Self.statusRoute)
    let tls = try TLSContext.client(harness.authority.credentials(.master, "node-1"))
    let session = TLSSession()
    var resumed: [UInt64] = []
    for round in 0..<6 {
      // Several in a row, so that memory of an earlier one may be used again.
      for _ in 0..<round where round < 4 {
        try tls.reload(harness.authority.credentials(.master, "node-1"))
      }
      if round == 4 {
        try harness.tls.reload(harness.authority.credentials(.slave, "scs-1"))
      }
      for _ in 0..<2 {
        let before = harness.server.connectionCounters["Resumed", default: 0]
        try await connect(harness, tls, session)
        resumed.append(harness.server.connectionCounters["Resumed", default: 0] - before)
      }
    }
    // The last round exchanged nothing.
    #expect(resumed == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1])
    await harness.stop()
  }

  @Test func revokedCertificatesAreRefusedAndClosed() async throws {
    var limits = ConnectionLimits()
    limits.keepaliveMilliseconds = 1000
    limits.keepaliveTimeoutMilliseconds = 2000
    let log = CapturedLog()
    let harness = try Harness(limits: limits, log: log, routes: Self.statusRoute)
    let bad = try harness.authority.credentials(.master, "node-1")
    let revoked = try harness.channel(credentials: bad)
    let other = try harness.channel()
    try await status(revoked)
    try await status(other)

    var credentials = try harness.authority.credentials(.slave, "scs-1")
    credentials.revocationPEM = try await OpenSSLRevocations.revoking([bad], of: harness.authority)
    try harness.tls.reload(credentials)
    // The connection that exists is told within a look of the keepalive.
    await eventually { harness.server.connectionCounters["Revoked", default: 0] == 1 }
    await eventually { log.contains("the peer's certificate was revoked") }
    // A new one does not come about.
    let refused = await failure { () async throws(RPCError) in try await status(revoked) }
    #expect(refused?.code == .unavailable || refused?.code == .unauthenticated)
    await eventually {
      harness.server.connectionCounters["HandshakeFailed", default: 0] >= 1
    }
    await eventually { log.contains("certificate revoked") }
    // Whom the list does not name goes on, on the old connection and on new ones.
    try await status(other)
    try await status(harness.channel())
    await harness.stop()
  }

  /// A client holds its server against its own list as well.
  @Test func aRevokedServerIsRefused() async throws {
    let authority = try TestAuthority()
    let server = try authority.credentials(.slave, "scs-1")
    let harness = try Harness(
      authority: authority, credentials: server, routes: Self.statusRoute)
    var credentials = try authority.credentials(.master, "node-1")
    credentials.revocationPEM = try await OpenSSLRevocations.revoking([server], of: authority)
    let error = await failure { () async throws(RPCError) in
      try await status(try! harness.channel(credentials: credentials))
    }
    #expect(error?.code == .unauthenticated)
    #expect(error?.message.contains("revoked") == true)
    await harness.stop()
  }

  /// A list that ran out refuses everybody, also those who bring a ticket from before.
  @Test func aListThatRanOutEndsSessions() async throws {
    let authority = try TestAuthority()
    var server = try authority.credentials(.slave, "scs-1")
    let log = CapturedLog()
    let harness = try Harness(authority: authority, credentials: server, log: log) {
      Self.statusRoute(&$0)
    }
    let tls = try TLSContext.client(authority.credentials(.master, "node-1"))
    let session = TLSSession()
    // Long enough for one handshake on this machine, whatever else it does.
    var seconds = 2.0
    var end = SystemClock().wallMilliseconds()
    var isMade = false
    while !isMade, !Task.isCancelled {
      end = SystemClock().wallMilliseconds() + UInt64(seconds * 1000)
      server.revocationPEM = try authority.revocationList(to: seconds)
      try harness.tls.reload(server)
      let before = harness.server.connectionCounters["Ready", default: 0]
      try await connect(harness, tls, session)
      isMade = harness.server.connectionCounters["Ready", default: 0] > before
      seconds *= 2
    }
    await eventually { SystemClock().wallMilliseconds() > end + 1000 }
    let ready = harness.server.connectionCounters["Ready"]
    try await connect(harness, tls, session)
    await eventually { log.contains("certificate refused: no longer valid") }
    #expect(harness.server.connectionCounters["Ready"] == ready)
    await harness.stop()
  }

  /// A session must not carry a caller beyond the end of its certificate.
  @Test func anExpiredCertificateIsNotResumed() async throws {
    let log = CapturedLog()
    let harness = try Harness(log: log, routes: Self.statusRoute)
    let identity = try harness.authority.identity(.master, "node-1")
    let session = TLSSession()
    // Long enough for one handshake on this machine, whatever else it does.
    var seconds = 2.0
    var made: TLSContext?
    var end = SystemClock().wallMilliseconds()
    while made == nil, !Task.isCancelled {
      end = SystemClock().wallMilliseconds() + UInt64(seconds * 1000)
      let tls = try TLSContext.client(
        harness.authority.credentials(for: identity, validTo: seconds))
      let before = harness.server.connectionCounters["Ready", default: 0]
      try await connect(harness, tls, session)
      if harness.server.connectionCounters["Ready", default: 0] > before { made = tls }
      seconds *= 2
    }
    let tls = try #require(made)
    // Certificates count whole seconds.
    await eventually { SystemClock().wallMilliseconds() > end + 1000 }
    let failures = harness.server.connectionCounters["HandshakeFailed", default: 0]
    let ready = harness.server.connectionCounters["Ready"]
    try await connect(harness, tls, session)
    await eventually {
      harness.server.connectionCounters["HandshakeFailed", default: 0] == failures + 1
    }
    await eventually { log.contains("certificate refused: no longer valid") }
    #expect(harness.server.connectionCounters["Ready"] == ready)
    await harness.stop()
  }

  /// What a socket does not take is kept up to a bound, whoever wrote it.
  @Test func unsentRecordsAreBounded() throws {
    let authority = try TestAuthority()
    var pair: [Int32] = [-1, -1]
    try #require(makeSocketPair(&pair))
    defer { for descriptor in pair { closeSocket(descriptor) } }
    let server = try #require(
      TLSStream(
        context: .server(authority.credentials(.slave, "scs-1")), descriptor: pair[0]))
    let client = try #require(
      TLSStream(
        context: .client(authority.credentials(.master, "node-1")), descriptor: pair[1]))
    var isDone = (false, false)
    for _ in 0..<20 {
      for stream in [server, client] { stream.socketIsReadable() }
      if case .done = client.handshake() { isDone.0 = true }
      if case .done = server.handshake() { isDone.1 = true }
    }
    #expect(isDone == (true, true))
    let record = [UInt8](repeating: 7, count: 16 << 10)
    var largest = 0
    for _ in 0..<1000 {
      _ = record.withUnsafeBytes { server.encrypt($0, more: true) }
      largest = max(largest, server.unsentBytes)
    }
    #expect(largest > 256 << 10 && largest <= 1 << 20)
    #expect(server.send() == .closed)
  }
}

/// Made by the openssl program, as an operator would.
enum OpenSSLRevocations {
  static func revoking(
    _ credentials: [Credentials], of authority: TestAuthority
  ) async throws -> String {
    let folder = try TemporaryDirectory("revocation")
    let authorityPath = try folder.write("authority.pem", text: authority.certificatePEM)
    let keyPath = try folder.write("authority.key", text: authority.privateKeyPEM)
    try folder.write("index.txt", text: "")
    let configuration = try folder.write(
      "openssl.cnf",
      text: """
        [ca]
        default_ca = test
        [test]
        database = \(folder.path("index.txt"))
        default_md = sha256
        default_crl_days = 1

        """)
    let common = [
      "ca", "-config", configuration, "-keyfile", keyPath, "-cert", authorityPath, "-batch",
    ]
    for (index, one) in credentials.enumerated() {
      let path = try folder.write("leaf-\(index).pem", text: one.certificatePEM)
      try await run(common + ["-revoke", path])
    }
    try await run(common + ["-gencrl", "-out", folder.path("list.pem")])
    return String(decoding: try folder.read("list.pem"), as: UTF8.self)
  }

  private static func run(_ arguments: [String]) async throws {
    let outcome = try await runProgram("/usr/bin/openssl", arguments)
    let errors = String(decoding: outcome.errors, as: UTF8.self)
    try #require(outcome.status == 0, "openssl \(arguments): \(errors)")
  }
}
