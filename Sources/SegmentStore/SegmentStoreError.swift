import Base

/// Why a store takes no more writes. Reads go on. The way back is to close and open it again, which
/// trusts nothing that was not synchronized.
public enum ReadOnlyReason: Sendable, Equatable, CustomStringConvertible {
  /// A write or the creation of a segment failed (no space, device error, file system mounted read-only).
  case writeFailed(DiskError)
  /// fdatasync or fsync failed: the unsynchronized bytes count as lost, and no later success can bring
  /// them back, because the kernel may have marked them clean.
  case synchronizationFailed(DiskError)
  /// What recovery had to write at the start (cut, seal, synchronize) failed.
  case recoveryFailed(DiskError)
  /// Pages of the segment that would be appended to cannot be read, so its tail cannot be judged.
  case unreadableTail(segmentIdentifier: UInt64)

  /// What the disk said, where it said something.
  public var diskError: DiskError? {
    switch self {
    case .writeFailed(let error), .synchronizationFailed(let error), .recoveryFailed(let error):
      error
    case .unreadableTail: nil
    }
  }

  public var description: String {
    switch self {
    case .writeFailed(let error): "a write failed: \(error)"
    case .synchronizationFailed(let error): "a synchronization failed: \(error)"
    case .recoveryFailed(let error): "recovery could not write: \(error)"
    case .unreadableTail(let segment):
      "segment \(segment) has unreadable pages, so nothing is appended to it"
    }
  }
}

public enum SegmentStoreStatus: Sendable, Equatable {
  case readWrite
  case readOnly(ReadOnlyReason)
}

/// Bytes or files that are not what was once acknowledged.
public struct SegmentDamage: Sendable, Equatable, CustomStringConvertible {
  public enum Kind: Sendable, Equatable {
    /// The manifest is missing or unreadable; it was written anew from the segments.
    case manifest
    /// A segment's header is unreadable; its records are still checked and served.
    case segmentHeader
    /// A segment's hint file is not what was written; the next start reads the segment instead.
    case hints
    /// A file has a segment's name but belongs to another store or another place; it is left alone.
    case foreignSegment
    /// Segment files are missing, through the given identifier.
    case missingSegments(through: UInt64)
    /// Bytes in which no record can be found.
    case unparseable
    /// The record's header is good and its payload is not.
    case payload
    /// The record's header is good and the file ends inside its payload.
    case truncated
    /// Good records that follow each other lack the ones between.
    case sequenceGap
    /// A good record repeats a sequence number that is already taken; it is not served.
    case sequenceRepeated
    /// A hole in the last batch before a crash, with good records of the same batch behind it. Such a batch
    /// was most likely never acknowledged (`docs/formats/segment.md` says what can be told apart). The hole was sealed.
    case unprovenBatch
    /// The record at this place is not the one the index names.
    case unexpectedRecord
    /// The disk refused to read here.
    case unreadable(DiskError)
  }

  public internal(set) var kind: Kind
  public let segmentIdentifier: UInt64
  public let offsetBytes: UInt64
  public let sizeBytes: UInt64
  /// The record's key where its header could still be read.
  public let key: [UInt8]?
  /// Sequence numbers of value and tombstone records that are gone through this damage, where known.
  public internal(set) var missingSequences: ClosedRange<UInt64>?

  public var description: String {
    var text = "segment \(segmentIdentifier), offset \(offsetBytes), \(sizeBytes) bytes: \(kind)"
    if let key { text += ", key \(hexadecimal(key))" }
    if let missingSequences { text += ", sequences \(missingSequences) missing" }
    return text
  }
}

/// What is wrong with a call to the store, or with what it found.
public enum SegmentStoreError: Error, Sendable, Equatable, CustomStringConvertible {
  /// This or another process has the folder open.
  case alreadyOpen(directory: String)
  case disk(DiskError)
  case invalidConfiguration(String)
  /// Keys have 1 to 64 bytes.
  case invalidKeySize(Int)
  case payloadTooLarge(sizeBytes: Int, limitBytes: Int)
  /// Written by a later version of this program (its checksum is right, its version is not ours).
  case unsupportedVersion(path: String, version: UInt32)
  /// The manifest and every segment header are unreadable, so no record can be checked.
  case identityLost(directory: String)
  case readOnly(ReadOnlyReason)
  /// Too many calls are waiting; nothing of this one was done. Try again later.
  case overloaded
  /// The store was closed; nothing of this call was done.
  case closed
  case damaged(SegmentDamage)
  case threadUnavailable(code: Int32)

  public var description: String {
    switch self {
    case .alreadyOpen(let directory): "segment store \(directory) is already open elsewhere"
    case .disk(let error): "\(error)"
    case .invalidConfiguration(let text): "segment store configuration: \(text)"
    case .invalidKeySize(let size): "a key has \(size) bytes where 1 to 64 are allowed"
    case .payloadTooLarge(let size, let limit):
      "a payload of \(size) bytes is larger than the limit of \(limit) bytes"
    case .unsupportedVersion(let path, let version):
      "\(path) has format version \(version), which this program does not know"
    case .identityLost(let directory):
      "the manifest and every segment header in \(directory) are unreadable"
    case .readOnly(let reason): "the segment store is read-only: \(reason)"
    case .overloaded: "the segment store has too many calls waiting"
    case .closed: "the segment store is closed"
    case .damaged(let damage): "damaged record: \(damage)"
    case .threadUnavailable(let code): "no thread could be started (errno \(code))"
    }
  }
}

/// Lowercase hexadecimal digits, two a byte.
func hexadecimal(_ bytes: [UInt8]) -> String {
  var text = ""
  for byte in bytes {
    text += byte < 16 ? "0" : ""
    text += String(byte, radix: 16)
  }
  return text
}
