import Base

enum RecordKind: UInt8 {
  case value = 1
  case tombstone = 2
  /// Says that everything before it in the segment was synchronized when it was written.
  case commit = 3
  /// Covers a hole that recovery found, reported and sealed.
  case void = 4
}

/// What ties a record to its place: the checksum of a header is continued from the store, the segment and the
/// offset. So neither a record lying inside some payload, nor a copy, nor a misdirected write passes for a record here.
struct RecordBinding {
  private let seed: UInt32

  init(store: StoreIdentifier, segmentIdentifier: UInt64) {
    seed = Checksum.crc32c(store.bytes + littleEndian(segmentIdentifier))
  }

  func checksum(
    header: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer, offset: UInt64
  ) -> UInt32 {
    let placed = withUnsafeBytes(of: offset.littleEndian) {
      Checksum.crc32c($0, continuing: seed)
    }
    return Checksum.crc32c(key, continuing: Checksum.crc32c(header, continuing: placed))
  }
}

enum RecordHeaderResult {
  case valid(RecordHeader)
  case invalid
  /// The checksum is right and the version is not ours.
  case unsupportedVersion(UInt8)
}

/// The 32 bytes before a record's key and payload (`docs/formats/segment.md` has the byte table).
struct RecordHeader: Equatable {
  static let sizeBytes = 32
  static let keyLimitBytes = 64
  /// What the format allows; a store's own limit may be lower.
  static let payloadLimitBytes = 1 << 30
  /// Sequence numbers stay far below overflow, whatever bytes somebody writes.
  static let sequenceLimit: UInt64 = 1 << 62
  static let magic: [UInt8] = Array("SFMR".utf8)
  static let version: UInt8 = 1

  let kind: RecordKind
  let keySizeBytes: Int
  /// Of a value or tombstone, its own number; of a commit or void record, the number the next one takes.
  let sequence: UInt64
  let payloadSizeBytes: Int
  let payloadChecksum: UInt32
  /// Where this record's batch begins, a commit record before it included. The batch was written only after all
  /// bytes before this offset were synchronized: damage before it is rot, never a torn write.
  let batchStart: UInt32

  var recordSizeBytes: UInt64 {
    UInt64(Self.sizeBytes + keySizeBytes) + UInt64(payloadSizeBytes)
  }
  var isData: Bool { kind == .value || kind == .tombstone }

  /// Writes header and key, `sizeBytes + key.count` bytes.
  func encode(
    key: [UInt8], to target: UnsafeMutableRawPointer, binding: RecordBinding, offset: UInt64
  ) {
    precondition(
      key.count == keySizeBytes, "a key of \(key.count) bytes in a header for \(keySizeBytes)")
    target.copyMemory(from: Self.magic, byteCount: 4)
    target.storeBytes(of: Self.version, toByteOffset: 4, as: UInt8.self)
    target.storeBytes(of: kind.rawValue, toByteOffset: 5, as: UInt8.self)
    target.storeBytes(of: UInt8(keySizeBytes), toByteOffset: 6, as: UInt8.self)
    target.storeBytes(of: 0, toByteOffset: 7, as: UInt8.self)
    target.storeBytes(of: sequence.littleEndian, toByteOffset: 8, as: UInt64.self)
    target.storeBytes(
      of: UInt32(payloadSizeBytes).littleEndian, toByteOffset: 16, as: UInt32.self)
    target.storeBytes(of: payloadChecksum.littleEndian, toByteOffset: 20, as: UInt32.self)
    target.storeBytes(of: batchStart.littleEndian, toByteOffset: 24, as: UInt32.self)
    let checksum = key.withUnsafeBytes {
      binding.checksum(
        header: UnsafeRawBufferPointer(start: target, count: 28), key: $0, offset: offset)
    }
    target.storeBytes(of: checksum.littleEndian, toByteOffset: 28, as: UInt32.self)
    target.advanced(by: Self.sizeBytes).copyMemory(from: key, byteCount: key.count)
  }

  /// Reads the header at the start of `bytes`, which lie at `offset` of the segment.
  static func decode(
    _ bytes: UnsafeRawBufferPointer, binding: RecordBinding, offset: UInt64
  ) -> RecordHeaderResult {
    guard bytes.count >= sizeBytes, bytes[0..<4].elementsEqual(magic) else { return .invalid }
    let keySize = Int(bytes[6])
    guard keySize <= keyLimitBytes, bytes.count >= sizeBytes + keySize else { return .invalid }
    func field<Integer: FixedWidthInteger>(_ position: Int, _: Integer.Type) -> Integer {
      Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: Integer.self))
    }
    let checksum = binding.checksum(
      header: UnsafeRawBufferPointer(rebasing: bytes[0..<28]),
      key: UnsafeRawBufferPointer(rebasing: bytes[sizeBytes..<(sizeBytes + keySize)]),
      offset: offset)
    guard checksum == field(28, UInt32.self) else { return .invalid }
    guard bytes[4] == version else { return .unsupportedVersion(bytes[4]) }
    let payloadSize = Int(field(16, UInt32.self))
    let batchStart = field(24, UInt32.self)
    let sequence = field(8, UInt64.self)
    guard let kind = RecordKind(rawValue: bytes[5]), bytes[7] == 0, sequence < sequenceLimit,
      batchStart >= SegmentHeader.sizeBytes, UInt64(batchStart) <= offset
    else { return .invalid }
    let isShapely =
      switch kind {
      case .value: keySize >= 1 && payloadSize <= payloadLimitBytes
      case .tombstone: keySize >= 1 && payloadSize == 0
      case .commit: keySize == 0 && payloadSize == 0
      case .void: keySize == 0
      }
    guard isShapely else { return .invalid }
    return .valid(
      RecordHeader(
        kind: kind, keySizeBytes: keySize, sequence: sequence,
        payloadSizeBytes: payloadSize, payloadChecksum: field(20, UInt32.self),
        batchStart: batchStart))
  }
}

extension RecordHeader {
  /// The record that says: everything before `offset` was synchronized.
  static func commit(sequence: UInt64, offset: UInt64) -> RecordHeader {
    RecordHeader(
      kind: .commit, keySizeBytes: 0, sequence: sequence, payloadSizeBytes: 0, payloadChecksum: 0,
      batchStart: UInt32(offset))
  }

  /// Writes a record that is only a header.
  func write(
    to file: any DiskFile, binding: RecordBinding, at offset: UInt64
  ) throws(DiskError) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.sizeBytes, alignment: 16)
    defer { buffer.deallocate() }
    encode(key: [], to: buffer.baseAddress!, binding: binding, offset: offset)
    try file.write(UnsafeRawBufferPointer(buffer), at: offset)
  }
}
