import Base
import Glibc

/// Reading records from segments on a reader thread. Nothing leaves here whose checksums were not verified.
enum RecordReader {
  /// The payload of the value record at a place that the index names.
  static func read(
    key: [UInt8], at location: RecordLocation, in segment: Segment
  ) throws(SegmentStoreError) -> [UInt8] {
    let reading = try RecordReading(key: key, at: location, in: segment)
    let payload = try reading.payload(0..<reading.payloadSizeBytes)
    guard Checksum.crc32c(payload) == reading.payloadChecksum else {
      throw reading.damage(.payload)
    }
    return payload
  }

  /// The header at a place that the index names, which has to be that of the value record there.
  static func header(
    key: [UInt8], at location: RecordLocation, in segment: Segment
  ) throws(SegmentStoreError) -> RecordHeader {
    let headerSize = RecordHeader.sizeBytes + key.count
    let headerBytes: [UInt8]
    do throws(DiskError) {
      headerBytes = try bytes(of: segment.file, at: location.offsetBytes, count: headerSize)
    } catch { throw failure(error, key, location) }
    let decoded = headerBytes.withUnsafeBytes {
      RecordHeader.decode($0, binding: segment.binding, offset: location.offsetBytes)
    }
    guard case .valid(let header) = decoded else { throw damage(.unparseable, key, location) }
    guard header.kind == .value, header.sequence == location.sequence,
      header.payloadSizeBytes == location.payloadSizeBytes,
      headerBytes[RecordHeader.sizeBytes...].elementsEqual(key)
    else { throw damage(.unexpectedRecord, key, location) }
    return header
  }

  static func damage(
    _ kind: SegmentDamage.Kind, _ key: [UInt8], _ location: RecordLocation
  ) -> SegmentStoreError {
    .damaged(
      SegmentDamage(
        kind: kind, segmentIdentifier: location.segmentIdentifier,
        offsetBytes: location.offsetBytes,
        sizeBytes: UInt64(RecordHeader.sizeBytes + key.count + location.payloadSizeBytes),
        key: key, missingSequences: location.sequence...location.sequence))
  }

  static func failure(
    _ error: DiskError, _ key: [UInt8], _ location: RecordLocation
  ) -> SegmentStoreError {
    error.code == EIO ? damage(.unreadable(error), key, location) : .disk(error)
  }

  static func bytes(
    of file: any DiskFile, at offset: UInt64, count: Int
  ) throws(DiskError) -> [UInt8] {
    // With no capacity the initializer below would write to the empty array that the whole process shares.
    if count == 0 { return [] }
    var failure: DiskError?
    let result = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(DiskError) {
        initialized = try file.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
      } catch { failure = error }
    }
    if let failure { throw failure }
    return result
  }

  /// Hands out the value and tombstone records with sequences from `first` on, in order, until `body` answers false.
  static func forEach(
    in segments: [Segment], from first: UInt64, files: SegmentFiles,
    _ body: (SegmentRecord) -> Bool
  ) throws(SegmentStoreError) {
    var next = first
    // Damage without a readable header matters only if what follows it is not all before `first`.
    var undecided: SegmentDamage?
    for segment in segments where segment.nextSequence > first {
      let window = SegmentWindow(file: segment.file, sizeBytes: segment.sizeBytes)
      var scanner = SegmentScanner(
        window: window, binding: segment.binding,
        path: files.path(FileName.segment(segment.identifier)))
      while let item = try scanner.next(collectingPayload: true) {
        switch item {
        case .record(let header, let key, let payload, let offset):
          if let undecided, header.sequence > first, header.kind != .void {
            throw .damaged(undecided)
          }
          if header.kind != .void { undecided = nil }
          guard header.isData, header.sequence >= next else { continue }
          next = header.sequence + 1
          let location = RecordLocation(
            segmentIdentifier: segment.identifier, offsetBytes: offset,
            payloadSizeBytes: header.payloadSizeBytes, sequence: header.sequence)
          guard body(SegmentRecord(key: key, payload: payload, location: location)) else { return }
        case .badPayload(let header, let key, let offset, let isTruncated):
          guard header.isData, header.sequence >= first else { continue }
          throw .damaged(
            SegmentDamage(
              kind: isTruncated ? .truncated : .payload, segmentIdentifier: segment.identifier,
              offsetBytes: offset, sizeBytes: header.recordSizeBytes, key: key,
              missingSequences: header.sequence...header.sequence))
        case .unparseable(let offset, let size):
          undecided = SegmentDamage(
            kind: .unparseable, segmentIdentifier: segment.identifier, offsetBytes: offset,
            sizeBytes: size, key: nil, missingSequences: nil)
        }
      }
    }
    if let undecided { throw .damaged(undecided) }
  }
}
