import Base

/// An owner's description of an image, sealed for those who hold the image's data key
/// (docs/formats/wrapped-key.md).
///
/// The sealing key is an HKDF output of its own, so tags may be sealed again at any time without
/// touching the image. Whoever stores them sees their length and may hand out an older version.
public enum SealedTags {
  /// Bytes that sealing adds.
  public static let overheadBytes = 1 + AES256GCM.nonceBytes + AES256GCM.tagBytes
  private static let label = "SFMedIR/tags/1"

  /// Seals any bytes under the image's 32-byte data key.
  public static func seal(
    _ tags: [UInt8], dataKey: SecretBytes, entropy: some Entropy
  ) -> [UInt8] {
    var key = sealingKey(dataKey)
    defer { zero(&key) }
    return SealedRecord.seal(
      tags, key: key, prefix: [], authenticating: Array(label.utf8), entropy: entropy)
  }

  /// The bytes as they were sealed; ``SealedRecordError/sealBroken`` where they were altered or
  /// the data key is another image's.
  public static func open(
    _ sealed: [UInt8], dataKey: SecretBytes
  ) throws(SealedRecordError) -> [UInt8] {
    var key = sealingKey(dataKey)
    defer { zero(&key) }
    return try SealedRecord.open(
      sealed, key: key, prefixBytes: 0, authenticating: Array(label.utf8))
  }

  private static func sealingKey(_ dataKey: SecretBytes) -> [UInt8] {
    precondition(
      dataKey.count == QMS1.keyBytes,
      "a data key has \(QMS1.keyBytes) bytes, not \(dataKey.count)")
    return dataKey.withBytes {
      HKDF.derive(salt: [], inputKeyMaterial: $0, info: label, byteCount: AES256GCM.keyBytes)
    }
  }
}
