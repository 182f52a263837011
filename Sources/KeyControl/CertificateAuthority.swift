import Base
import Crypto
import Enrollment
import FoundationEssentials
import RPC
import SwiftASN1
import X509

/// A certificate request that cannot be granted.
public enum CertificateRequestError: Error, Equatable, Sendable, CustomStringConvertible,
  RPCErrorConvertible
{
  case tooLarge(bytes: Int)
  case unreadable
  case wrongSignature
  case wrongKeyType
  /// Not exactly one URI that is an identity.
  case noIdentity
  case wrongIdentity(wanted: Identity, found: Identity)

  public var description: String {
    switch self {
    case .tooLarge(let bytes): "a certificate request of \(bytes) bytes"
    case .unreadable: "the certificate request is not PKCS #10"
    case .wrongSignature: "the certificate request is not signed with its own key"
    case .wrongKeyType: "the certificate request's key is not a P-256 key"
    case .noIdentity: "the certificate request does not name exactly one sfmedir:// identity"
    case .wrongIdentity(let wanted, let found):
      "the certificate request names \(found), allowed is \(wanted)"
    }
  }

  public var rpcError: RPCError {
    if case .wrongIdentity = self {
      return RPCError(.permissionDenied, description, reason: "WrongIdentity")
    }
    return RPCError(.invalidArgument, description, reason: "BadCertificateRequest")
  }
}

/// What of a request counts: its key and the identity it asks for.
public struct CertificateRequest: Sendable {
  public let identity: Identity
  public let publicKey: P256.Signing.PublicKey
}

/// The cluster's own certificate authority: one P-256 key, one self-signed certificate.
public struct CertificateAuthority: Sendable {
  public static let authorityDays = 3650
  /// Clocks of a cluster differ: a new certificate has to be valid on a machine that is behind.
  static let backdatedSeconds = 300.0
  private static let maximumRequestBytes = 8 << 10

  public let cluster: String
  /// DER.
  public let certificateDER: [UInt8]
  public let certificatePEM: String
  private let certificate: Certificate
  private let key: P256.Signing.PrivateKey

  private init(cluster: String, certificate: Certificate, key: P256.Signing.PrivateKey) throws {
    self.cluster = cluster
    self.certificate = certificate
    self.key = key
    certificateDER = try Self.der(certificate)
    certificatePEM = try certificate.serializeAsPEM().pemString
  }

  /// A new authority that may sign leaves and lists of revoked ones, and nothing else.
  static func make(cluster: String, clock: any Clock) throws -> CertificateAuthority {
    let key = P256.Signing.PrivateKey()
    let now = date(clock)
    // Each part of a name has at most 64 characters (RFC 5280): the cluster needs one of its own.
    let name = try DistinguishedName {
      OrganizationName(cluster)
      CommonName("SFMedIR authority")
    }
    let certificate = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: .init(key.publicKey),
      notValidBefore: now - backdatedSeconds,
      notValidAfter: now + Double(authorityDays) * 86_400, issuer: name, subject: name,
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
        Critical(KeyUsage(keyCertSign: true, cRLSign: true))
        SubjectKeyIdentifier(hash: .init(key.publicKey))
      },
      issuerPrivateKey: .init(key))
    return try CertificateAuthority(cluster: cluster, certificate: certificate, key: key)
  }

  /// An authority out of the key store.
  ///
  /// - Parameter path: the store's, for the error's sentence.
  init(
    cluster: String, privateKey: SecretBytes, certificateDER: [UInt8], path: String
  ) throws {
    let key: P256.Signing.PrivateKey
    let certificate: Certificate
    do {
      key = try privateKey.withBytes { try P256.Signing.PrivateKey(rawRepresentation: $0) }
      certificate = try Certificate(derEncoded: certificateDER)
    } catch {
      throw KeyStoreError.malformed(path: path, reason: "the authority cannot be read")
    }
    guard certificate.publicKey == Certificate.PublicKey(key.publicKey) else {
      throw KeyStoreError.malformed(
        path: path, reason: "the authority's certificate does not belong to its key")
    }
    try self.init(cluster: cluster, certificate: certificate, key: key)
  }

  var privateKey: SecretBytes {
    var raw = key.rawRepresentation
    defer { raw.resetBytes(in: 0..<raw.count) }
    var bytes = [UInt8](raw)
    defer { zero(&bytes) }
    return SecretBytes(bytes)
  }

  // MARK: requests

  /// Reads a PKCS #10 request: everything that it asks for beyond its key and one URI is ignored.
  public static func read(
    _ request: [UInt8]
  ) throws(CertificateRequestError) -> CertificateRequest {
    guard request.count <= maximumRequestBytes else { throw .tooLarge(bytes: request.count) }
    guard let parsed = try? CertificateSigningRequest(derEncoded: request) else {
      throw .unreadable
    }
    guard let publicKey = P256.Signing.PublicKey(parsed.publicKey) else { throw .wrongKeyType }
    guard parsed.publicKey.isValidSignature(parsed.signature, for: parsed) else {
      throw .wrongSignature
    }
    let extensions = try? parsed.attributes.extensionRequest?.extensions
    let names = (try? extensions?.subjectAlternativeNames) ?? SubjectAlternativeNames()
    let identities = names.compactMap { name -> String? in
      if case .uniformResourceIdentifier(let uri) = name { uri } else { nil }
    }
    guard identities.count == 1, let identity = Identity(uri: identities[0]) else {
      throw .noIdentity
    }
    return CertificateRequest(identity: identity, publicKey: publicKey)
  }

  /// The same, where the caller may become `allowed` only.
  public static func read(
    _ request: [UInt8], allowing allowed: Identity
  ) throws(CertificateRequestError) -> CertificateRequest {
    let request = try read(request)
    guard request.identity == allowed else {
      throw .wrongIdentity(wanted: allowed, found: request.identity)
    }
    return request
  }

  // MARK: issuing

  /// A leaf for `identity`, DER, that ends `days` days from now.
  public func issue(
    _ identity: Identity, _ publicKey: P256.Signing.PublicKey, days: Int,
    clock: any Clock = SystemClock()
  ) throws -> [UInt8] {
    let now = Self.date(clock)
    return try issue(
      identity, publicKey, from: now - Self.backdatedSeconds, to: now + Double(days) * 86_400)
  }

  /// The same with the dates given; tests make expired certificates with it.
  func issue(
    _ identity: Identity, _ publicKey: P256.Signing.PublicKey, from start: Date, to end: Date
  ) throws -> [UInt8] {
    precondition(identity.cluster == cluster, "\(identity) is not of cluster \(cluster)")
    let leaf = try Certificate(
      version: .v3, serialNumber: .init(), publicKey: .init(publicKey), notValidBefore: start,
      // A leaf that outlives its authority would fail all at once, on the day nobody expects.
      notValidAfter: min(end, certificate.notValidAfter), issuer: certificate.subject,
      subject: try DistinguishedName { CommonName(identity.node) },
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true))
        try ExtendedKeyUsage([.serverAuth, .clientAuth])
        SubjectAlternativeNames([.uniformResourceIdentifier(identity.uri)])
        // Strict verifiers, Python's among them, want both identifiers.
        SubjectKeyIdentifier(hash: .init(publicKey))
        AuthorityKeyIdentifier(
          keyIdentifier: SubjectKeyIdentifier(hash: .init(key.publicKey)).keyIdentifier)
      },
      issuerPrivateKey: .init(key))
    return try Self.der(leaf)
  }

  /// Credentials for the KCE's own server; their key never leaves this process.
  public func ownCredentials(
    node: String, days: Int, clock: any Clock = SystemClock()
  ) throws -> Credentials {
    guard let identity = Identity(cluster: cluster, role: .keyControl, node: node) else {
      throw EnrollmentError.invalidName(node)
    }
    let leafKey = P256.Signing.PrivateKey()
    let leaf = try Certificate(
      derEncoded: try issue(identity, leafKey.publicKey, days: days, clock: clock))
    return Credentials(
      certificatePEM: try leaf.serializeAsPEM().pemString,
      privateKeyPEM: leafKey.pemRepresentation, authorityPEM: certificatePEM)
  }

  private static func der(_ certificate: Certificate) throws -> [UInt8] {
    var serializer = DER.Serializer()
    try serializer.serialize(certificate)
    return serializer.serializedBytes
  }

  private static func date(_ clock: any Clock) -> Date {
    Date(timeIntervalSince1970: Double(clock.wallMilliseconds() / 1000))
  }
}
