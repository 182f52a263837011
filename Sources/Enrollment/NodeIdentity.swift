import Base
import Crypto
import FoundationEssentials
import RPC
import SwiftASN1
import X509

/// Who a node is, and the proof of it.
public struct NodeIdentity: Sendable {
  public let identity: Identity
  public let credentials: Credentials
  /// Milliseconds since 1970, as is the end.
  public let startsAtMilliseconds: UInt64
  public let expiresAtMilliseconds: UInt64

  public init(
    identity: Identity, credentials: Credentials, startsAtMilliseconds: UInt64,
    expiresAtMilliseconds: UInt64
  ) {
    self.identity = identity
    self.credentials = credentials
    self.startsAtMilliseconds = startsAtMilliseconds
    self.expiresAtMilliseconds = expiresAtMilliseconds
  }
}

/// A node's certificate as read from a file or an answer, checked against its key and authority.
struct CheckedCertificate {
  let certificate: Certificate
  let pem: String

  /// - Parameter path: for the error's sentence.
  init(
    _ certificate: Certificate, key: P256.Signing.PrivateKey, authority: Certificate,
    identity: Identity, path: String
  ) throws(EnrollmentError) {
    guard certificate.publicKey == Certificate.PublicKey(key.publicKey) else {
      throw .unreadableIdentity(path: path, reason: "it does not belong to the private key")
    }
    guard authority.publicKey.isValidSignature(certificate.signature, for: certificate) else {
      throw .unreadableIdentity(path: path, reason: "the authority did not sign it")
    }
    let names = (try? certificate.extensions.subjectAlternativeNames) ?? SubjectAlternativeNames()
    guard names.count == 1, names.first == .uniformResourceIdentifier(identity.uri) else {
      let found = names.map { "\($0)" }.joined(separator: ", ")
      throw .wrongIdentity(path: path, wanted: identity, found: found.isEmpty ? "nobody" : found)
    }
    guard let pem = try? certificate.serializeAsPEM().pemString else {
      throw .unreadableIdentity(path: path, reason: "it cannot be written again")
    }
    self.certificate = certificate
    self.pem = pem
  }

  var startsAtMilliseconds: UInt64 { Self.milliseconds(certificate.notValidBefore) }
  var expiresAtMilliseconds: UInt64 { Self.milliseconds(certificate.notValidAfter) }

  /// Less than a third of the lifetime is left.
  func isDue(nowMilliseconds now: UInt64) -> Bool {
    guard expiresAtMilliseconds > now else { return true }
    let lifetime = expiresAtMilliseconds - min(startsAtMilliseconds, expiresAtMilliseconds)
    return expiresAtMilliseconds - now < lifetime / 3
  }

  static func milliseconds(_ date: Date) -> UInt64 {
    // Certificates reach from 1950 to 9999: beyond both ends of what is asked here.
    UInt64(max(0, date.timeIntervalSince1970) * 1000)
  }
}

/// A node's private key and the request that shows it to the KCE.
struct NodeKey: Sendable {
  let key: P256.Signing.PrivateKey

  init() { key = P256.Signing.PrivateKey() }

  init(pem: String, path: String) throws(EnrollmentError) {
    do {
      key = try P256.Signing.PrivateKey(pemRepresentation: pem)
    } catch {
      throw .unreadableIdentity(path: path, reason: "not a P-256 private key in PEM")
    }
  }

  /// PKCS #10, DER, with the identity's URI as the only alternative name.
  func certificateRequest(for identity: Identity) throws(EnrollmentError) -> [UInt8] {
    do {
      let extensions = try Certificate.Extensions {
        SubjectAlternativeNames([.uniformResourceIdentifier(identity.uri)])
      }
      let request = try CertificateSigningRequest(
        version: .v1, subject: try DistinguishedName { CommonName(identity.node) },
        privateKey: .init(key),
        attributes: .init([try .init(ExtensionRequest(extensions: extensions))]),
        signatureAlgorithm: .ecdsaWithSHA256)
      var serializer = DER.Serializer()
      try serializer.serialize(request)
      return serializer.serializedBytes
    } catch {
      throw .malformedReply("the certificate request cannot be made: \(error)")
    }
  }
}
