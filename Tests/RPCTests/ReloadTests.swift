import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Certificates and revocation lists are exchanged while calls run.
@Suite(.timeLimit(.minutes(1))) struct ReloadTests {
  private static let timeout = Duration.seconds(50)

  /// A server whose calls wait for the gate, and tell that they began.
  private static func harness(
    _ gate: Gate, _ began: Locked<Int>, limits: ConnectionLimits = ConnectionLimits()
  ) throws -> Harness {
    try Harness(limits: limits) { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in
        began.withLock { $0 += 1 }
        await gate.wait()
        try Task.checkCancellation()
        return SlaveStatusReply()
      }
    }
  }

  private func ask(_ channel: Channel) async -> RPCError? {
    await failure { () async throws(RPCError) in
      try await channel.unary(
        SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: Self.timeout))
    }
  }

  @Test func aCallOutlivesAReloadAndNewConnectionsSeeTheNewCertificate() async throws {
    let (gate, began) = (Gate(), Locked(0))
    let harness = try Self.harness(gate, began)
    let old = try harness.channel(node: "scs-1")
    let call = Task { await ask(old) }
    await eventually { began.withLock { $0 == 1 } }

    try harness.tls.reload(try harness.authority.credentials(.slave, "scs-9"))
    let new = try harness.channel(node: "scs-9")
    let second = Task { await ask(new) }
    await eventually { began.withLock { $0 == 2 } }
    // A new connection that expects the old name meets another.
    let refused = await ask(try harness.channel(node: "scs-1"))
    #expect(refused?.code == .unauthenticated, "\(String(describing: refused))")

    await gate.open()
    #expect(await call.value == nil)
    #expect(await second.value == nil)
    // The old connection goes on with more calls.
    #expect(await ask(old) == nil)
    #expect(harness.server.connectionCounters["Ready"] == 2)
    await harness.stop()
  }

  @Test func whatCannotBeReadChangesNothing() async throws {
    let (gate, began) = (Gate(), Locked(0))
    await gate.open()
    let harness = try Self.harness(gate, began)
    var broken = try harness.authority.credentials(.slave, "scs-9")
    broken.privateKeyPEM = try harness.authority.credentials(.slave, "scs-9").privateKeyPEM
    #expect(throws: TLSError.self) { try harness.tls.reload(broken) }
    #expect(await ask(try harness.channel(node: "scs-1")) == nil)
    await harness.stop()
  }

  @Test func aRevokedPeerIsCutAndNotLetInAgain() async throws {
    let (gate, began) = (Gate(), Locked(0))
    var limits = ConnectionLimits()
    limits.keepaliveMilliseconds = 50
    let harness = try Self.harness(gate, began, limits: limits)
    let credentials = try harness.authority.credentials(.slave, "scs-1")
    let (good, bad) = (
      try harness.authority.credentials(.master, "good"),
      try harness.authority.credentials(.master, "bad")
    )
    let goodChannel = try harness.channel(credentials: good)
    let badChannel = try harness.channel(credentials: bad)
    let goodCall = Task { await ask(goodChannel) }
    let badCall = Task { await ask(badChannel) }
    await eventually { began.withLock { $0 == 2 } }

    var withList = credentials
    withList.revocationPEM = try harness.authority.revocationList(of: [bad])
    try harness.tls.reload(withList)
    // Its call ends without the gate, by the closed connection.
    #expect(await badCall.value != nil)
    #expect(harness.server.connectionCounters["Revoked"] == 1)
    let again = await ask(badChannel)
    #expect(again != nil)
    #expect(began.withLock { $0 } == 2, "no call of a revoked peer reaches a handler")
    #expect(await ask(try harness.channel(credentials: bad)) != nil)

    await gate.open()
    #expect(await goodCall.value == nil)
    #expect(await ask(goodChannel) == nil)
    #expect(await ask(try harness.channel(credentials: good)) == nil)
    await harness.stop()
  }

  @Test func aServerThatIsRevokedIsLeftByItsClients() async throws {
    let (gate, began) = (Gate(), Locked(0))
    let harness = try Self.harness(gate, began)
    var limits = ConnectionLimits()
    limits.keepaliveMilliseconds = 50
    var own = try harness.authority.credentials(.master, "node-1")
    let server = try harness.authority.credentials(.slave, "scs-1")
    try harness.tls.reload(server)
    let tls = try TLSContext.client(own)
    let channel = harness.channel(tls: tls, limits: limits)
    let call = Task { await ask(channel) }
    await eventually { began.withLock { $0 == 1 } }
    own.revocationPEM = try harness.authority.revocationList(of: [server])
    try tls.reload(own)
    #expect(await call.value?.code == .unauthenticated)
    await gate.open()
    await harness.stop()
  }

  // MARK: reading lists

  @Test func listsAreReadAndChecked() throws {
    let authority = try TestAuthority()
    let peers = try (0..<3).map { try authority.credentials(.slave, "scs-\($0)") }
    let text = try authority.revocationList(of: peers, from: -600, to: 600)
    let list = try RevocationList(pem: text, authorityPEM: authority.certificatePEM)
    #expect(list.revokedCount == 3)
    let now = SystemClock().wallMilliseconds()
    #expect((now - 610_000...now - 590_000).contains(list.startsAtMilliseconds))
    #expect((now + 590_000...now + 610_000).contains(try #require(list.endsAtMilliseconds)))

    let empty = try RevocationList(
      pem: authority.revocationList(to: nil), authorityPEM: authority.certificatePEM)
    #expect(empty.revokedCount == 0 && empty.endsAtMilliseconds == nil)
    let both = try RevocationList(
      pem: text + authority.revocationList(of: [peers[0]]), authorityPEM: nil)
    #expect(both.revokedCount == 4)
  }

  @Test func whatIsNoListOfThisAuthorityIsRefused() throws {
    let authority = try TestAuthority()
    let text = try authority.revocationList(of: [try authority.credentials(.slave, "scs-1")])
    func why(_ pem: String, _ authorityPEM: String?) -> String {
      do {
        _ = try RevocationList(pem: pem, authorityPEM: authorityPEM)
        return "nothing"
      } catch {
        return error.description
      }
    }
    let other = try TestAuthority()
    // The same name, another key.
    #expect(why(text, other.certificatePEM).contains("did not sign it"))
    #expect(why(text, nil) == "nothing")
    #expect(why("", authority.certificatePEM).contains("holds no list"))
    #expect(why(authority.certificatePEM, nil).contains("holds no list"))
    var cut = text.split(separator: "\n").map(String.init)
    cut[1] = String(cut[1].reversed())
    #expect(why(cut.joined(separator: "\n") + "\n", nil).contains("not a list"))
    #expect(why(text + cut.joined(separator: "\n") + "\n", nil).contains("not a list"))
  }
}
