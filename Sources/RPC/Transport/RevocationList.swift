import COpenSSL

/// An authority's list of revoked certificates, checked before TLS gets it: a list that TLS cannot use
/// would refuse everybody.
public struct RevocationList: Sendable, Equatable {
  public let pem: String
  /// Certificates that it names.
  public let revokedCount: Int
  /// Milliseconds since 1970; from the end on every peer is refused. Nil where the list has none.
  public let startsAtMilliseconds: UInt64
  public let endsAtMilliseconds: UInt64?

  /// - Parameters:
  ///   - pem: one list or several.
  ///   - authorityPEM: who must have signed them; nil where that is not known yet.
  /// - Throws: what is wrong with "it"; the caller knows the file's name.
  public init(pem: String, authorityPEM: String?) throws(TLSError) {
    var summary = sfm_revocation_summary()
    var reason = [CChar](repeating: 0, count: 256)
    guard sfm_revocation_read(pem, authorityPEM, &summary, &reason, reason.count) != 0 else {
      let why = reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw TLSError(description: String(decoding: why, as: UTF8.self))
    }
    self.pem = pem
    revokedCount = summary.revoked
    startsAtMilliseconds = UInt64(clamping: summary.starts) * 1000
    endsAtMilliseconds = summary.ends == .max ? nil : UInt64(clamping: summary.ends) * 1000
  }
}
