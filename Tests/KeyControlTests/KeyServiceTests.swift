import Base
import Crypto
import Enrollment
import Foundation
import Messages
import RPC
import TestSupport
import Testing
import X509

@testable import KeyControl

@Suite struct KeyServiceTests {
  private let options = CallOptions(timeout: .seconds(20))

  private func rotate(_ fixture: Fixture, _ kind: KeyKind) async throws -> UInt32 {
    let channel = try fixture.channel(.operatorTool, "alice")
    defer { channel.close() }
    var request = RotateKeyRequest()
    request.kind = kind
    return try await channel.unary(KeyControlMethods.rotateKey, request, options).version
  }

  @Test func everyRoleGetsExactlyItsKeys() async throws {
    let fixture = try await Fixture()
    let store = try fixture.configuration.openStore()
    let expected: [(Role, String, [KeyKind])] = [
      (.imageOwner, "mo-1", [.image, .index]), (.imageUser, "mu-1", [.image, .index]),
      (.master, "mcs-1", [.threshold]),
    ]
    for (role, node, kinds) in expected {
      let ring = try await fixture.fetch(role, node)
      for kind in KeyStoreFormat.kinds {
        #expect(ring.versions(kind) == (kinds.contains(kind) ? [1] : []), "\(role) \(kind)")
        if kinds.contains(kind) {
          #expect(ring.current(kind)?.key == store.keys(kind).first?.key, "\(role) \(kind)")
        }
      }
      #expect(
        fixture.log.contains("audit: delivered keys identity=sfmedir://hospital/\(role)/\(node)"))
    }
    await fixture.stop()
  }

  @Test func nobodyElseGetsAny() async throws {
    let fixture = try await Fixture()
    for (role, node) in [(Role.slave, "scs-1"), (.operatorTool, "alice"), (.keyControl, "kce-2")] {
      let error = await failure { try await fixture.fetch(role, node) }
      #expect(error?.code == .permissionDenied, "\(role)")
    }
    let stranger = try fixture.stranger()
    var request = FetchKeysRequest()
    request.recipientKey = try KeyDelivery.Recipient().publicKey
    let error = await failure {
      try await stranger.unary(KeyControlMethods.fetchKeys, request, options)
    }
    #expect(error?.code == .unauthenticated)
    await fixture.stop()
  }

  @Test func deliveredKeysOpenForTheirReceiverOnly() async throws {
    let fixture = try await Fixture()
    let channel = try fixture.channel(.imageUser, "mu-1")
    let recipient = try KeyDelivery.Recipient()
    var request = FetchKeysRequest()
    request.recipientKey = recipient.publicKey
    let reply = try await channel.unary(KeyControlMethods.fetchKeys, request, options)
    let sealed = try #require(reply.keys.first)
    let store = try fixture.configuration.openStore()
    let user = try Fixture.identity(.imageUser, "mu-1")
    #expect(try recipient.open(sealed, identity: user) == store.keys(.image).first?.key)
    let other = try Fixture.identity(.imageUser, "mu-2")
    #expect(throws: EnrollmentError.self) { try recipient.open(sealed, identity: other) }
    #expect(throws: EnrollmentError.self) {
      try KeyDelivery.Recipient().open(sealed, identity: user)
    }
    for bad in [[], [UInt8](repeating: 0xFF, count: 1216)] {
      request.recipientKey = bad
      let error = await failure { [request] in
        try await channel.unary(KeyControlMethods.fetchKeys, request, options)
      }
      #expect(error?.code == .invalidArgument)
    }
    await fixture.stop()
  }

  @Test func rotationAddsAVersionAndKeepsTheOld() async throws {
    let fixture = try await Fixture()
    let before = try await fixture.fetch(.imageOwner, "mo-1")
    #expect(try await rotate(fixture, .image) == 2)
    #expect(try await rotate(fixture, .image) == 3)
    #expect(
      fixture.log.contains(
        "audit: rotated a key identity=sfmedir://hospital/operator/alice key=image/3"))
    let after = try await fixture.fetch(.imageOwner, "mo-1")
    #expect(after.versions(.image) == [1, 2, 3])
    #expect(after.versions(.index) == [1])
    #expect(after.current(.image)?.version == 3)
    #expect(after.key(.image, version: 1) == before.key(.image, version: 1))
    #expect(after.key(.image, version: 2) != after.key(.image, version: 1))
    // Durable, and the file before the last change is still there.
    let path = fixture.configuration.storePath
    let sealKey = try KeyStore.readSealKey(fixture.configuration.sealKeyFile)
    #expect(try KeyStore.open(path, sealKey: sealKey).keys(.image).count == 3)
    #expect(try KeyStore.open(path + ".previous", sealKey: sealKey).keys(.image).count == 2)
    await fixture.stop()
  }

  @Test func theOperatorListsAndRotatesWhatExists() async throws {
    let fixture = try await Fixture()
    _ = try await rotate(fixture, .threshold)
    let channel = try fixture.channel(.operatorTool, "alice")
    let list = try await channel.unary(KeyControlMethods.listKeys, Empty(), options)
    #expect(
      list.keys.map { [$0.kind.rawValue, $0.version] } == [[1, 1], [2, 1], [2, 2], [3, 1]])
    #expect(list.keys.map(\.current) == [true, false, true, true])
    for kind in [0, 4, UInt32(Int32.max)] {
      let error = await failure { try await rotate(fixture, KeyKind(rawValue: kind)) }
      #expect(error?.code == .invalidArgument, "\(kind)")
    }
    await fixture.stop()
  }

  @Test func versionsAreBoundedSoThatADeliveryFitsOneMessage() async throws {
    let fixture = try await Fixture()
    for kind in [KeyKind.image, .index] {
      for version in 2...UInt32(KeyDelivery.maximumVersions) {
        #expect(try await rotate(fixture, kind) == version)
      }
    }
    let ring = try await fixture.fetch(.imageUser, "mu-1")
    #expect(ring.versions(.image).count == KeyDelivery.maximumVersions)
    #expect(ring.versions(.index).count == KeyDelivery.maximumVersions)
    let error = await failure { try await rotate(fixture, .image) }
    #expect(error?.code == .failedPrecondition)
    #expect(error?.reason == "TooManyVersions")
    await fixture.stop()
  }

  @Test func anOperatorMakesTokensOverTheNetwork() async throws {
    let fixture = try await Fixture()
    let channel = try fixture.channel(.operatorTool, "alice")
    var request = CreateTokenRequest()
    request.role = "mu"
    request.node = "mu-7"
    request.lifetimeSeconds = 600
    let reply = try await channel.unary(KeyControlMethods.createToken, request, options)
    #expect(reply.expiresAtMilliseconds == fixture.clock.wallMilliseconds() + 600_000)
    let node = try Fixture.identity(.imageUser, "mu-7")
    _ = try await fixture.stranger().join(try Requests.join(SecretBytes(reply.token), node))
    let changes: [@Sendable (inout CreateTokenRequest) -> Void] = [
      { $0.role = "kce" }, { $0.role = "king" }, { $0.node = "MU 7" }, { $0.node = "" },
      { $0.lifetimeSeconds = 59 }, { $0.lifetimeSeconds = 31 * 86_400 },
      { $0.lifetimeSeconds = .max },
    ]
    for (index, change) in changes.enumerated() {
      var wrong = request
      change(&wrong)
      let error = await failure { [wrong] in
        try await channel.unary(KeyControlMethods.createToken, wrong, options)
      }
      let code = error?.code
      #expect(code == .invalidArgument || code == .failedPrecondition, "change \(index)")
    }
    await fixture.stop()
  }

  @Test func theWrongRoleIsRefusedByTheTable() async throws {
    let fixture = try await Fixture()
    for role in [Role.slave, .master, .imageOwner, .imageUser, .keyControl] {
      let channel = try fixture.channel(role, "node-1")
      var rotate = RotateKeyRequest()
      rotate.kind = .image
      let errors = [
        await failure { [rotate] in
          try await channel.unary(KeyControlMethods.rotateKey, rotate, options)
        },
        await failure { try await channel.unary(KeyControlMethods.listKeys, Empty(), options) },
        await failure {
          try await channel.unary(KeyControlMethods.createToken, CreateTokenRequest(), options)
        },
      ]
      #expect(errors.map { $0?.code } == Array(repeating: .permissionDenied, count: 3), "\(role)")
    }
    #expect(try fixture.configuration.openStore().keys(.image).count == 1)
    await fixture.stop()
  }

  @Test func aNodeRenewsItselfOnly() async throws {
    let fixture = try await Fixture()
    let channel = try fixture.channel(.slave, "scs-1")
    var request = RenewRequest()
    request.certificateRequest = try Requests.certificate(["sfmedir://hospital/operator/scs-1"])
    let error = await failure { [request] in
      try await channel.unary(KeyControlMethods.renew, request, options)
    }
    #expect(error?.code == .permissionDenied)
    #expect(error?.reason == "WrongIdentity")
    request.certificateRequest = try Requests.certificate(["sfmedir://hospital/scs/scs-1"])
    _ = try await channel.unary(KeyControlMethods.renew, request, options)
    await fixture.stop()
  }

  @Test func anExpiredCertificateIsRefusedByTLS() async throws {
    let fixture = try await Fixture()
    let authority = try fixture.authority()
    let key = P256.Signing.PrivateKey()
    let identity = try Fixture.identity(.imageUser, "mu-1")
    let der = try authority.issue(
      identity, key.publicKey, from: Date() - 7200, to: Date() - 3600)
    let credentials = Credentials(
      certificatePEM: try Certificate(derEncoded: der).serializeAsPEM().pemString,
      privateKeyPEM: key.pemRepresentation, authorityPEM: authority.certificatePEM)
    let channel = fixture.channel(try TLSContext.client(credentials))
    var request = FetchKeysRequest()
    request.recipientKey = try KeyDelivery.Recipient().publicKey
    let error = await failure { [request] in
      try await channel.unary(KeyControlMethods.fetchKeys, request, options)
    }
    let reason = String(describing: error)
    // The alert says so, unless the reset of the closed connection overtakes it.
    #expect(reason.contains("certificate expired") || reason.contains("closed"), "\(reason)")
    #expect(!fixture.log.contains("audit: delivered"))
    await fixture.stop()
  }

  @Test func anotherAuthoritysCertificateIsRefusedByTLS() async throws {
    let fixture = try await Fixture()
    // It trusts the right server, and shows a certificate of its own making.
    var credentials = try TestAuthority(cluster: Fixture.cluster).credentials(.imageUser, "mu-1")
    credentials.authorityPEM = try fixture.authority().certificatePEM
    let channel = fixture.channel(try TLSContext.client(credentials))
    let error = await failure {
      try await KeyDelivery.fetch(
        channel: channel, identity: Fixture.identity(.imageUser, "mu-1"), timeout: .seconds(8))
    }
    // TLS 1.3 refuses a client after the client's own handshake, by an alert or, where the reset is
    // quicker, by nothing but the closed connection.
    #expect(error?.code == .deadlineExceeded)
    let reason = String(describing: error)
    #expect(reason.contains("TLS failed") || reason.contains("closed"), "\(reason)")
    #expect(!fixture.log.contains("audit: delivered"))
    await fixture.stop()
  }

  @Test(.timeLimit(.minutes(1))) func anotherClustersCertificateIsRefused() async throws {
    // One authority for two clusters, which no key control entity makes, so that only the name differs.
    let fixture = try await Fixture()
    let authority = try TestAuthority(cluster: Fixture.cluster)
    let service = try KeyControlService(
      store: fixture.configuration.openStore(), tokens: fixture.configuration.tokens,
      certificateDays: 1, logger: fixture.log.logger)
    let server = Server(
      configuration: ServerConfiguration(
        address: Address(host: "127.0.0.1", port: 0), cluster: Fixture.cluster),
      tls: try TLSContext.server(
        authority.credentials(.keyControl, "kce-1"), admitsStrangers: true),
      router: service.router, group: fixture.group, logger: fixture.log.logger)
    try server.start()
    func fetch(_ cluster: String, _ timeout: Duration) async throws -> KeyRing {
      let identity = try #require(Identity(cluster: cluster, role: .imageUser, node: "mu-1"))
      let channel = Channel(
        address: Address(host: "127.0.0.1", port: server.port),
        tls: try TLSContext.client(authority.credentials(for: identity)),
        expecting: PeerExpectation(cluster: Fixture.cluster, role: .keyControl),
        group: fixture.group, logger: fixture.log.logger)
      defer { channel.close() }
      return try await KeyDelivery.fetch(
        channel: channel, identity: identity, timeout: timeout)
    }
    #expect(await failure { try await fetch("clinic", .seconds(1)) } != nil)
    // The server says so in its own time.
    while !fixture.log.contains("a certificate of cluster 'clinic'") {
      _ = await failure { try await fetch("clinic", .seconds(1)) }
    }
    #expect(!fixture.log.contains("audit: delivered"))
    // The same with the right name works, so it was the name.
    let other = try await fetch(Fixture.cluster, .seconds(20))
    #expect(other.versions(.image) == [1])
    await server.shutdown(graceMilliseconds: 1000)
    await fixture.stop()
  }

  @Test func noSecretReachesTheLog() async throws {
    let fixture = try await Fixture()
    let token = try fixture.token(.imageUser, "mu-1")
    let node = try Fixture.identity(.imageUser, "mu-1")
    _ = try await fixture.stranger().join(try Requests.join(token, node))
    _ = try await fixture.fetch(.imageUser, "mu-1")
    let store = try fixture.configuration.openStore()
    let text = fixture.log.text.lowercased()
    #expect(!text.contains(token.withBytes { $0.hex }))
    for kind in KeyStoreFormat.kinds {
      for key in store.keys(kind) {
        #expect(!text.contains(key.key.withBytes { $0.hex }))
        #expect(!text.contains(key.key.withBytes { Data($0).base64EncodedString() }.lowercased()))
      }
    }
    await fixture.stop()
  }
}
