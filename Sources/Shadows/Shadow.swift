import Base

/// One of the s parts of a secret, any r of which give it back.
public struct Shadow: Equatable, Sendable {
  public let header: ShadowHeader
  /// Everything after the header, and all that a slave ever sees.
  public let body: [UInt8]
  /// Where the split made it while the bytes passed by.
  private var knownDigest: [UInt8]?

  /// Puts a header made from the placement record before the body that a slave returned.
  public init(header: ShadowHeader, body: [UInt8]) {
    self.header = header
    self.body = body
  }

  init(header: ShadowHeader, body: [UInt8], digest: [UInt8]?) {
    self.header = header
    self.body = body
    knownDigest = digest
  }

  public static func == (left: Shadow, right: Shadow) -> Bool {
    left.header == right.header && left.body == right.body
  }

  /// Reads header and body in one piece; the body is checked where the shadow is used.
  public init(parsing bytes: [UInt8]) throws(ShadowError) {
    header = try ShadowHeader(parsing: bytes)
    body = Array(bytes[ShadowHeader.byteCount...])
  }

  /// 1 to 255.
  public var index: Int { header.index }

  /// Header and body in one piece.
  public var bytes: [UInt8] { header.bytes + body }

  public var byteCount: Int { ShadowHeader.byteCount + body.count }

  /// SHA-256 of header and body. A shadow that a split has just made knows it; for any other it is computed at each call.
  ///
  /// The master records it: it binds the bytes to the image, the epoch and the index.
  public func digest() -> [UInt8] { knownDigest ?? computedDigest() }

  /// From the bytes, whatever is known.
  func computedDigest() -> [UInt8] {
    var hasher = SHA256Hasher()
    hasher.update(header.bytes)
    hasher.update(body)
    return hasher.finalize()
  }
}
