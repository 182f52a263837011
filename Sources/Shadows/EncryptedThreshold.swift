import Base

/// Why an encrypted threshold did not open.
public enum EncryptedThresholdError: Error, Equatable, Sendable, CustomStringConvertible {
  case wrongLength(byteCount: Int)
  /// Another key, image or epoch than it was sealed for, or altered bytes.
  case notAuthentic(keyVersion: UInt32)
  /// Sealed with the right key by something that does not know this form.
  case unknownForm

  public var description: String {
    switch self {
    case .wrongLength(let byteCount):
      "an encrypted threshold has \(EncryptedThreshold.byteCount) bytes, not \(byteCount)"
    case .notAuthentic(let keyVersion):
      "the threshold does not open with key version \(keyVersion) for this image and epoch"
    case .unknownForm:
      "the threshold is of an unknown form"
    }
  }
}

/// An image's threshold r under AES-256-GCM with K_rEK, as the placement record keeps it.
///
/// The plain text is always 16 bytes: r, then fifteen zeros. Image and epoch are authenticated
/// beside it, so that one record's threshold cannot be moved to another.
public struct EncryptedThreshold: Equatable, Sendable {
  /// Key version, nonce, cipher text and tag.
  public static let byteCount = 4 + AES256GCM.nonceBytes + plainByteCount + AES256GCM.tagBytes
  private static let plainByteCount = 16

  /// The version of K_rEK that opens it.
  public let keyVersion: UInt32
  private let nonce: [UInt8]
  private let sealed: [UInt8]

  /// Seals `threshold`, 2 to 255, under a fresh random nonce.
  public init(
    threshold: Int, key: SecretBytes, keyVersion: UInt32, imageID: ImageID, epoch: UInt32,
    entropy: some Entropy
  ) {
    precondition((2...255).contains(threshold), "threshold \(threshold)")
    var plain = [UInt8](repeating: 0, count: Self.plainByteCount)
    plain[0] = UInt8(threshold)
    defer { zero(&plain) }
    let nonce = entropy.bytes(AES256GCM.nonceBytes)
    self.keyVersion = keyVersion
    self.nonce = nonce
    sealed = key.withBytes { key in
      AES256GCM.seal(
        plain, key: key, nonce: nonce, authenticating: Self.bound(to: imageID, epoch))
    }
  }

  /// Reads the form that ``bytes`` gives.
  public init(parsing bytes: [UInt8]) throws(EncryptedThresholdError) {
    guard bytes.count == Self.byteCount, let keyVersion = UInt32(bigEndian: bytes, at: 0) else {
      throw .wrongLength(byteCount: bytes.count)
    }
    self.keyVersion = keyVersion
    nonce = Array(bytes[4..<4 + AES256GCM.nonceBytes])
    sealed = Array(bytes[(4 + AES256GCM.nonceBytes)...])
  }

  /// Key version (big-endian), nonce, cipher text, tag: 48 bytes.
  public var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.byteCount)
    bytes.append(bigEndian: keyVersion)
    return bytes + nonce + sealed
  }

  /// The threshold, with the key of ``keyVersion``.
  public func open(
    key: SecretBytes, imageID: ImageID, epoch: UInt32
  ) throws(EncryptedThresholdError) -> Int {
    let opened = key.withBytes { key in
      Result { () throws(AuthenticationFailure) in
        try AES256GCM.open(
          sealed, key: key, nonce: nonce, authenticating: Self.bound(to: imageID, epoch))
      }
    }
    guard case .success(var plain) = opened else { throw .notAuthentic(keyVersion: keyVersion) }
    defer { zero(&plain) }
    guard plain.count == Self.plainByteCount, plain[0] >= 2,
      plain.dropFirst().allSatisfy({ $0 == 0 })
    else { throw .unknownForm }
    return Int(plain[0])
  }

  private static func bound(to imageID: ImageID, _ epoch: UInt32) -> [UInt8] {
    var additional = imageID.bytes
    additional.append(bigEndian: epoch)
    return additional
  }
}
