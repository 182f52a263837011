import Base
import Glibc

/// What stands at one place of a segment.
enum ScannedItem {
  case record(RecordHeader, key: [UInt8], payload: [UInt8]?, offset: UInt64)
  /// A good header whose payload fails its checksum, or runs past the end of the file (`isTruncated`).
  case badPayload(RecordHeader, key: [UInt8], offset: UInt64, isTruncated: Bool)
  /// From `offset` to the next good header, or to the end.
  case unparseable(offset: UInt64, sizeBytes: UInt64)

  var offset: UInt64 {
    switch self {
    case .record(_, _, _, let offset), .badPayload(_, _, let offset, _),
      .unparseable(let offset, _):
      offset
    }
  }
}

/// Walks a segment's records in order. Every byte belongs to exactly one item. Behind damage it searches for
/// the next header whose checksum fits its place.
struct SegmentScanner {
  private static let longestHeaderBytes = RecordHeader.sizeBytes + RecordHeader.keyLimitBytes

  let window: SegmentWindow
  private let binding: RecordBinding
  private let path: String
  /// Of the next item.
  private(set) var offset: UInt64

  init(
    window: SegmentWindow, binding: RecordBinding, path: String,
    from offset: UInt64 = UInt64(SegmentHeader.sizeBytes)
  ) {
    self.window = window
    self.binding = binding
    self.path = path
    self.offset = offset
  }

  /// The next item, nil at the end. Throws only for a record of an unknown version.
  mutating func next(collectingPayload: Bool = false) throws(SegmentStoreError) -> ScannedItem? {
    guard offset < window.sizeBytes else { return nil }
    let itemOffset = offset
    guard let (header, key) = try header(at: itemOffset) else {
      offset = try findHeader(after: itemOffset)
      return .unparseable(offset: itemOffset, sizeBytes: offset - itemOffset)
    }
    guard header.recordSizeBytes <= window.sizeBytes - itemOffset else {
      offset = window.sizeBytes
      return .badPayload(header, key: key, offset: itemOffset, isTruncated: true)
    }
    offset = itemOffset + header.recordSizeBytes
    var payload: [UInt8]? = collectingPayload && header.kind == .value ? [] : nil
    payload?.reserveCapacity(header.payloadSizeBytes)
    guard payloadChecksum(of: header, at: itemOffset, into: &payload) == header.payloadChecksum
    else { return .badPayload(header, key: key, offset: itemOffset, isTruncated: false) }
    return .record(header, key: key, payload: payload, offset: itemOffset)
  }

  private func header(
    at offset: UInt64
  ) throws(SegmentStoreError) -> (header: RecordHeader, key: [UInt8])? {
    let bytes = window.bytes(at: offset, count: Self.longestHeaderBytes)
    switch RecordHeader.decode(bytes, binding: binding, offset: offset) {
    case .invalid: return nil
    case .unsupportedVersion(let version):
      throw .unsupportedVersion(path: path, version: UInt32(version))
    case .valid(let header):
      return (header, Array(bytes[RecordHeader.sizeBytes...].prefix(header.keySizeBytes)))
    }
  }

  private func payloadChecksum(
    of header: RecordHeader, at offset: UInt64, into payload: inout [UInt8]?
  ) -> UInt32 {
    var position = offset + UInt64(RecordHeader.sizeBytes + header.keySizeBytes)
    var remaining = header.payloadSizeBytes
    var checksum: UInt32 = 0
    while remaining > 0 {
      let bytes = window.bytes(at: position, count: remaining)
      precondition(
        !bytes.isEmpty, "no bytes at \(position) of \(window.sizeBytes) with \(remaining) to read")
      checksum = Checksum.crc32c(bytes, continuing: checksum)
      payload?.append(contentsOf: bytes)
      position += UInt64(bytes.count)
      remaining -= bytes.count
    }
    return checksum
  }

  /// The offset of the next good header behind `damaged`, or the end.
  private func findHeader(after damaged: UInt64) throws(SegmentStoreError) -> UInt64 {
    var position = damaged + 1
    while position < window.sizeBytes {
      let bytes = window.bytes(at: position, count: Int.max)
      guard let found = memchr(bytes.baseAddress!, Int32(RecordHeader.magic[0]), bytes.count)
      else {
        position += UInt64(bytes.count)
        continue
      }
      position += UInt64(UnsafeRawPointer(found) - bytes.baseAddress!)
      if try header(at: position) != nil { return position }
      position += 1
    }
    return window.sizeBytes
  }
}
