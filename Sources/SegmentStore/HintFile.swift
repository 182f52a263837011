import Base

/// A value or tombstone record without its payload.
struct HintEntry: Equatable {
  let kind: RecordKind
  let key: [UInt8]
  let sequence: UInt64
  let offsetBytes: UInt64
  let payloadSizeBytes: Int

  var recordSizeBytes: UInt64 {
    UInt64(RecordHeader.sizeBytes + key.count) + UInt64(payloadSizeBytes)
  }
}

/// Collects the entries of a segment in the order of their records, as the file will hold them.
struct HintBuilder {
  /// A segment of so many small records is read again at each start instead: memory is dearer.
  static let limitBytes = 64 << 20

  private(set) var bytes: [UInt8] = []
  /// False for a segment that has damage, or too many records: it gets no hints.
  private(set) var isUsable = true

  mutating func add(
    _ kind: RecordKind, _ key: [UInt8], sequence: UInt64, offsetBytes: UInt64, payloadSizeBytes: Int
  ) {
    guard isUsable else { return }
    bytes += littleEndian(sequence)
    bytes += littleEndian(UInt32(offsetBytes))
    bytes += littleEndian(UInt32(payloadSizeBytes))
    bytes.append(kind.rawValue)
    bytes.append(UInt8(key.count))
    bytes += key
    if bytes.count > Self.limitBytes { giveUp() }
  }

  mutating func giveUp() {
    isUsable = false
    bytes = []
  }
}

/// What stands in a rolled segment, so that a start need not read the segment (`docs/formats/segment.md`).
struct HintFile: Equatable {
  static let magic: [UInt8] = Array("SFMHINTS".utf8)
  static let headerBytes = 64
  private static let entryBytes = 18
  private static let checksumBytes = 4

  let segmentIdentifier: UInt64
  let store: StoreIdentifier
  /// Of the segment that it describes; another size or generation means that it describes another one.
  let segmentSizeBytes: UInt64
  let segmentGeneration: UInt32
  /// The number that the next record behind this segment takes.
  let nextSequence: UInt64
  /// As ``HintBuilder`` made them.
  let entries: [UInt8]

  func encoded() -> [UInt8] {
    let header = FileBlock.encode(
      magic: Self.magic,
      fields: littleEndian(segmentIdentifier) + store.bytes + littleEndian(segmentSizeBytes)
        + littleEndian(nextSequence) + littleEndian(segmentGeneration))
    let checksum = Checksum.crc32c(entries, continuing: Checksum.crc32c(header))
    return header + entries + littleEndian(checksum)
  }

  static func decode(_ bytes: [UInt8]) -> FileBlockResult<HintFile> {
    guard bytes.count >= headerBytes + checksumBytes else { return .damaged }
    switch FileBlock.decode(Array(bytes[..<headerBytes]), magic: magic) {
    case .damaged: return .damaged
    case .unsupportedVersion(let version): return .unsupportedVersion(version)
    case .valid: break
    }
    let end = bytes.count - checksumBytes
    let checksum = bytes.withUnsafeBytes {
      Checksum.crc32c(UnsafeRawBufferPointer(rebasing: $0[..<end]))
    }
    guard checksum == integer(bytes[end...]) else { return .damaged }
    let hint = HintFile(
      segmentIdentifier: integer(bytes[16..<24]), store: StoreIdentifier(Array(bytes[24..<40])),
      segmentSizeBytes: integer(bytes[40..<48]), segmentGeneration: integer(bytes[56..<60]),
      nextSequence: integer(bytes[48..<56]), entries: Array(bytes[headerBytes..<end]))
    return hint.isConsistent() ? .valid(hint) : .damaged
  }

  /// Hands out the entries in order.
  func visit(_ body: (HintEntry) -> Void) { _ = walk(makingEntries: true, body) }

  /// False at the first entry that no segment of this size can hold.
  private func walk(makingEntries: Bool, _ body: (HintEntry) -> Void) -> Bool {
    var position = 0
    var lastSequence: UInt64 = 0
    var lastEnd = UInt64(SegmentHeader.sizeBytes)
    while position < entries.count {
      guard entries.count - position >= Self.entryBytes,
        let kind = RecordKind(rawValue: entries[position + 16]),
        kind == .value || kind == .tombstone
      else { return false }
      let keySize = Int(entries[position + 17])
      guard (1...RecordHeader.keyLimitBytes).contains(keySize),
        entries.count - position >= Self.entryBytes + keySize
      else { return false }
      let sequence: UInt64 = integer(entries[position..<position + 8])
      let offset = UInt64(integer(entries[position + 8..<position + 12]) as UInt32)
      let payloadSize = Int(integer(entries[position + 12..<position + 16]) as UInt32)
      let end = offset + UInt64(RecordHeader.sizeBytes + keySize + payloadSize)
      guard sequence > lastSequence, sequence < nextSequence, offset >= lastEnd,
        end <= segmentSizeBytes
      else { return false }
      if makingEntries {
        let start = position + Self.entryBytes
        body(
          HintEntry(
            kind: kind, key: Array(entries[start..<start + keySize]), sequence: sequence,
            offsetBytes: offset, payloadSizeBytes: payloadSize))
      }
      lastSequence = sequence
      lastEnd = end
      position += Self.entryBytes + keySize
    }
    return true
  }

  private func isConsistent() -> Bool {
    nextSequence < RecordHeader.sequenceLimit && walk(makingEntries: false) { _ in }
  }
}
