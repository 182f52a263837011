import Base
import Crypto
import DaemonSupport
import Enrollment
import Messages
import RPC
import TestSupport
import Testing
import X509

@testable import KeyControl

/// A node's certificate while the node runs.
@Suite(.serialized, .timeLimit(.minutes(2))) struct KeeperTests {
  private struct Node {
    let folder: TemporaryDirectory
    let identity: NodeIdentity
  }

  private func join(_ fixture: Fixture) async throws -> Node {
    let folder = try TemporaryDirectory("node")
    let file = folder.path("a.join")
    _ = try fixture.configuration.makeJoinFile(role: .master, node: "mcs-1", hours: 1, path: file)
    let identity = try await Enrollment.loadOrJoin(
      stateDirectory: folder.path("state"), joinFile: file, keyControl: fixture.address,
      cluster: Fixture.cluster, role: .master, node: "mcs-1", group: fixture.group,
      logger: fixture.log.logger)
    return Node(folder: folder, identity: identity)
  }

  private func keeper(
    _ fixture: Fixture, _ node: Node, revocationList: String? = nil,
    keyControl: Address? = nil, clock: any Base.Clock = SystemClock(),
    sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
  ) throws -> CertificateKeeper {
    try CertificateKeeper(
      node.identity, stateDirectory: node.folder.path("state"),
      keyControl: keyControl ?? fixture.address, revocationList: revocationList,
      group: fixture.group, logger: fixture.log.logger, clock: clock, sleep: sleep, dice: { 0 })
  }

  /// Waiting takes no time: the clock jumps ahead instead.
  private func sleeping(_ clock: ManualClock) -> @Sendable (Duration) async throws -> Void {
    { duration in
      try Task.checkCancellation()
      clock.advance(seconds: UInt64(duration.components.seconds) + 1)
      await Task.yield()
    }
  }

  /// A master of the node's own, whose status call waits for the gate.
  private func serve(
    _ fixture: Fixture, _ keeper: CertificateKeeper, _ gate: Gate, _ began: Locked<Int>
  ) throws -> (Server, Channel) {
    var router = Router()
    router.unary(MasterCloudMethods.clusterStatus) { _, _ in
      began.withLock { $0 += 1 }
      await gate.wait()
      return ClusterStatusReply()
    }
    let server = Server(
      configuration: ServerConfiguration(
        address: Address(host: "127.0.0.1", port: 0), cluster: Fixture.cluster),
      tls: try keeper.serverContext(), router: router, group: fixture.group,
      logger: fixture.log.logger)
    try server.start()
    let channel = Channel(
      address: Address(host: "127.0.0.1", port: server.port),
      tls: try .client(fixture.credentials(.operatorTool, "person")),
      expecting: PeerExpectation(cluster: Fixture.cluster, role: .master), group: fixture.group,
      logger: fixture.log.logger)
    return (server, channel)
  }

  private func ask(_ channel: Channel) async throws {
    _ = try await channel.unary(
      MasterCloudMethods.clusterStatus, Empty(), CallOptions(timeout: .seconds(50)))
  }

  @Test func aRunningNodeRenewsInTimeAndDropsNoCall() async throws {
    let fixture = try await Fixture()
    let node = try await join(fixture)
    // Two thirds of the certificate's year are over in a few minutes.
    let clock = ManualClock()
    clock.advance(seconds: 243 * 86_400 - 300)
    // Less than what new certificates are backdated by: TLS knows the machine's time only.
    fixture.clock.advance(seconds: 100)
    let keeper = try keeper(fixture, node, clock: clock, sleep: sleeping(clock))
    let client = try keeper.clientContext()
    let (gate, began) = (Gate(), Locked(0))
    let (server, channel) = try serve(fixture, keeper, gate, began)
    let call = Task { try await ask(channel) }
    await eventually { began.withLock { $0 == 1 } }

    keeper.start()
    await eventually { fixture.log.contains("notice renewed the certificate") }
    keeper.stop()
    let renewed = keeper.identity
    #expect(renewed.credentials.certificatePEM != node.identity.credentials.certificatePEM)
    #expect(renewed.credentials.privateKeyPEM == node.identity.credentials.privateKeyPEM)
    #expect(renewed.expiresAtMilliseconds > node.identity.expiresAtMilliseconds)
    #expect(
      try node.folder.read("state/identity/certificate.pem")
        == Array(renewed.credentials.certificatePEM.utf8))
    let line = try #require(
      fixture.log.lines.first { $0.hasPrefix("notice renewed the certificate") })
    for part in [
      "subject=sfmedir://hospital/mcs/mcs-1", "certificate=new", "key=unchanged",
      "authority=unchanged", "not_after=20",
    ] {
      #expect(line.contains(part), "\(part) in \(line)")
    }
    await gate.open()
    try await call.value
    // Its clients go on with the new one.
    let keyControl = fixture.channel(client)
    _ = try await KeyDelivery.fetch(
      channel: keyControl, identity: renewed.identity, timeout: .seconds(20))
    await server.shutdown(graceMilliseconds: 0)
    await fixture.stop()
  }

  /// The KCE's clock is far ahead: TLS would refuse what it gives.
  @Test func aCertificateOfTheFutureIsNotTaken() async throws {
    let fixture = try await Fixture()
    let node = try await join(fixture)
    let clock = ManualClock()
    clock.advance(seconds: 250 * 86_400)
    fixture.clock.advance(seconds: 300 * 86_400)
    let keeper = try keeper(fixture, node, clock: clock, sleep: sleeping(clock))
    keeper.start()
    await eventually { fixture.log.contains("which is not now") }
    keeper.stop()
    #expect(
      keeper.identity.credentials.certificatePEM == node.identity.credentials.certificatePEM)
    await fixture.stop()
  }

  @Test func aRenewalThatFailsIsTriedAgain() async throws {
    let fixture = try await Fixture()
    let node = try await join(fixture)
    let clock = ManualClock()
    clock.advance(seconds: 250 * 86_400)
    let nowhere = Address(host: "127.0.0.1", port: 1)
    let keeper = try keeper(
      fixture, node, keyControl: nowhere, clock: clock, sleep: sleeping(clock))
    keeper.start()
    let failed = { @Sendable in
      fixture.log.lines.filter {
        $0.hasPrefix("warning the certificate is not renewed; it will be tried again")
      }
    }
    await eventually { failed().count >= 3 }
    keeper.stop()
    #expect(failed()[0].contains("next_try_seconds=12 "))
    #expect(failed()[2].contains("next_try_seconds=48 "))
    #expect(
      keeper.identity.credentials.certificatePEM == node.identity.credentials.certificatePEM)
    await fixture.stop()
  }

  @Test func aReloadTakesNewFilesAndKeepsTheOldOnesWhereTheNewAreBad() async throws {
    let fixture = try await Fixture()
    let node = try await join(fixture)
    let keeper = try keeper(fixture, node)
    let other = try fixture.credentials(.master, "mcs-1")
    try node.folder.write("state/identity/key.pem", text: other.privateKeyPEM)
    // The pair does not fit.
    #expect(throws: EnrollmentError.self) { try keeper.reload() }
    #expect(keeper.identity.credentials.privateKeyPEM == node.identity.credentials.privateKeyPEM)
    try node.folder.write("state/identity/certificate.pem", text: other.certificatePEM)
    try keeper.reload()
    #expect(keeper.identity.credentials.certificatePEM == other.certificatePEM)
    let line = try #require(
      fixture.log.lines.first { $0.contains("certificates loaded again") })
    #expect(line.contains("certificate=new key=new"))
    #expect(!fixture.log.text.contains("PRIVATE KEY"))
    let (gate, began) = (Gate(), Locked(0))
    await gate.open()
    let (server, channel) = try serve(fixture, keeper, gate, began)
    try await ask(channel)

    // Expired, as far as this node's clock goes.
    let late = ManualClock()
    late.advance(seconds: 400 * 86_400)
    let lateKeeper = try self.keeper(fixture, node, clock: late)
    do {
      try lateKeeper.reload()
      Issue.record("an expired certificate was taken")
    } catch {
      #expect("\(error)".contains("which is not now"), "\(error)")
    }
    await server.shutdown(graceMilliseconds: 0)
    await fixture.stop()
  }

  private func list(
    _ fixture: Fixture, _ revoked: [Credentials], from start: Double = -300, to end: Double = 3600
  ) throws -> String {
    let authority = try fixture.authority()
    return try revocationListPEM(
      of: revoked.map(\.certificatePEM),
      issuer: Certificate(pemEncoded: authority.certificatePEM),
      key: authority.privateKey.withBytes { try P256.Signing.PrivateKey(rawRepresentation: $0) },
      from: start, to: end)
  }

  @Test func aRevocationListIsReadAtTheStartAndAtEachReload() async throws {
    let fixture = try await Fixture()
    let node = try await join(fixture)
    let person = try fixture.credentials(.operatorTool, "person")
    let thief = try fixture.credentials(.operatorTool, "thief")
    let path = try node.folder.write("revoked.pem", text: list(fixture, []))
    let keeper = try keeper(fixture, node, revocationList: path)
    let (gate, began) = (Gate(), Locked(0))
    await gate.open()
    let (server, channel) = try serve(fixture, keeper, gate, began)
    func reaches(_ credentials: Credentials) async -> Bool {
      guard let tls = try? TLSContext.client(credentials) else { return false }
      let channel = Channel(
        address: channel.address, tls: tls,
        expecting: PeerExpectation(cluster: Fixture.cluster, role: .master),
        group: fixture.group, logger: fixture.log.logger)
      defer { channel.close() }
      return (try? await ask(channel)) != nil
    }
    #expect(await reaches(thief))
    try node.folder.write("revoked.pem", text: list(fixture, [thief]))
    try keeper.reload()
    #expect(fixture.log.contains("revoked=1"))
    #expect(await !reaches(thief))
    #expect(await reaches(person))

    // What TLS would refuse everybody for, or cannot read, does not replace it.
    for text in [
      try list(fixture, [], to: -10), try list(fixture, [], from: 1000), "nothing",
      try TestAuthority(cluster: Fixture.cluster).revocationList(),
    ] {
      try node.folder.write("revoked.pem", text: text)
      #expect(throws: EnrollmentError.self) { try keeper.reload() }
      #expect(throws: EnrollmentError.self) {
        try CertificateKeeper.checkRevocationList(
          path, stateDirectory: node.folder.path("state"), cluster: Fixture.cluster,
          role: .master, node: "mcs-1")
      }
    }
    #expect(await !reaches(thief))
    #expect(await reaches(person))
    #expect(throws: EnrollmentError.self) {
      try self.keeper(fixture, node, revocationList: node.folder.path("absent.pem"))
    }
    await server.shutdown(graceMilliseconds: 0)
    await fixture.stop()
  }

  @Test func theEndOfAListIsAnnounced() async throws {
    let fixture = try await Fixture()
    let node = try await join(fixture)
    let path = try node.folder.write("revoked.pem", text: list(fixture, [], to: 7200))
    let clock = ManualClock()
    let keeper = try keeper(
      fixture, node, revocationList: path, clock: clock, sleep: sleeping(clock))
    keeper.start()
    await eventually { fixture.log.contains("error the revocation list ends soon") }
    keeper.stop()
    await fixture.stop()
  }

  // MARK: the key control entity itself

  @Test func theKeyControlEntityMakesItsOwnCertificateAnew() async throws {
    let fixture = try await Fixture()
    let channel = try fixture.channel(.operatorTool, "person")
    let options = CallOptions(timeout: .seconds(20))
    _ = try await channel.unary(KeyControlMethods.listKeys, Empty(), options)
    try await fixture.daemon.reload()
    let line = try #require(
      fixture.log.lines.first { $0.contains("certificates loaded again") })
    #expect(line.contains("subject=sfmedir://hospital/kce/kce-1"))
    #expect(line.contains("certificate=new"))
    _ = try await channel.unary(KeyControlMethods.listKeys, Empty(), options)
    let other = try fixture.channel(.operatorTool, "person")
    _ = try await other.unary(KeyControlMethods.listKeys, Empty(), options)
    await fixture.stop()
  }

  /// SIGTERM: who watches the health learns of it while the connection still stands, and running calls end well.
  @Test func aShutdownSaysNotServingBeforeItGoes() async throws {
    let fixture = try await Fixture()
    let watching = try await fixture.channel(.operatorTool, "person").open(
      HealthMethods.watch, CallOptions(timeout: .seconds(50)))
    try await watching.sendLast(HealthCheckRequest())
    #expect(try await watching.receiveMessage()?.status == .serving)
    let shutdown = Task { await fixture.daemon.shutdown(graceMilliseconds: 50_000) }
    #expect(try await watching.receiveMessage()?.status == .notServing)
    #expect(try await watching.receive() == nil, "a good end, not a cut connection")
    await shutdown.value
  }
}
