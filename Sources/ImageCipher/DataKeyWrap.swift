import Base

/// An image's data key under K_QIE, as the masters keep it (docs/formats/wrapped-key.md).
///
/// The seal covers the version of K_QIE and the image's id, so that a record moved to another
/// image does not open. Nonces are random: one version of K_QIE wraps at most 2^32 keys
/// (NIST SP 800-38D, 8.3).
public enum DataKeyWrap {
  /// Version, key version, nonce, 32 sealed bytes, tag.
  public static let byteCount = 1 + 4 + AES256GCM.nonceBytes + QMS1.keyBytes + AES256GCM.tagBytes
  private static let keyVersionBytes = 4
  private static let label = "SFMedIR/data-key/1"

  /// Wraps a 32-byte data key under version `keyVersion` of K_QIE.
  public static func wrap(
    _ dataKey: SecretBytes, under wrappingKey: SecretBytes, keyVersion: UInt32, imageID: ImageID,
    entropy: some Entropy
  ) -> [UInt8] {
    check(wrappingKey)
    precondition(
      dataKey.count == QMS1.keyBytes,
      "a data key has \(QMS1.keyBytes) bytes, not \(dataKey.count)")
    var prefix: [UInt8] = []
    prefix.append(bigEndian: keyVersion)
    return dataKey.withBytes { text in
      wrappingKey.withBytes { key in
        SealedRecord.seal(
          text, key: key, prefix: prefix,
          authenticating: additional(keyVersion: keyVersion, imageID: imageID), entropy: entropy)
      }
    }
  }

  /// Which version of K_QIE opens the record. A claim, until ``unwrap(_:under:imageID:)`` has
  /// checked the seal.
  public static func keyVersion(of wrapped: [UInt8]) throws(SealedRecordError) -> UInt32 {
    try SealedRecord.checkVersion(of: wrapped)
    guard wrapped.count == byteCount, let version = UInt32(bigEndian: wrapped, at: 1) else {
      throw .wrongLength(bytes: wrapped.count)
    }
    return version
  }

  /// The data key; ``SealedRecordError/sealBroken`` where the record was altered, belongs to
  /// another image, or the key is not the one that wrapped it.
  public static func unwrap(
    _ wrapped: [UInt8], under wrappingKey: SecretBytes, imageID: ImageID
  ) throws(SealedRecordError) -> SecretBytes {
    check(wrappingKey)
    let version = try keyVersion(of: wrapped)
    var text = try wrappingKey.withBytes { (key) throws(SealedRecordError) in
      try SealedRecord.open(
        wrapped, key: key, prefixBytes: keyVersionBytes,
        authenticating: additional(keyVersion: version, imageID: imageID))
    }
    defer { zero(&text) }
    return SecretBytes(text)
  }

  /// Moves a record from one version of K_QIE to another; the stored image stays as it is.
  public static func rewrap(
    _ wrapped: [UInt8], from oldKey: SecretBytes, to newKey: SecretBytes, keyVersion: UInt32,
    imageID: ImageID, entropy: some Entropy
  ) throws(SealedRecordError) -> [UInt8] {
    let dataKey = try unwrap(wrapped, under: oldKey, imageID: imageID)
    return wrap(
      dataKey, under: newKey, keyVersion: keyVersion, imageID: imageID, entropy: entropy)
  }

  private static func additional(keyVersion: UInt32, imageID: ImageID) -> [UInt8] {
    var bytes = Array(label.utf8)
    bytes.append(bigEndian: keyVersion)
    return bytes + imageID.bytes
  }

  private static func check(_ key: SecretBytes) {
    precondition(
      key.count == AES256GCM.keyBytes,
      "a wrapping key has \(AES256GCM.keyBytes) bytes, not \(key.count)")
  }
}
