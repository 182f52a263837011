import Base
import Crypto
import Foundation
import RPC
import SwiftASN1
import X509

/// A certificate authority in memory that makes credentials for whoever a test needs.
///
/// Two instances are two authorities that do not trust one another, of the same cluster or not.
public final class TestAuthority: Sendable {
  public let cluster: String
  public let certificatePEM: String
  private let key: P256.Signing.PrivateKey
  private let name: DistinguishedName

  public init(cluster: String = "test") throws {
    self.cluster = cluster
    key = P256.Signing.PrivateKey()
    name = try DistinguishedName { CommonName("\(cluster) test authority") }
    let certificate = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: .init(key.publicKey),
      notValidBefore: Date() - 3600, notValidAfter: Date() + 86_400,
      issuer: name, subject: name, signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(keyCertSign: true, cRLSign: true))
      },
      issuerPrivateKey: .init(key))
    certificatePEM = try certificate.serializeAsPEM().pemString
  }

  /// A list of revoked certificates, PEM; the times are seconds from now.
  public func revocationList(
    of revoked: [Credentials] = [], from start: Double = -300, to end: Double? = 3600
  ) throws -> String {
    try revocationListPEM(
      of: revoked.map(\.certificatePEM), issuer: Certificate(pemEncoded: certificatePEM), key: key,
      from: start, to: end)
  }

  /// For lists of revoked certificates.
  public var privateKeyPEM: String { key.pemRepresentation }

  /// A node of this authority's cluster.
  public func identity(_ role: Role, _ node: String) throws -> Identity {
    guard let identity = Identity(cluster: cluster, role: role, node: node) else {
      throw TestAuthorityError(description: "'\(node)' in '\(cluster)' is no name")
    }
    return identity
  }

  public func credentials(_ role: Role, _ node: String) throws -> Credentials {
    try credentials(for: identity(role, node))
  }

  /// Credentials of a certificate that ended an hour ago.
  public func expiredCredentials(_ role: Role, _ node: String) throws -> Credentials {
    try credentials(for: identity(role, node), validFrom: -7200, validTo: -3600)
  }

  /// - Parameters:
  ///   - validFrom: seconds from now, may be negative; so is `validTo`.
  public func credentials(
    for identity: Identity, validFrom: Double = -300, validTo: Double = 3600
  ) throws -> Credentials {
    let leafKey = P256.Signing.PrivateKey()
    let certificate = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: .init(leafKey.publicKey),
      notValidBefore: Date() + validFrom, notValidAfter: Date() + validTo,
      issuer: name, subject: try DistinguishedName { CommonName(identity.node) },
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true))
        try ExtendedKeyUsage([.serverAuth, .clientAuth])
        SubjectAlternativeNames([.uniformResourceIdentifier(identity.uri)])
      },
      issuerPrivateKey: .init(key))
    return Credentials(
      certificatePEM: try certificate.serializeAsPEM().pemString,
      privateKeyPEM: leafKey.pemRepresentation, authorityPEM: certificatePEM)
  }
}

public struct TestAuthorityError: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String
}
