import Base

/// Why a small sealed record (a wrapped data key, sealed tags) does not open.
public enum SealedRecordError: Error, Equatable, Sendable, CustomStringConvertible {
  /// A length that no such record has.
  case wrongLength(bytes: Int)
  /// A record written by a version of its format that this program does not know.
  case unknownVersion(UInt8)
  /// Altered, moved from another image, or opened with the wrong key.
  case sealBroken

  public var description: String {
    switch self {
    case .wrongLength(let count):
      "no sealed record has \(count) bytes"
    case .unknownVersion(let version):
      "the sealed record has format version \(version), this program knows version "
        + "\(SealedRecord.version) only"
    case .sealBroken:
      "the sealed record's seal does not fit: altered data, another image's record or a wrong key"
    }
  }
}

/// What both records share: a version byte, an open prefix, a random nonce and an AES-256-GCM seal
/// (docs/formats/wrapped-key.md).
enum SealedRecord {
  static let version: UInt8 = 1

  /// Version, `prefix`, nonce, sealed text, tag.
  static func seal(
    _ text: [UInt8], key: [UInt8], prefix: [UInt8], authenticating additional: [UInt8],
    entropy: some Entropy
  ) -> [UInt8] {
    let nonce = entropy.bytes(AES256GCM.nonceBytes)
    let sealed = AES256GCM.seal(text, key: key, nonce: nonce, authenticating: additional)
    return [version] + prefix + nonce + sealed
  }

  /// The version comes first, so that a later version may have any length.
  static func checkVersion(of record: [UInt8]) throws(SealedRecordError) {
    guard let first = record.first else { throw .wrongLength(bytes: 0) }
    guard first == version else { throw .unknownVersion(first) }
  }

  /// The text; the caller zeroes it where it is secret.
  static func open(
    _ record: [UInt8], key: [UInt8], prefixBytes: Int, authenticating additional: [UInt8]
  ) throws(SealedRecordError) -> [UInt8] {
    try checkVersion(of: record)
    let sealedStart = 1 + prefixBytes + AES256GCM.nonceBytes
    guard record.count >= sealedStart + AES256GCM.tagBytes else {
      throw .wrongLength(bytes: record.count)
    }
    do throws(AuthenticationFailure) {
      return try AES256GCM.open(
        Array(record[sealedStart...]), key: key,
        nonce: Array(record[(1 + prefixBytes)..<sealedStart]), authenticating: additional)
    } catch {
      throw .sealBroken
    }
  }
}
