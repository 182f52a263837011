import Base
import Crypto
import Messages
import RPC
import SwiftASN1
import X509

/// An identity with what is needed to renew it.
struct StoredIdentity {
  let key: NodeKey
  let certificate: CheckedCertificate
  let authority: Certificate
  let nodeIdentity: NodeIdentity
}

/// The folder `identity` of a node: authority.pem, key.pem and certificate.pem, all 0600.
///
/// The certificate is written last and read first: where it exists, the other two fit it.
struct IdentityStore {
  let directory: String
  let identity: Identity

  var certificatePath: String { "\(directory)/certificate.pem" }
  var keyPath: String { "\(directory)/key.pem" }
  var authorityPath: String { "\(directory)/authority.pem" }
  private static let maximumBytes = 64 << 10

  func prepare() throws(EnrollmentError) {
    do {
      try PrivateFile.makePrivateDirectory(directory)
    } catch {
      throw .file(error)
    }
  }

  /// Nil where the node has never joined. The expiry is for the caller to judge.
  func load() throws(EnrollmentError) -> StoredIdentity? {
    guard PrivateFile.exists(certificatePath) else { return nil }
    let authority = try certificate(pem: read(authorityPath), path: authorityPath)
    let key = try NodeKey(pem: read(keyPath), path: keyPath)
    let own = try certificate(pem: read(certificatePath), path: certificatePath)
    return try checked(own, key, authority)
  }

  /// Checks the answer of the KCE and stores it.
  func save(
    _ reply: JoinReply, key: NodeKey, authority: Certificate
  ) throws(EnrollmentError) -> StoredIdentity {
    let own: Certificate
    do {
      own = try Certificate(derEncoded: reply.certificate)
    } catch {
      throw .malformedReply("its certificate cannot be read")
    }
    let stored = try checked(own, key, authority)
    let credentials = stored.nodeIdentity.credentials
    do {
      try PrivateFile.makePrivateDirectory(directory)
      if (try? read(keyPath)) != credentials.privateKeyPEM {
        if PrivateFile.exists(certificatePath) { try PrivateFile.remove(certificatePath) }
        try PrivateFile.write(Array(credentials.authorityPEM.utf8), to: authorityPath)
        try PrivateFile.write(Array(credentials.privateKeyPEM.utf8), to: keyPath)
      }
      try PrivateFile.write(Array(credentials.certificatePEM.utf8), to: certificatePath)
    } catch {
      throw .file(error)
    }
    return stored
  }

  func certificate(pem: String, path: String) throws(EnrollmentError) -> Certificate {
    do {
      return try Certificate(pemEncoded: pem)
    } catch {
      throw .unreadableIdentity(path: path, reason: "not a certificate in PEM")
    }
  }

  private func checked(
    _ own: Certificate, _ key: NodeKey, _ authority: Certificate
  ) throws(EnrollmentError) -> StoredIdentity {
    let own = try CheckedCertificate(
      own, key: key.key, authority: authority, identity: identity, path: certificatePath)
    guard let authorityPEM = try? authority.serializeAsPEM().pemString else {
      throw .unreadableIdentity(path: authorityPath, reason: "it cannot be written again")
    }
    let credentials = Credentials(
      certificatePEM: own.pem, privateKeyPEM: key.key.pemRepresentation,
      authorityPEM: authorityPEM)
    return StoredIdentity(
      key: key, certificate: own, authority: authority,
      nodeIdentity: NodeIdentity(
        identity: identity, credentials: credentials,
        startsAtMilliseconds: own.startsAtMilliseconds,
        expiresAtMilliseconds: own.expiresAtMilliseconds))
  }

  private func read(_ path: String) throws(EnrollmentError) -> String {
    do {
      return String(
        decoding: try PrivateFile.read(path, maximumBytes: Self.maximumBytes), as: UTF8.self)
    } catch {
      throw .file(error)
    }
  }
}
