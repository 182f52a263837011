import Base
import Glibc

/// Reading records from segments on a reader thread. Nothing leaves here whose checksums were not verified.
enum RecordReader {
  /// The payload of the value record at a place that the index names.
  static func read(
    key: [UInt8], at location: RecordLocation, in segment: Segment
  ) throws(SegmentStoreError) -> [UInt8] {
    let headerSize = RecordHeader.sizeBytes + key.count
    func damage(_ kind: SegmentDamage.Kind) -> SegmentStoreError {
      .damaged(
        SegmentDamage(
          kind: kind, segmentIdentifier: location.segmentIdentifier,
          offsetBytes: location.offsetBytes,
          sizeBytes: UInt64(headerSize + location.payloadSizeBytes), key: key,
          missingSequences: location.sequence...location.sequence))
    }
    func failure(_ error: DiskError) -> SegmentStoreError {
      error.code == EIO ? damage(.unreadable(error)) : .disk(error)
    }
    let headerBytes: [UInt8]
    do throws(DiskError) {
      headerBytes = try bytes(of: segment.file, at: location.offsetBytes, count: headerSize)
    } catch { throw failure(error) }
    let decoded = headerBytes.withUnsafeBytes {
      RecordHeader.decode($0, binding: segment.binding, offset: location.offsetBytes)
    }
    guard case .valid(let header) = decoded else { throw damage(.unparseable) }
    guard header.kind == .value, header.sequence == location.sequence,
      header.payloadSizeBytes == location.payloadSizeBytes,
      headerBytes[RecordHeader.sizeBytes...].elementsEqual(key)
    else { throw damage(.unexpectedRecord) }
    let payload: [UInt8]
    do throws(DiskError) {
      payload = try bytes(
        of: segment.file, at: location.offsetBytes + UInt64(headerSize),
        count: header.payloadSizeBytes)
    } catch { throw failure(error) }
    guard payload.count == header.payloadSizeBytes else { throw damage(.truncated) }
    guard Checksum.crc32c(payload) == header.payloadChecksum else { throw damage(.payload) }
    return payload
  }

  private static func bytes(
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
