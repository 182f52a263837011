import Base

/// A segment that records are read from.
struct Segment {
  let identifier: UInt64
  let file: any DiskFile
  let binding: RecordBinding
  /// Nil where it is damaged.
  let header: SegmentHeader?
  /// Synchronized bytes (and perhaps a commit record behind them).
  var sizeBytes: UInt64
  /// The sequence number after the last record of this segment.
  var nextSequence: UInt64
  /// Bytes of no use that the last compaction had to keep.
  var residueBytes: UInt64 = 0

  var generation: UInt32 { header?.generation ?? 0 }
  var coversThrough: UInt64 { header?.coversThrough ?? identifier }
}

/// Where the latest record of a key stands.
struct IndexEntry: Equatable {
  let location: RecordLocation
  let recordSizeBytes: UInt64
  /// Of the segment file: compaction puts another one into its place.
  var generation: UInt32 = 0
}

/// What the writer, the readers and the callers share, always under a lock that is never held across disk work.
/// Invariant: the index names only records of `segments`, all synchronized; `segments` ascend by identifier.
struct StoreState {
  var index = OrderedIndex<IndexEntry>()
  var segments: [Segment] = []
  /// Segments that compaction is replacing: keys that were not moved yet point into these.
  private var replaced: [UInt64: Segment] = [:]
  /// Records whose payload recovery found bad, by sequence. Apart from the index, whose entries are moved about.
  var damages: [UInt64: SegmentDamage] = [:]
  /// Damaged ones, which stay as evidence.
  var uncompactable: Set<UInt64> = []
  /// Bytes of records that keys point to, by segment.
  private(set) var liveBytes: [UInt64: UInt64] = [:]
  var status = SegmentStoreStatus.readWrite
  var liveSizeBytes: UInt64 = 0
  var nextSequence: UInt64 = 1
  var batches: UInt64 = 0
  var recordsWritten: UInt64 = 0
  var damagedReads: UInt64 = 0
  var hintFailures: UInt64 = 0

  func segment(_ identifier: UInt64) -> Segment? {
    var low = 0
    var high = segments.count
    while low < high {
      let middle = (low + high) / 2
      if segments[middle].identifier < identifier { low = middle + 1 } else { high = middle }
    }
    return low < segments.count && segments[low].identifier == identifier ? segments[low] : nil
  }

  /// The file that an entry of the index points into.
  func segment(of entry: IndexEntry) -> Segment {
    let identifier = entry.location.segmentIdentifier
    guard let segment = segment(identifier) else {
      preconditionFailure("the index names segment \(identifier), gone")
    }
    if segment.generation == entry.generation { return segment }
    guard let old = replaced[identifier], old.generation == entry.generation else {
      preconditionFailure(
        "generation \(entry.generation) of segment \(identifier), which has \(segment.generation)")
    }
    return old
  }

  /// Keys whose latest record begins in a stretch of a segment. Looks at every key.
  func keys(in segment: Segment, from start: UInt64, to end: UInt64) -> [[UInt8]] {
    var keys: [[UInt8]] = []
    index.visit { key, entry in
      if entry.location.segmentIdentifier == segment.identifier,
        entry.generation == segment.generation, (start..<end).contains(entry.location.offsetBytes)
      {
        keys.append(key)
      }
    }
    return keys
  }

  /// Makes `entry` what the key points to. Returns what it replaced.
  @discardableResult
  mutating func setEntry(_ key: [UInt8], _ entry: IndexEntry) -> IndexEntry? {
    let previous = index.set(key, to: entry)
    if let previous { countLive(previous, -1) }
    countLive(entry, 1)
    return previous
  }

  @discardableResult
  mutating func removeEntry(_ key: [UInt8]) -> IndexEntry? {
    let previous = index.remove(key)
    if let previous { countLive(previous, -1) }
    return previous
  }

  private mutating func countLive(_ entry: IndexEntry, _ sign: Int) {
    let identifier = entry.location.segmentIdentifier
    if sign > 0 {
      liveSizeBytes += entry.recordSizeBytes
      liveBytes[identifier, default: 0] += entry.recordSizeBytes
    } else {
      liveSizeBytes -= entry.recordSizeBytes
      liveBytes[identifier, default: 0] -= entry.recordSizeBytes
    }
  }

  /// A compacted file stands in the first source's place; the sources are still what keys point to.
  mutating func beginReplacement(_ segment: Segment) {
    guard let place = segments.firstIndex(where: { $0.identifier == segment.identifier }) else {
      preconditionFailure("segment \(segment.identifier) is not there to be replaced")
    }
    replaced[segment.identifier] = segments[place]
    segments[place] = segment
  }

  /// Lets keys point into the compacted file, where they still point to what was copied.
  mutating func move(_ moves: ArraySlice<CompactedSegment.Move>, to segment: Segment) {
    for move in moves {
      guard let entry = index[move.key], entry.location.sequence == move.from.sequence else {
        continue
      }
      let location = RecordLocation(
        segmentIdentifier: segment.identifier, offsetBytes: move.toOffsetBytes,
        payloadSizeBytes: move.from.payloadSizeBytes, sequence: move.from.sequence)
      setEntry(
        move.key,
        IndexEntry(
          location: location, recordSizeBytes: entry.recordSizeBytes,
          generation: segment.generation))
    }
  }

  /// All keys were moved: the sources are gone.
  mutating func endReplacement(by identifier: UInt64, sources: [UInt64]) {
    replaced[identifier] = nil
    segments.removeAll { sources.contains($0.identifier) && $0.identifier != identifier }
    for source in sources where source != identifier { liveBytes[source] = nil }
    guard let place = segments.firstIndex(where: { $0.identifier == identifier }) else { return }
    let used =
      liveBytes[identifier, default: 0] + UInt64(SegmentHeader.sizeBytes + RecordHeader.sizeBytes)
    segments[place].residueBytes = segments[place].sizeBytes - min(segments[place].sizeBytes, used)
  }

  /// Forgets the segments up to `identifier` and every key whose record they hold.
  mutating func dropSegments(through identifier: UInt64) {
    segments.removeAll { $0.identifier <= identifier }
    liveBytes = liveBytes.filter { $0.key > identifier }
    var droppedSizeBytes: UInt64 = 0
    index.removeAll { entry in
      guard entry.location.segmentIdentifier <= identifier else { return false }
      droppedSizeBytes += entry.recordSizeBytes
      return true
    }
    liveSizeBytes -= droppedSizeBytes
  }
}
