import Base

/// What makes a compaction worth its reading and writing, and how fast it may be.
public struct CompactionSettings: Sendable {
  /// A segment is compacted when at least this part of it is of no use any more (0.05 to 1).
  public var garbageFraction = 0.5
  /// Bytes read and written a second, about; 0 for no limit.
  public var maximumBytesPerSecond = 0

  public init() {}
}

/// What one compaction did.
public struct CompactionResult: Sendable, Equatable {
  /// Segments that became one, by identifier.
  public internal(set) var segments: [UInt64] = []
  public internal(set) var sizeBytesBefore: UInt64 = 0
  public internal(set) var sizeBytesAfter: UInt64 = 0
  public internal(set) var recordsKept = 0
  public internal(set) var recordsLeftOut = 0
}

/// A segment file that holds what is of use in some rolled segments, complete on the disk under its temporary name.
struct CompactedSegment: Sendable {
  struct Move: Sendable {
    let key: [UInt8]
    let from: RecordLocation
    let toOffsetBytes: UInt64
  }

  let header: SegmentHeader
  let sources: [UInt64]
  let sizeBytes: UInt64
  let nextSequence: UInt64
  let moves: [Move]
  let hints: HintBuilder
}

/// Copies the useful records of a few adjacent rolled segments, sequences included, into one file. Nothing that others
/// see changes before the writer thread puts the file in their place.
struct Compactor {
  let shared: Monitor<StoreState>
  let files: SegmentFiles
  let store: StoreIdentifier
  let pace: Pace
  let shouldStop: () -> Bool

  /// Throws `.damaged` for a segment that is not wholly good: it stays as evidence, and what is good in it is served.
  func copy(_ sources: [Segment]) throws(SegmentStoreError) -> (CompactedSegment, CompactionResult)
  {
    let header = SegmentHeader(
      segmentIdentifier: sources[0].identifier, store: store,
      firstSequence: sources[0].header?.firstSequence ?? 1,
      generation: (sources.map(\.generation).max() ?? 0) + 1,
      coversThrough: sources[sources.count - 1].coversThrough)
    var target: CompactionTarget
    do throws(DiskError) { target = try CompactionTarget(files, header) } catch {
      throw .disk(error)
    }
    do throws(SegmentStoreError) {
      for source in sources { try copy(source, behind: sources[0].identifier, to: &target) }
      let nextSequence = sources[sources.count - 1].nextSequence
      do throws(DiskError) { try target.finish(nextSequence) } catch { throw .disk(error) }
      target.result.segments = sources.map(\.identifier)
      target.result.sizeBytesBefore = sources.reduce(0) { $0 + $1.sizeBytes }
      target.result.sizeBytesAfter = target.sizeBytes
      let compacted = CompactedSegment(
        header: header, sources: sources.map(\.identifier), sizeBytes: target.sizeBytes,
        nextSequence: nextSequence, moves: target.moves, hints: target.hints)
      return (compacted, target.result)
    } catch {
      try? files.removeTemporarySegment(header.segmentIdentifier)
      throw error
    }
  }

  private func copy(
    _ source: Segment, behind first: UInt64, to target: inout CompactionTarget
  ) throws(SegmentStoreError) {
    let window = SegmentWindow(file: source.file, sizeBytes: source.sizeBytes)
    var scanner = SegmentScanner(
      window: window, binding: source.binding,
      path: files.path(FileName.segment(source.identifier)))
    while let item = try scanner.next(collectingPayload: true) {
      if shouldStop() { throw .closed }
      guard case .record(let header, let key, let payload, let offset) = item else {
        throw .damaged(item.damage(in: source.identifier, window.readError))
      }
      pace.spend(bytes: Int(clamping: header.recordSizeBytes))
      guard header.isData else { continue }
      guard isUseful(header, key, first) else {
        target.result.recordsLeftOut += 1
        continue
      }
      pace.spend(bytes: Int(clamping: header.recordSizeBytes))
      let location = RecordLocation(
        segmentIdentifier: source.identifier, offsetBytes: offset,
        payloadSizeBytes: header.payloadSizeBytes, sequence: header.sequence)
      do throws(DiskError) {
        try target.append(header, key, payload ?? [], from: location)
      } catch { throw .disk(error) }
    }
  }

  /// A value that its key points to; a tombstone without which an earlier segment would bring its key back.
  ///
  /// - Parameter first: of the segments being compacted.
  private func isUseful(_ header: RecordHeader, _ key: [UInt8], _ first: UInt64) -> Bool {
    shared.withLock { state in
      let entry = state.index[key]
      if header.kind == .tombstone {
        return entry == nil && state.segments.contains { $0.identifier < first }
      }
      return entry?.location.sequence == header.sequence
    }
  }
}

/// The new file while it is filled.
private struct CompactionTarget {
  let active: ActiveSegment
  private let staging = StagingBuffer()
  private(set) var sizeBytes = UInt64(SegmentHeader.sizeBytes)
  private(set) var moves: [CompactedSegment.Move] = []
  private(set) var hints = HintBuilder()
  var result = CompactionResult()

  init(_ files: SegmentFiles, _ header: SegmentHeader) throws(DiskError) {
    let file = try files.beginSegment(header)
    active = ActiveSegment(
      identifier: header.segmentIdentifier, file: file,
      binding: RecordBinding(store: header.store, segmentIdentifier: header.segmentIdentifier),
      hints: HintBuilder(), sizeBytes: sizeBytes, synchronizedSizeBytes: sizeBytes)
    staging.begin(at: sizeBytes)
  }

  mutating func append(
    _ header: RecordHeader, _ key: [UInt8], _ payload: [UInt8], from location: RecordLocation
  ) throws(DiskError) {
    // Nothing of the file counts before all of it is synchronized: all is one batch.
    let moved = RecordHeader(
      kind: header.kind, keySizeBytes: header.keySizeBytes, sequence: header.sequence,
      payloadSizeBytes: header.payloadSizeBytes, payloadChecksum: header.payloadChecksum,
      batchStart: UInt32(SegmentHeader.sizeBytes))
    try staging.append(moved, key, payload, active)
    hints.add(
      header.kind, key, sequence: header.sequence, offsetBytes: sizeBytes,
      payloadSizeBytes: header.payloadSizeBytes)
    if header.kind == .value {
      moves.append(CompactedSegment.Move(key: key, from: location, toOffsetBytes: sizeBytes))
    }
    sizeBytes += header.recordSizeBytes
    result.recordsKept += 1
  }

  mutating func finish(_ nextSequence: UInt64) throws(DiskError) {
    try staging.flush(to: active.file)
    let commit = RecordHeader.commit(sequence: nextSequence, offset: sizeBytes)
    try commit.write(to: active.file, binding: active.binding, at: sizeBytes)
    sizeBytes += commit.recordSizeBytes
    try active.file.synchronize()
  }
}

extension ScannedItem {
  /// What a reader says of an item that is no good record.
  func damage(in segment: UInt64, _ readError: DiskError?) -> SegmentDamage {
    switch self {
    case .record(let header, let key, _, let offset):
      SegmentDamage(
        kind: .unexpectedRecord, segmentIdentifier: segment, offsetBytes: offset,
        sizeBytes: header.recordSizeBytes, key: header.isData ? key : nil, missingSequences: nil)
    case .badPayload(let header, let key, let offset, let isTruncated):
      SegmentDamage(
        kind: readError.map { .unreadable($0) } ?? (isTruncated ? .truncated : .payload),
        segmentIdentifier: segment, offsetBytes: offset, sizeBytes: header.recordSizeBytes,
        key: header.isData ? key : nil,
        missingSequences: header.isData ? header.sequence...header.sequence : nil)
    case .unparseable(let offset, let size):
      SegmentDamage(
        kind: readError.map { .unreadable($0) } ?? .unparseable, segmentIdentifier: segment,
        offsetBytes: offset, sizeBytes: size, key: nil, missingSequences: nil)
    }
  }
}
