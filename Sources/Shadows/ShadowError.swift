import Base

/// Why a secret could not be split, rebuilt or repaired.
public enum ShadowError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The scheme has no (r, s) of these values.
  case impossibleThreshold(threshold: Int, shadowCount: Int)
  /// More bytes than the scheme takes; also where a header merely claims so many.
  case secretTooLarge(byteCount: UInt64, maximum: Int)
  /// `have` counts different indices only.
  case notEnoughShadows(have: Int, need: Int)
  /// The bytes differ from those whose digest was recorded.
  case corruptShadow(index: Int)
  /// No digest is recorded for this index, so nothing vouches for its bytes.
  case missingDigest(index: Int)
  /// The bytes are not of the format at all.
  case malformedShadow(MalformedShadow)
  /// The shadows belong to different images, epochs or lengths.
  case inconsistentShadows(index: Int)
  /// Authentic shadows that no split can have made: whoever recorded their digests made them up.
  case contradictoryShadows
  /// No shadow has this index.
  case indexOutOfRange(Int)
  /// A file with the secret, a shadow or intermediate bytes cannot be read or written.
  case storageFailed(DiskError)
  /// Such a file ends where more bytes have to be.
  case storageEnded(offset: Int)

  public var description: String {
    switch self {
    case .impossibleThreshold(let threshold, let shadowCount):
      "no sharing has threshold \(threshold) of \(shadowCount) shadows"
    case .secretTooLarge(let byteCount, let maximum):
      "a secret of \(byteCount) bytes exceeds the limit of \(maximum)"
    case .notEnoughShadows(let have, let need):
      "\(have) shadows are too few: \(need) are needed"
    case .corruptShadow(let index):
      "shadow \(index) does not have the recorded digest"
    case .missingDigest(let index):
      "no digest is recorded for shadow \(index)"
    case .malformedShadow(let reason):
      "not a shadow: \(reason)"
    case .inconsistentShadows(let index):
      "shadow \(index) belongs to another image, epoch or length than the first"
    case .contradictoryShadows:
      "the shadows contradict each other although each has its recorded digest"
    case .indexOutOfRange(let index):
      "shadow indices are 1 to 255, not \(index)"
    case .storageFailed(let error): "\(error)"
    case .storageEnded(let offset): "the bytes end at \(offset), where more have to follow"
    }
  }
}

/// What is wrong with the bytes of a shadow.
public enum MalformedShadow: Error, Equatable, Sendable, CustomStringConvertible {
  case truncatedHeader(byteCount: Int)
  case unknownFormat
  case unsupportedVersion(UInt8)
  case unsupportedBlockOrder(UInt8)
  case reservedByteInUse(UInt8)
  case indexZero
  case wrongBodyLength(byteCount: Int, expected: Int)

  public var description: String {
    switch self {
    case .truncatedHeader(let byteCount): "\(byteCount) bytes are fewer than a header has"
    case .unknownFormat: "the format mark is unknown"
    case .unsupportedVersion(let version): "format version \(version) is not supported"
    case .unsupportedBlockOrder(let order): "blocks of order \(order) are not supported"
    case .reservedByteInUse(let value): "the reserved byte is \(value), not 0"
    case .indexZero: "the index is 0"
    case .wrongBodyLength(let byteCount, let expected):
      "the body has \(byteCount) bytes instead of \(expected)"
    }
  }
}
