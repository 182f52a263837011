import Base

/// A segment that records are read from.
struct Segment {
  let identifier: UInt64
  let file: any DiskFile
  let binding: RecordBinding
  /// Synchronized bytes (and perhaps a commit record behind them).
  var sizeBytes: UInt64
  /// The sequence number after the last record of this segment.
  var nextSequence: UInt64
}

/// Where the latest record of a key stands.
struct IndexEntry: Equatable {
  let location: RecordLocation
  let recordSizeBytes: UInt64
  /// Recovery found this record's payload bad.
  var damage: SegmentDamage?
}

/// What the writer, the readers and the callers share, always under a lock that is never held across disk work.
/// Invariant: the index names only records of `segments`, all synchronized; `segments` ascend by identifier.
struct StoreState {
  var index = OrderedIndex<IndexEntry>()
  var segments: [Segment] = []
  var status = SegmentStoreStatus.readWrite
  var liveSizeBytes: UInt64 = 0
  var nextSequence: UInt64 = 1
  var batches: UInt64 = 0
  var recordsWritten: UInt64 = 0
  var damagedReads: UInt64 = 0

  func segment(_ identifier: UInt64) -> Segment? {
    var low = 0
    var high = segments.count
    while low < high {
      let middle = (low + high) / 2
      if segments[middle].identifier < identifier { low = middle + 1 } else { high = middle }
    }
    return low < segments.count && segments[low].identifier == identifier ? segments[low] : nil
  }

  /// Makes `entry` what the key points to. Returns what it replaced.
  @discardableResult
  mutating func setEntry(_ key: [UInt8], _ entry: IndexEntry) -> IndexEntry? {
    let previous = index.set(key, to: entry)
    liveSizeBytes = liveSizeBytes + entry.recordSizeBytes - (previous?.recordSizeBytes ?? 0)
    return previous
  }

  @discardableResult
  mutating func removeEntry(_ key: [UInt8]) -> IndexEntry? {
    let previous = index.remove(key)
    liveSizeBytes -= previous?.recordSizeBytes ?? 0
    return previous
  }

  /// Forgets the segments up to `identifier` and every key whose record they hold.
  mutating func dropSegments(through identifier: UInt64) {
    segments.removeAll { $0.identifier <= identifier }
    var droppedSizeBytes: UInt64 = 0
    index.removeAll { entry in
      guard entry.location.segmentIdentifier <= identifier else { return false }
      droppedSizeBytes += entry.recordSizeBytes
      return true
    }
    liveSizeBytes -= droppedSizeBytes
  }
}
