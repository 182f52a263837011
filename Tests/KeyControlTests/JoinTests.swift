import Base
import Enrollment
import Foundation
import Messages
import RPC
import TestSupport
import Testing
import X509

@testable import KeyControl

@Suite struct JoinTests {
  private func load(
    _ fixture: Fixture, _ folder: TemporaryDirectory, joinFile: String?,
    keyControl: Address? = nil, clock: any Base.Clock = SystemClock()
  ) async throws(EnrollmentError) -> NodeIdentity {
    try await Enrollment.loadOrJoin(
      stateDirectory: folder.path("state"), joinFile: joinFile,
      keyControl: keyControl ?? fixture.address, cluster: Fixture.cluster, role: .master,
      node: "mcs-1", group: fixture.group, logger: fixture.log.logger, clock: clock)
  }

  private func mode(_ path: String) -> mode_t {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
  }

  @Test func aNodeJoinsWithItsFileAndStays() async throws {
    let fixture = try await Fixture()
    let folder = try TemporaryDirectory("node")
    let file = folder.path("mcs-1.join")
    // While the daemon runs, as the command line does it.
    _ = try fixture.configuration.makeJoinFile(role: .master, node: "mcs-1", hours: 1, path: file)
    #expect(mode(file) == 0o600)
    let joined = try await load(fixture, folder, joinFile: file)
    #expect(joined.identity.uri == "sfmedir://hospital/mcs/mcs-1")
    #expect(!PrivateFile.exists(file))
    #expect(mode(folder.path("state/identity")) == 0o700)
    for name in ["certificate", "key", "authority"] {
      #expect(mode(folder.path("state/identity/\(name).pem")) == 0o600)
    }
    let year: UInt64 = 365 * 86_400 * 1000
    let left = joined.expiresAtMilliseconds - SystemClock().wallMilliseconds()
    #expect((year - 60_000...year + 1000).contains(left))
    #expect(fixture.log.contains("audit: joined identity=sfmedir://hospital/mcs/mcs-1"))

    // From now on without the KCE.
    let nowhere = Address(host: "127.0.0.1", port: 1)
    let loaded = try await load(fixture, folder, joinFile: file, keyControl: nowhere)
    #expect(loaded.credentials.certificatePEM == joined.credentials.certificatePEM)
    #expect(loaded.credentials.privateKeyPEM == joined.credentials.privateKeyPEM)
    // And the certificate works.
    let channel = fixture.channel(try TLSContext.client(loaded.credentials))
    let ring = try await KeyDelivery.fetch(
      channel: channel, identity: loaded.identity, timeout: .seconds(20))
    #expect(ring.versions(.threshold) == [1])
    await fixture.stop()
  }

  @Test func aTokenWorksOnce() async throws {
    let fixture = try await Fixture()
    let node = try Fixture.identity(.slave, "scs-1")
    let token = try fixture.token(.slave, "scs-1")
    let channel = try fixture.stranger()
    let reply = try await channel.join(try Requests.join(token, node))
    let leaf = try Certificate(derEncoded: reply.certificate)
    #expect(
      try leaf.extensions.subjectAlternativeNames?.first == .uniformResourceIdentifier(node.uri))
    let error = await failure { try await channel.join(try Requests.join(token, node)) }
    #expect(error?.code == .permissionDenied)
    #expect(error?.reason == "BadToken")
    #expect(
      fixture.log.contains("audit: refused to join identity=stranger reason=the token is unknown"))
    await fixture.stop()
  }

  @Test func ofManyJoinsWithOneTokenOneWins() async throws {
    let fixture = try await Fixture()
    let node = try Fixture.identity(.slave, "scs-1")
    let token = try fixture.token(.slave, "scs-1")
    let requests = try (0..<16).map { _ in try Requests.join(token, node) }
    let wins = await withTaskGroup(of: Bool.self) { group in
      for request in requests {
        group.addTask {
          guard let channel = try? fixture.stranger() else { return false }
          defer { channel.close() }
          return (try? await channel.join(request)) != nil
        }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(wins == 1)
    #expect(fixture.log.lines.filter { $0.contains("audit: joined") }.count == 1)
    await fixture.stop()
  }

  @Test func aTokenIsForOneRoleAndNode() async throws {
    let fixture = try await Fixture()
    let token = try fixture.token(.slave, "scs-1")
    let channel = try fixture.stranger()
    for (role, node) in [(Role.slave, "scs-2"), (.master, "scs-1"), (.keyControl, "scs-1")] {
      let other = try Fixture.identity(role, node)
      let error = await failure { try await channel.join(try Requests.join(token, other)) }
      #expect(error?.code == .permissionDenied, "\(other)")
      #expect(error?.reason == "WrongIdentity", "\(other)")
    }
    // A refused request does not spend it.
    let right = try Fixture.identity(.slave, "scs-1")
    _ = try await channel.join(try Requests.join(token, right))
    await fixture.stop()
  }

  @Test func anExpiredOrUnknownTokenAdmitsNobody() async throws {
    let fixture = try await Fixture()
    let node = try Fixture.identity(.slave, "scs-1")
    let token = try fixture.token(.slave, "scs-1", seconds: 60)
    fixture.clock.advance(seconds: 60)
    let channel = try fixture.stranger()
    let expired = await failure { try await channel.join(try Requests.join(token, node)) }
    #expect(expired?.code == .permissionDenied)
    #expect(fixture.log.contains("the token for \(node) has expired"))
    let guessed = SecretBytes([UInt8](repeating: 7, count: 32))
    let unknown = await failure { try await channel.join(try Requests.join(guessed, node)) }
    // Strangers do not learn which it was.
    #expect(unknown == expired)
    var short = try Requests.join(token, node)
    short.token.removeLast()
    let wrongSize = await failure { try await channel.join(short) }
    #expect(wrongSize == expired)
    await fixture.stop()
  }

  @Test func failuresAreLimited() async throws {
    let fixture = try await Fixture()
    let node = try Fixture.identity(.slave, "scs-1")
    let good = try fixture.token(.slave, "scs-1")
    let bad = try Requests.join(SecretBytes([UInt8](repeating: 7, count: 32)), node)
    let channel = try fixture.stranger()
    for _ in 0..<KeyControlService.failedJoins {
      #expect(await failure { try await channel.join(bad) }?.code == .permissionDenied)
    }
    let limited = await failure { try await channel.join(bad) }
    #expect(limited?.code == .resourceExhausted)
    #expect(limited?.reason == "TooManyFailedJoins")
    fixture.clock.advance(seconds: 1)
    _ = try await channel.join(try Requests.join(good, node))
    await fixture.stop()
  }

  @Test func aForeignAuthorityIsNotBelieved() async throws {
    let fixture = try await Fixture()
    let token = try fixture.token(.slave, "scs-1")
    let other = try TestAuthority(cluster: Fixture.cluster)
    let channel = fixture.channel(try TLSContext.stranger(authorityPEM: other.certificatePEM))
    let node = try Fixture.identity(.slave, "scs-1")
    let error = await failure { try await channel.join(try Requests.join(token, node)) }
    #expect(error?.code == .unauthenticated)
    #expect(error?.message.contains("certificate refused") == true, "\(String(describing: error))")
    // The token never left.
    _ = try await fixture.stranger().join(try Requests.join(token, node))
    await fixture.stop()
  }

  @Test func theJoinFileMustBeThisNodes() async throws {
    let fixture = try await Fixture()
    let folder = try TemporaryDirectory("node")
    let file = folder.path("a.join")
    _ = try fixture.configuration.makeJoinFile(role: .master, node: "mcs-2", hours: 1, path: file)
    let wanted = try Fixture.identity(.master, "mcs-1")
    let found = try Fixture.identity(.master, "mcs-2")
    await #expect(throws: EnrollmentError.wrongJoinFile(path: file, wanted: wanted, found: found)) {
      try await load(fixture, folder, joinFile: file)
    }
    let directory = folder.path("state/identity")
    await #expect(throws: EnrollmentError.notEnrolled(identity: wanted, directory: directory)) {
      try await load(fixture, folder, joinFile: nil)
    }
    await fixture.stop()
  }

  @Test func certificatesAreRenewedInTheirLastThird() async throws {
    let fixture = try await Fixture()
    let folder = try TemporaryDirectory("node")
    let file = folder.path("a.join")
    _ = try fixture.configuration.makeJoinFile(role: .master, node: "mcs-1", hours: 1, path: file)
    let first = try await load(fixture, folder, joinFile: file)
    let later = ManualClock()
    later.advance(seconds: 240 * 86_400)
    let kept = try await load(fixture, folder, joinFile: nil, clock: later)
    #expect(kept.credentials.certificatePEM == first.credentials.certificatePEM)

    later.advance(seconds: 5 * 86_400)
    // Unreachable: a warning, and the old one goes on.
    let nowhere = Address(host: "127.0.0.1", port: 1)
    let old = try await load(fixture, folder, joinFile: nil, keyControl: nowhere, clock: later)
    #expect(old.credentials.certificatePEM == first.credentials.certificatePEM)
    #expect(fixture.log.contains("warning the certificate is not renewed"))

    fixture.clock.advance(seconds: 1000)
    let renewed = try await load(fixture, folder, joinFile: nil, clock: later)
    #expect(renewed.credentials.certificatePEM != first.credentials.certificatePEM)
    #expect(renewed.expiresAtMilliseconds > first.expiresAtMilliseconds)
    #expect(fixture.log.contains("audit: renewed the certificate"))
    let stored = try folder.read("state/identity/certificate.pem")
    #expect(stored == Array(renewed.credentials.certificatePEM.utf8))

    later.advance(seconds: 365 * 86_400)
    let wanted = try Fixture.identity(.master, "mcs-1")
    let path = folder.path("state/identity/certificate.pem")
    await #expect(throws: EnrollmentError.expired(path: path, identity: wanted)) {
      try await load(fixture, folder, joinFile: nil, clock: later)
    }
    // A new token is the way out.
    _ = try fixture.configuration.makeJoinFile(role: .master, node: "mcs-1", hours: 1, path: file)
    let again = try await load(fixture, folder, joinFile: file, clock: later)
    #expect(again.credentials.privateKeyPEM != first.credentials.privateKeyPEM)
    await fixture.stop()
  }

  @Test func aTornOrForeignIdentityIsAnError() async throws {
    let fixture = try await Fixture()
    let folder = try TemporaryDirectory("node")
    let file = folder.path("a.join")
    _ = try fixture.configuration.makeJoinFile(role: .master, node: "mcs-1", hours: 1, path: file)
    let own = try await load(fixture, folder, joinFile: file)
    let certificate = folder.path("state/identity/certificate.pem")
    func expect(_ expected: EnrollmentError) async {
      await #expect(throws: expected) { try await load(fixture, folder, joinFile: nil) }
    }
    let other = try fixture.credentials(.master, "mcs-2")
    try folder.write("state/identity/certificate.pem", text: other.certificatePEM)
    await expect(
      .unreadableIdentity(path: certificate, reason: "it does not belong to the private key"))
    try folder.write("state/identity/key.pem", text: other.privateKeyPEM)
    let wanted = try Fixture.identity(.master, "mcs-1")
    do {
      _ = try await load(fixture, folder, joinFile: nil)
      Issue.record("another node's certificate was taken")
    } catch {
      guard case .wrongIdentity(certificate, wanted, let found) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(found.contains("sfmedir://hospital/mcs/mcs-2"))
    }
    try folder.write("state/identity/certificate.pem", text: own.credentials.certificatePEM)
    try folder.write("state/identity/key.pem", text: own.credentials.privateKeyPEM, mode: 0o644)
    await expect(.file(.exposed(path: folder.path("state/identity/key.pem"))))
    try folder.write("state/identity/key.pem", text: "nothing", mode: 0o600)
    await expect(
      .unreadableIdentity(
        path: folder.path("state/identity/key.pem"), reason: "not a P-256 private key in PEM"))
    await fixture.stop()
  }
}
