import Base
import FoundationEssentials
import Logging
import Messages
import RPC
import X509

/// Where a daemon's certificate comes from.
public protocol CertificateSource: Sendable {
  /// What is there now, without asking anybody.
  func load() throws -> NodeIdentity
  /// A new certificate, stored; `tls` shows the one in use.
  func renew(_ tls: TLSContext) async throws -> NodeIdentity
}

/// The folder `identity` of a node, and the key control entity, which renews what is in it.
struct EnrolledCertificate: CertificateSource {
  let store: IdentityStore
  let keyControl: KeyControlPeer

  func load() throws -> NodeIdentity { try stored().nodeIdentity }

  private func stored() throws(EnrollmentError) -> StoredIdentity {
    guard let stored = try store.load() else {
      throw .notEnrolled(identity: store.identity, directory: store.directory)
    }
    return stored
  }

  func renew(_ tls: TLSContext) async throws -> NodeIdentity { try await renew(stored(), tls) }

  func renew(_ stored: StoredIdentity, _ tls: TLSContext) async throws -> NodeIdentity {
    var request = RenewRequest()
    // The key stays, so that only one file changes and no crash can tear the pair apart.
    request.certificateRequest = try stored.key.certificateRequest(for: store.identity)
    let reply: JoinReply
    do {
      reply = try await keyControl.call(KeyControlMethods.renew, request, tls)
    } catch {
      throw EnrollmentError.refused(
        operation: "renew the certificate", RPCError(answering: error))
    }
    // Somebody may have put another identity there meanwhile, which then counts.
    let now = try self.stored()
    guard now.certificate.pem == stored.certificate.pem else { return now.nodeIdentity }
    return try store.save(reply, key: stored.key, authority: stored.authority).nodeIdentity
  }
}

extension NodeIdentity {
  /// With the times that stand in the certificate; it is not checked further.
  public init(identity: Identity, credentials: Credentials) throws(EnrollmentError) {
    let certificate: Certificate
    do {
      certificate = try Certificate(pemEncoded: credentials.certificatePEM)
    } catch {
      throw .unreadableIdentity(path: "\(identity)", reason: "not a certificate in PEM")
    }
    self.init(
      identity: identity, credentials: credentials,
      startsAtMilliseconds: CheckedCertificate.milliseconds(certificate.notValidBefore),
      expiresAtMilliseconds: CheckedCertificate.milliseconds(certificate.notValidAfter))
  }
}

/// "2026-01-31T23:59:59Z"
func timeText(milliseconds: UInt64) -> String {
  Date(timeIntervalSince1970: Double(milliseconds / 1000)).ISO8601Format()
}
