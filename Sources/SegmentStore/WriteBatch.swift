import Base

/// The records of one batch as they are planned: numbers, places and answers.
struct Batch {
  enum Outcome {
    /// `recordSizeBytes` is nil for a tombstone.
    case written(key: [UInt8], RecordLocation, recordSizeBytes: UInt64?)
    case nothingToDelete
  }

  private let synchronizedEnd: UInt64
  let firstSequence: UInt64
  private(set) var end: UInt64
  private(set) var nextSequence: UInt64
  var outcomes: [Outcome] = []
  /// Keys written earlier in this batch: whether they exist after it so far.
  private(set) var existence: [[UInt8]: Bool] = [:]

  /// - Parameter synchronizedEnd: everything before it is on the disk; between it and `offset` may lie a commit record.
  init(offset: UInt64, synchronizedEnd: UInt64, firstSequence: UInt64) {
    self.synchronizedEnd = synchronizedEnd
    self.firstSequence = firstSequence
    end = offset
    nextSequence = firstSequence
  }

  mutating func add(
    _ kind: RecordKind, _ key: [UInt8], _ payloadSizeBytes: Int, _ payloadChecksum: UInt32,
    in active: ActiveSegment
  ) -> RecordHeader {
    let header = RecordHeader(
      kind: kind, keySizeBytes: key.count, sequence: nextSequence,
      payloadSizeBytes: payloadSizeBytes, payloadChecksum: payloadChecksum,
      batchStart: UInt32(synchronizedEnd))
    let location = RecordLocation(
      segmentIdentifier: active.identifier, offsetBytes: end, payloadSizeBytes: payloadSizeBytes,
      sequence: nextSequence)
    let size = kind == .value ? header.recordSizeBytes : nil
    outcomes.append(.written(key: key, location, recordSizeBytes: size))
    existence[key] = kind == .value
    end += header.recordSizeBytes
    nextSequence += 1
    return header
  }
}

/// Gathers small records so that one write carries many of them; large payloads go to the file uncopied.
final class StagingBuffer {
  private static let capacityBytes = 1 << 20
  private static let uncopiedPayloadBytes = 256 << 10

  private let buffer = UnsafeMutableRawBufferPointer.allocate(
    byteCount: capacityBytes, alignment: 4096)
  private var filled = 0
  /// Where the first byte of the buffer belongs in the file.
  private var offset: UInt64 = 0

  deinit { buffer.deallocate() }

  func begin(at offset: UInt64) {
    self.offset = offset
    filled = 0
  }

  func append(
    _ header: RecordHeader, _ key: [UInt8], _ payload: [UInt8], _ active: ActiveSegment
  ) throws(DiskError) {
    let isCopied = payload.count < Self.uncopiedPayloadBytes
    let headerSize = RecordHeader.sizeBytes + key.count
    if filled + headerSize + (isCopied ? payload.count : 0) > Self.capacityBytes {
      try flush(to: active.file)
    }
    header.encode(
      key: key, to: buffer.baseAddress! + filled, binding: active.binding,
      offset: offset + UInt64(filled))
    filled += headerSize
    if isCopied {
      (buffer.baseAddress! + filled).copyMemory(from: payload, byteCount: payload.count)
      filled += payload.count
    } else {
      try flush(to: active.file)
      var failure: DiskError?
      payload.withUnsafeBytes { bytes in
        do throws(DiskError) { try active.file.write(bytes, at: offset) } catch { failure = error }
      }
      if let failure { throw failure }
      offset += UInt64(payload.count)
    }
  }

  func flush(to file: any DiskFile) throws(DiskError) {
    guard filled > 0 else { return }
    try file.write(UnsafeRawBufferPointer(rebasing: buffer[..<filled]), at: offset)
    offset += UInt64(filled)
    filled = 0
  }
}
