import Base
import Enrollment
import Messages

/// Makes image ids: the same file of the same owner always gets the same one, so uploads may be
/// repeated, and the masters, who lack the key, cannot tell which files two owners share.
///
/// id = first 16 bytes of HMAC-SHA256(key, owner || 0 || SHA-256 of the file), where key =
/// HKDF-SHA256(version 1 of K_QIE, "SFMedIR/image-id/1"). Version 1 for ever: a rotation must not
/// rename what is stored.
public struct ImageNaming: Sendable {
  static let keyVersion: UInt32 = 1
  private let key: SecretBytes

  /// Throws ``PipelineError/keyMissing(kind:version:)`` where the ring lacks version 1 of K_QIE.
  public init(keys: KeyRing) throws(PipelineError) {
    guard let root = keys.key(.image, version: Self.keyVersion) else {
      throw .keyMissing(kind: .image, version: Self.keyVersion)
    }
    key = root.withBytes { root in
      var derived = HKDF.derive(
        salt: [], inputKeyMaterial: root, info: "SFMedIR/image-id/1", byteCount: 32)
      defer { zero(&derived) }
      return SecretBytes(derived)
    }
  }

  /// - Parameter fileDigest: SHA-256 of the file.
  public func imageID(owner: String, fileDigest: [UInt8]) -> ImageID {
    precondition(fileDigest.count == 32, "a SHA-256 has 32 bytes, not \(fileDigest.count)")
    let code = key.withBytes { hmacSHA256(key: $0, parts: [Array(owner.utf8), [0], fileDigest]) }
    guard let id = ImageID(Array(code.prefix(ImageID.byteCount))) else {
      preconditionFailure("HMAC-SHA256 gave \(code.count) bytes")
    }
    return id
  }
}
