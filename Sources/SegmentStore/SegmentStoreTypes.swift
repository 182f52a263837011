import Base

/// Limits and choices of one store. All have working defaults.
public struct SegmentStoreConfiguration: Sendable {
  /// A segment is rolled when its next record would pass this size (4 KiB to 2 GiB). A single record that is
  /// larger gets a segment of its own.
  public var maximumSegmentSizeBytes = 256 << 20
  /// Room that a segment reserves on the disk ahead of what is written; 0 for none. What is not used is given back when the
  /// segment is rolled or the store closed. Off, because appends were not faster with it (docs/results.md).
  public var preallocationBytes = 0
  /// Largest payload that is accepted (0 to 1 GiB).
  public var maximumPayloadSizeBytes = 256 << 20
  /// A batch (one synchronization) takes queued records up to this size, and always at least one.
  public var maximumBatchSizeBytes = 16 << 20
  /// Writes accepted and not yet answered, in number and in payload bytes. Beyond either, a write fails at once with
  /// `.overloaded`, except that a single write is always taken when none is waiting.
  public var maximumWaitingWrites = 4096
  public var maximumWaitingWriteBytes = 512 << 20
  /// Reads and verifies every record at the start, as ``SegmentStore/open(directory:disk:configuration:)`` would without
  /// hint files. Otherwise damage in segments that are not written any more shows when it is read, or by scrubbing.
  public var verifiesAtOpen = false
  /// Threads that do the blocking reads, and reads that may wait for one of them (`.overloaded` beyond).
  public var readerThreads = 2
  public var maximumWaitingReads = 4096
  /// No threads: writes wait for ``SegmentStore/performWaitingWrites()``, and only calls that block may read. For simulations,
  /// in which one thread decides all.
  public var isStepped = false
  /// Draws the 16 bytes that name a new store; called once, at creation.
  public var makeStoreIdentifier: @Sendable () -> [UInt8] = {
    var generator = SystemRandomNumberGenerator()
    return (0..<StoreIdentifier.sizeBytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
  }

  public init() {}

  func validate() throws(SegmentStoreError) {
    func check(_ condition: Bool, _ text: String) throws(SegmentStoreError) {
      if !condition { throw .invalidConfiguration(text) }
    }
    try check(
      (4096...(2 << 30)).contains(maximumSegmentSizeBytes),
      "maximumSegmentSizeBytes is \(maximumSegmentSizeBytes), allowed are 4 KiB to 2 GiB")
    try check(
      (0...RecordHeader.payloadLimitBytes).contains(maximumPayloadSizeBytes),
      "maximumPayloadSizeBytes is \(maximumPayloadSizeBytes), allowed are 0 to 1 GiB")
    try check(
      (0...(2 << 30)).contains(preallocationBytes),
      "preallocationBytes is \(preallocationBytes), allowed are 0 to 2 GiB")
    try check(maximumBatchSizeBytes >= 1, "maximumBatchSizeBytes is \(maximumBatchSizeBytes)")
    try check(maximumWaitingWrites >= 1, "maximumWaitingWrites is \(maximumWaitingWrites)")
    try check(
      maximumWaitingWriteBytes >= 1, "maximumWaitingWriteBytes is \(maximumWaitingWriteBytes)")
    try check(
      (1...64).contains(readerThreads), "readerThreads is \(readerThreads), allowed are 1 to 64")
    try check(maximumWaitingReads >= 1, "maximumWaitingReads is \(maximumWaitingReads)")
  }
}

/// Where a record stands. Stable until its segment is dropped.
public struct RecordLocation: Sendable, Equatable {
  public let segmentIdentifier: UInt64
  /// Of the record's first header byte, from the start of the segment file.
  public let offsetBytes: UInt64
  public let payloadSizeBytes: Int
  public let sequence: UInt64
}

/// A record as `forEachRecord` hands it out. A nil payload is a tombstone.
public struct SegmentRecord: Sendable, Equatable {
  public let key: [UInt8]
  public let payload: [UInt8]?
  public let location: RecordLocation
}

/// What opening found and did. Nothing that was wrong is left out.
public struct RecoveryReport: Sendable, Equatable {
  /// The end of the last segment that was cut: the last batch before a crash, torn and with nothing good behind it.
  public struct TailCut: Sendable, Equatable {
    public let segmentIdentifier: UInt64
    public let offsetBytes: UInt64
    public let sizeBytes: UInt64
    /// Keys of records in it whose headers could be read.
    public let keys: [[UInt8]]
  }

  /// The folder held no store and a new one was made.
  public var createdStore = false
  public var segments = 0
  /// Value records, replaced ones included.
  public var valueRecords = 0
  public var tombstones = 0
  public var tailCut: TailCut?
  public var damages: [SegmentDamage] = []
  /// Bytes of holes that earlier recoveries reported and sealed, in the segments that were read.
  public var sealedSizeBytes: UInt64 = 0
  /// Bytes of the last batch that were written again, because whether they ever reached the disk was unknown.
  public var rewrittenSizeBytes: UInt64 = 0
  /// Files that an interrupted creation or drop left behind; they were removed.
  public var removedFiles: [String] = []
  /// Segments that were not read, because their hint files say what is in them.
  public var hintedSegments = 0
  /// Segments whose hint files were not what was once written; the segments were read instead.
  public var damagedHints: [UInt64] = []
  /// Segments that got a new hint file.
  public var rebuiltHints: [UInt64] = []
  /// The last failure to write one: the next start will read that segment again.
  public var hintError: DiskError?
  /// Files that are not the store's; they are left alone.
  public var unknownFiles: [String] = []
  /// The sequence number the next record will take.
  public var nextSequence: UInt64 = 1
}

/// Counts of a running store.
public struct SegmentStoreStatistics: Sendable, Equatable {
  public var segments = 0
  public var keys = 0
  /// Bytes of all segment files.
  public var totalSizeBytes: UInt64 = 0
  /// Bytes of records that a key still points to (headers, keys and payloads); the rest is compaction's to win.
  public var liveSizeBytes: UInt64 = 0
  public var nextSequence: UInt64 = 1
  /// Writes accepted and not yet answered.
  public var waitingWrites = 0
  public var waitingReads = 0
  /// Since opening: batches, each with one synchronization, and records written by them.
  public var batches: UInt64 = 0
  public var recordsWritten: UInt64 = 0
  /// Since opening: reads that met a bad record.
  public var damagedReads: UInt64 = 0
  /// Since opening: hint files that could not be written.
  public var hintFailures: UInt64 = 0
}
