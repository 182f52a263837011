import Base
import Glibc

/// The segment that is appended to. Confined to recovery and then to the writer thread.
struct ActiveSegment {
  let identifier: UInt64
  let file: any DiskFile
  let binding: RecordBinding
  /// For the hint file that it gets when it is rolled.
  var hints: HintBuilder
  var sizeBytes: UInt64
  /// Bytes of it that are on the disk for certain. Only a commit record may lie behind them, until the next batch.
  var synchronizedSizeBytes: UInt64
  /// Blocks are reserved up to here.
  var reservedSizeBytes: UInt64 = 0

  /// Records have been synchronized and nothing in the file says so yet.
  var needsCommit: Bool {
    sizeBytes == synchronizedSizeBytes && sizeBytes > UInt64(SegmentHeader.sizeBytes)
  }
}

/// What opening hands to the running store. Without an active segment the store is read-only.
struct RecoveredStore {
  let store: StoreIdentifier
  let state: StoreState
  let active: ActiveSegment?
  let report: RecoveryReport
}

/// Reads a whole folder at the start: finds out which store it is, scans the segments in order, mends what a
/// crash may leave, and reports everything else.
struct Recovery {
  let files: SegmentFiles
  let configuration: SegmentStoreConfiguration
  var state = StoreState()
  var report = RecoveryReport()
  /// The number that the next value or tombstone record must have; nil before the first.
  var expectedSequence: UInt64?
  /// The reported damage that accounts for sequence numbers missing right behind it.
  var explanation: Explanation = .none
  /// Of the segment in hand.
  var generation: UInt32 = 0
  private var hintIdentifiers: Set<UInt64> = []

  enum Explanation: Equatable {
    case none
    case damage(index: Int)
    case sealedHole
  }

  private enum ManifestState {
    case missing
    case damaged
    case valid(Manifest)
  }

  /// A segment file that was opened, with what its header said.
  struct Candidate {
    let identifier: UInt64
    let file: any DiskFile
    let sizeBytes: UInt64
    /// Nil where the header is damaged.
    let header: SegmentHeader?
  }

  init(files: SegmentFiles, configuration: SegmentStoreConfiguration) {
    self.files = files
    self.configuration = configuration
  }

  mutating func run() throws(SegmentStoreError) -> RecoveredStore {
    let identifiers = try sortOutNames()
    let manifest = try readManifest()
    var candidates: [Candidate] = []
    for identifier in identifiers {
      let isLast = identifier == identifiers.last
      if let candidate = try open(identifier, forWriting: isLast) { candidates.append(candidate) }
    }
    if identifiers.isEmpty, case .missing = manifest { return try create() }
    let (store, first) = try identify(manifest, candidates, identifiers)

    let coverage = SegmentCoverage(
      candidates.map { ($0.identifier, $0.header) }, store: store, last: identifiers.last ?? first)
    reportMissing(identifiers, first: first, coverage)
    var active: ActiveSegment?
    var leftovers: [Candidate] = []
    for candidate in candidates {
      let identifier = candidate.identifier
      if identifier < first || coverage.contains(identifier) {
        leftovers.append(candidate)
      } else {
        active = try scan(candidate, store: store, isLast: identifier == identifiers.last)
      }
    }
    removeLeftovers(leftovers, store)
    removeStrayHints(identifiers)
    if active == nil && state.status == .readWrite {
      active = createActive(store: store, identifier: max(first, (identifiers.last ?? 0) + 1))
    }
    return finish(store: store, active: active)
  }

  /// Runs what mends the folder. The first failure makes the store read-only and stops all further mending.
  mutating func mend(_ body: () throws(DiskError) -> Void) -> Bool {
    guard state.status == .readWrite else { return false }
    do {
      try body()
      return true
    } catch {
      state.status = .readOnly(.recoveryFailed(error))
      return false
    }
  }

  private func finish(store: StoreIdentifier, active: ActiveSegment?) -> RecoveredStore {
    var state = state
    var report = report
    state.nextSequence = expectedSequence ?? 1
    report.nextSequence = state.nextSequence
    report.segments = state.segments.count
    return RecoveredStore(store: store, state: state, active: active, report: report)
  }

  /// Segment identifiers in the folder, ascending; temporary files of an interrupted creation are removed.
  private mutating func sortOutNames() throws(SegmentStoreError) -> [UInt64] {
    let names: [String]
    do { names = try files.disk.listDirectory(files.directory).sorted() } catch {
      throw .disk(error)
    }
    var identifiers: [UInt64] = []
    for name in names {
      if let identifier = FileName.segmentIdentifier(of: name) {
        identifiers.append(identifier)
      } else if isTemporary(name) {
        let files = files
        if mend({ () throws(DiskError) in try files.disk.remove(files.path(name)) }) {
          report.removedFiles.append(name)
        }
      } else if let identifier = FileName.hintIdentifier(of: name) {
        hintIdentifiers.insert(identifier)
      } else if ![FileName.lock, FileName.manifest, FileName.scrub].contains(name) {
        report.unknownFiles.append(name)
      }
    }
    return identifiers
  }

  private func isTemporary(_ name: String) -> Bool {
    guard name.hasSuffix(FileName.temporarySuffix) else { return false }
    let base = String(name.dropLast(FileName.temporarySuffix.count))
    return base == FileName.manifest || base == FileName.scrub
      || FileName.segmentIdentifier(of: base) != nil
      || FileName.hintIdentifier(of: base) != nil
  }

  private func readManifest() throws(SegmentStoreError) -> ManifestState {
    let path = files.path(FileName.manifest)
    let bytes: [UInt8]
    do {
      let file = try files.disk.open(path, mode: .readOnly)
      bytes = try files.readStart(of: file, count: Manifest.sizeBytes + 1)
    } catch {
      if error.code == ENOENT { return .missing }
      if error.code == EIO { return .damaged }
      throw .disk(error)
    }
    switch Manifest.decode(bytes) {
    case .valid(let manifest): return .valid(manifest)
    case .damaged: return .damaged
    case .unsupportedVersion(let version):
      throw .unsupportedVersion(path: path, version: version)
    }
  }

  private mutating func open(
    _ identifier: UInt64, forWriting: Bool
  ) throws(SegmentStoreError) -> Candidate? {
    let path = files.path(FileName.segment(identifier))
    var opened: (any DiskFile)?
    let bytes: [UInt8]
    let sizeBytes: UInt64
    do {
      if forWriting {
        let files = files
        _ = mend { () throws(DiskError) in
          opened = try files.disk.open(path, mode: .readWrite)
        }
      }
      let file = if let opened { opened } else { try files.disk.open(path, mode: .readOnly) }
      opened = file
      sizeBytes = try file.sizeBytes()
      bytes = try files.readStart(of: file, count: SegmentHeader.sizeBytes)
    } catch {
      guard error.code == EIO else { throw .disk(error) }
      addDamage(.unreadable(error), identifier, offset: 0, size: 0)
      return nil
    }
    switch SegmentHeader.decode(bytes) {
    case .unsupportedVersion(let version):
      throw .unsupportedVersion(path: path, version: version)
    case .damaged:
      return Candidate(
        identifier: identifier, file: opened!, sizeBytes: sizeBytes, header: nil)
    case .valid(let header):
      return Candidate(
        identifier: identifier, file: opened!, sizeBytes: sizeBytes, header: header)
    }
  }

  /// The store's identity and first segment; a manifest that is missing or damaged is written anew.
  private mutating func identify(
    _ manifest: ManifestState, _ candidates: [Candidate], _ identifiers: [UInt64]
  ) throws(SegmentStoreError) -> (StoreIdentifier, first: UInt64) {
    if case .valid(let manifest) = manifest { return (manifest.store, manifest.firstSegment) }
    guard let header = candidates.lazy.compactMap(\.header).first else {
      throw .identityLost(directory: files.directory)
    }
    // Creation makes the first segment before the manifest; only then is a missing manifest no loss.
    var isInterruptedCreation = false
    if case .missing = manifest {
      isInterruptedCreation =
        candidates.count == 1 && header.segmentIdentifier == 1
        && candidates[0].sizeBytes == UInt64(SegmentHeader.sizeBytes)
    }
    if !isInterruptedCreation {
      addDamage(.manifest, 0, offset: 0, size: UInt64(Manifest.sizeBytes))
    }
    let files = files
    let renewed = Manifest(store: header.store, firstSegment: identifiers[0])
    _ = mend { () throws(DiskError) in try files.writeManifest(renewed) }
    return (header.store, identifiers[0])
  }

  private mutating func reportMissing(
    _ identifiers: [UInt64], first: UInt64, _ coverage: SegmentCoverage
  ) {
    for range in coverage.missing(from: first, among: identifiers) {
      addDamage(
        .missingSegments(through: range.upperBound), range.lowerBound, offset: 0, size: 0)
    }
    if !identifiers.contains(where: { $0 >= first }) {
      addDamage(.missingSegments(through: first), first, offset: 0, size: 0)
    }
  }

  /// A drop names the new first segment in the manifest before it removes files, so files below it are what an
  /// interrupted drop left.
  private mutating func removeLeftovers(_ candidates: [Candidate], _ store: StoreIdentifier) {
    let ours = candidates.filter { $0.header == nil || $0.header?.store == store }
    let names = ours.map { FileName.segment($0.identifier) }
    report.unknownFiles += candidates.map { FileName.segment($0.identifier) }.filter {
      !names.contains($0)
    }
    guard !ours.isEmpty else { return }
    let files = files
    if mend({ () throws(DiskError) in try files.removeSegments(ours.map(\.identifier)) }) {
      report.removedFiles += names
    }
  }

  /// Of segments that a drop or a compaction removed.
  private mutating func removeStrayHints(_ identifiers: [UInt64]) {
    let files = files
    for identifier in hintIdentifiers.subtracting(identifiers) {
      if mend({ () throws(DiskError) in try files.removeHint(identifier) }) {
        report.removedFiles.append(FileName.hint(identifier))
      }
    }
  }

  private mutating func create() throws(SegmentStoreError) -> RecoveredStore {
    guard case .readWrite = state.status else {
      guard case .readOnly(.recoveryFailed(let error)) = state.status else {
        preconditionFailure("status \(state.status) before anything was created")
      }
      throw .disk(error)
    }
    let bytes = configuration.makeStoreIdentifier()
    guard bytes.count == StoreIdentifier.sizeBytes else {
      throw .invalidConfiguration("makeStoreIdentifier gave \(bytes.count) bytes instead of 16")
    }
    let store = StoreIdentifier(bytes)
    report.createdStore = true
    let active = createActive(store: store, identifier: 1)
    let files = files
    _ = mend { () throws(DiskError) in
      try files.writeManifest(Manifest(store: store, firstSegment: 1))
    }
    if case .readOnly(.recoveryFailed(let error)) = state.status { throw .disk(error) }
    return finish(store: store, active: active)
  }

  private mutating func createActive(
    store: StoreIdentifier, identifier: UInt64
  ) -> ActiveSegment? {
    let firstSequence = expectedSequence ?? 1
    let header = SegmentHeader(
      segmentIdentifier: identifier, store: store, firstSequence: firstSequence)
    let files = files
    var created: (any DiskFile)?
    _ = mend { () throws(DiskError) in created = try files.createSegment(header) }
    guard let file = created else { return nil }
    let binding = RecordBinding(store: store, segmentIdentifier: identifier)
    state.segments.append(
      Segment(
        identifier: identifier, file: file, binding: binding, header: header,
        sizeBytes: UInt64(SegmentHeader.sizeBytes), nextSequence: firstSequence))
    return ActiveSegment(
      identifier: identifier, file: file, binding: binding, hints: HintBuilder(),
      sizeBytes: UInt64(SegmentHeader.sizeBytes),
      synchronizedSizeBytes: UInt64(SegmentHeader.sizeBytes))
  }

  mutating func addDamage(
    _ kind: SegmentDamage.Kind, _ segment: UInt64, offset: UInt64, size: UInt64,
    key: [UInt8]? = nil, missing: ClosedRange<UInt64>? = nil
  ) {
    report.damages.append(
      SegmentDamage(
        kind: kind, segmentIdentifier: segment, offsetBytes: offset, sizeBytes: size, key: key,
        missingSequences: missing))
  }
}
