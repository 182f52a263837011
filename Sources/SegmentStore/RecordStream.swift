import Base

/// A value of any size, handed out in pieces, with a piece in memory at a time.
///
/// A record has one checksum for its whole payload, so a large payload was read and verified to its end before there is a stream,
/// and each piece's own checksum kept from that pass. A piece that is read again is compared with it before it is handed out: nothing
/// leaves here that was not verified. A payload of one piece is read once.
///
/// The segment stays open for as long as the stream lives, whatever is deleted, compacted or dropped meanwhile. Used by one
/// caller at a time.
public final class RecordStream: @unchecked Sendable {
  /// Of all pieces but the last. The checksums of a payload of 1 GiB take 8 KiB.
  public static let pieceSizeBytes = 512 << 10

  public let payloadSizeBytes: Int
  /// Bytes that were handed out.
  public private(set) var position = 0

  private let reading: RecordReading
  private let checksums: [UInt32]
  private var only: [UInt8]?
  private let run: @Sendable (@escaping Job) async throws(SegmentStoreError) -> [UInt8]

  typealias Job = @Sendable () throws(SegmentStoreError) -> [UInt8]

  /// - Parameter run: does a job on a reader thread, and counts what was damaged.
  init(
    _ verified: RecordReader.VerifiedRecord,
    run: @escaping @Sendable (@escaping Job) async throws(SegmentStoreError) -> [UInt8]
  ) {
    reading = verified.reading
    payloadSizeBytes = verified.reading.payloadSizeBytes
    checksums = verified.checksums
    only = verified.only
    self.run = run
  }

  /// The next piece; nil at the end of the payload. Throws `.damaged` where the disk gives other bytes than before.
  public func next() async throws(SegmentStoreError) -> [UInt8]? {
    guard position < payloadSizeBytes else { return nil }
    if let piece = only {
      only = nil
      position = payloadSizeBytes
      return piece
    }
    let (reading, start) = (reading, position)
    let end = min(start + Self.pieceSizeBytes, payloadSizeBytes)
    let expected = checksums[start / Self.pieceSizeBytes]
    let piece = try await run { () throws(SegmentStoreError) in
      let piece = try reading.payload(start..<end)
      guard Checksum.crc32c(piece) == expected else { throw reading.damage(.payload) }
      return piece
    }
    position = end
    return piece
  }
}

extension SegmentStore {
  /// The bytes of a payload in a range, as far as the payload goes; nil where there is no such key. The whole record is read and verified, through a
  /// window of fixed size, since its checksum covers the whole payload; only the range is kept.
  public func read(
    key: [UInt8], range: Range<Int>
  ) async throws(SegmentStoreError) -> [UInt8]? {
    precondition(range.lowerBound >= 0, "range \(range)")
    guard let found = try find(key) else { return nil }
    return try await counting { () throws(SegmentStoreError) in
      try RecordReader.read(range, of: try RecordReading(key: key, at: found.0, in: found.1))
    }
  }

  /// The payload of a key in pieces, verified to its end; nil where there is no such key.
  public func stream(key: [UInt8]) async throws(SegmentStoreError) -> RecordStream? {
    guard let found = try find(key) else { return nil }
    let verified = try await counting { () throws(SegmentStoreError) in
      try RecordReader.verify(try RecordReading(key: key, at: found.0, in: found.1))
    }
    return RecordStream(verified) { job throws(SegmentStoreError) in
      try await self.counting(job)
    }
  }
}

/// A value record whose header was read and is the one that the index names.
struct RecordReading: Sendable {
  private let key: [UInt8]
  private let location: RecordLocation
  private let file: any DiskFile
  let payloadChecksum: UInt32

  var payloadSizeBytes: Int { location.payloadSizeBytes }

  init(
    key: [UInt8], at location: RecordLocation, in segment: Segment
  ) throws(SegmentStoreError) {
    let header = try RecordReader.header(key: key, at: location, in: segment)
    self.key = key
    self.location = location
    file = segment.file
    payloadChecksum = header.payloadChecksum
  }

  /// Not verified yet. Throws where the disk refuses to read, or ends.
  func payload(_ range: Range<Int>) throws(SegmentStoreError) -> [UInt8] {
    let start =
      location.offsetBytes + UInt64(RecordHeader.sizeBytes + key.count + range.lowerBound)
    let bytes: [UInt8]
    do throws(DiskError) {
      bytes = try RecordReader.bytes(of: file, at: start, count: range.count)
    } catch { throw RecordReader.failure(error, key, location) }
    guard bytes.count == range.count else { throw damage(.truncated) }
    return bytes
  }

  func damage(_ kind: SegmentDamage.Kind) -> SegmentStoreError {
    RecordReader.damage(kind, key, location)
  }
}

extension RecordReader {
  struct VerifiedRecord: Sendable {
    let reading: RecordReading
    /// Of each piece of the payload.
    let checksums: [UInt32]
    /// The payload, where it is one piece.
    let only: [UInt8]?
  }

  /// Reads the payload once, a piece in memory at a time, and checks it.
  static func verify(_ reading: RecordReading) throws(SegmentStoreError) -> VerifiedRecord {
    var checksums: [UInt32] = []
    var only: [UInt8]?
    try forEachPiece(of: reading) { piece, start in
      checksums.append(Checksum.crc32c(piece))
      if piece.count == reading.payloadSizeBytes { only = piece }
    }
    return VerifiedRecord(reading: reading, checksums: checksums, only: only)
  }

  static func read(
    _ range: Range<Int>, of reading: RecordReading
  ) throws(SegmentStoreError) -> [UInt8] {
    let wanted = range.clamped(to: 0..<reading.payloadSizeBytes)
    var result: [UInt8] = []
    result.reserveCapacity(wanted.count)
    try forEachPiece(of: reading) { piece, start in
      let part = wanted.clamped(to: start..<start + piece.count)
      if !part.isEmpty { result += piece[part.lowerBound - start..<part.upperBound - start] }
    }
    return result
  }

  /// Throws at the end where the payload's checksum is wrong: what `body` got counts for nothing before that.
  private static func forEachPiece(
    of reading: RecordReading, _ body: (_ piece: [UInt8], _ start: Int) -> Void
  ) throws(SegmentStoreError) {
    var checksum: UInt32 = 0
    var start = 0
    while start < reading.payloadSizeBytes {
      let end = min(start + RecordStream.pieceSizeBytes, reading.payloadSizeBytes)
      let piece = try reading.payload(start..<end)
      checksum = Checksum.crc32c(piece, continuing: checksum)
      body(piece, start)
      start = end
    }
    guard checksum == reading.payloadChecksum else { throw reading.damage(.payload) }
  }
}
