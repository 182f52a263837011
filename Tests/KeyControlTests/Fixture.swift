import Base
import Crypto
import DaemonSupport
import Enrollment
import Logging
import Messages
import RPC
import SwiftASN1
import TestSupport
import Testing
import X509

@testable import KeyControl

/// A key control entity on 127.0.0.1, with real TLS, in a folder of its own.
final class Fixture: Sendable {
  static let cluster = "hospital"

  let folder: TemporaryDirectory
  let configuration: KeyControlConfiguration
  let log = CapturedLog()
  let group = EventLoopGroup(count: 2)
  let clock: ManualClock
  let daemon: KeyControlDaemon

  init(clock: ManualClock = ManualClock()) async throws {
    folder = try TemporaryDirectory("kce")
    configuration = Self.configuration(folder)
    self.clock = clock
    try configuration.initialize()
    daemon = try await KeyControlDaemon.start(
      configuration, group: group, logger: log.logger, clock: clock)
  }

  static func configuration(_ folder: TemporaryDirectory) -> KeyControlConfiguration {
    KeyControlConfiguration(
      common: CommonConfiguration(
        cluster: cluster, node: "kce-1", listen: Address(host: "127.0.0.1", port: 0),
        stateDirectory: folder.path("state")),
      sealKeyFile: folder.path("seal.key"))
  }

  func stop() async { await daemon.shutdown(graceMilliseconds: 1000) }

  var address: Address { Address(host: "127.0.0.1", port: daemon.port) }

  func authority() throws -> CertificateAuthority { try configuration.openStore().authority() }

  static func identity(_ role: Role, _ node: String) throws -> Identity {
    try #require(Identity(cluster: cluster, role: role, node: node))
  }

  func channel(_ tls: TLSContext) -> Channel {
    Channel(
      address: address, tls: tls,
      expecting: PeerExpectation(cluster: Self.cluster, role: .keyControl), group: group,
      logger: log.logger)
  }

  /// A channel of a member that the authority certified without a join.
  func channel(_ role: Role, _ node: String) throws -> Channel {
    channel(try TLSContext.client(credentials(role, node)))
  }

  func credentials(_ role: Role, _ node: String, days: Int = 1) throws -> Credentials {
    let authority = try authority()
    let key = P256.Signing.PrivateKey()
    let der = try authority.issue(Self.identity(role, node), key.publicKey, days: days)
    return Credentials(
      certificatePEM: try Certificate(derEncoded: der).serializeAsPEM().pemString,
      privateKeyPEM: key.pemRepresentation, authorityPEM: authority.certificatePEM)
  }

  func stranger() throws -> Channel {
    channel(try TLSContext.stranger(authorityPEM: authority().certificatePEM))
  }

  func token(_ role: Role, _ node: String, seconds: UInt64 = 3600) throws -> SecretBytes {
    try configuration.tokens.create(
      role: role, node: node, lifetimeSeconds: seconds, clock: clock
    ).secret
  }

  func fetch(_ role: Role, _ node: String) async throws -> KeyRing {
    let channel = try channel(role, node)
    defer { channel.close() }
    return try await KeyDelivery.fetch(
      channel: channel, identity: Self.identity(role, node), timeout: .seconds(20))
  }
}

/// Requests as a node, or somebody who is none, would make them.
enum Requests {
  static func certificate(
    _ uris: [String], key: Certificate.PrivateKey = .init(P256.Signing.PrivateKey()),
    asksForAuthority: Bool = false
  ) throws -> [UInt8] {
    let extensions = try Certificate.Extensions {
      if !uris.isEmpty {
        SubjectAlternativeNames(uris.map { .uniformResourceIdentifier($0) })
      }
      if asksForAuthority {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
      }
    }
    let request = try CertificateSigningRequest(
      version: .v1, subject: try DistinguishedName { CommonName("anything") }, privateKey: key,
      attributes: .init([try .init(ExtensionRequest(extensions: extensions))]))
    var serializer = DER.Serializer()
    try serializer.serialize(request)
    return serializer.serializedBytes
  }

  static func join(_ token: SecretBytes, _ identity: Identity) throws -> JoinRequest {
    var request = JoinRequest()
    request.token = token.withBytes { $0 }
    request.certificateRequest = try certificate([identity.uri])
    return request
  }
}

extension Channel {
  func join(_ request: JoinRequest) async throws(RPCError) -> JoinReply {
    try await unary(KeyControlMethods.join, request, CallOptions(timeout: .seconds(20)))
  }
}

/// The error of a call that has to fail.
func failure<Result>(_ body: () async throws -> Result) async -> RPCError? {
  do {
    _ = try await body()
    return nil
  } catch {
    return (error as? any RPCErrorConvertible)?.rpcError ?? (error as? RPCError)
  }
}
