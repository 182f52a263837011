import Base
import Glibc

/// Looks at a store that nobody has open, and changes nothing but its hint files, and those only when asked.
public final class SegmentInspector: Sendable {
  /// What one segment file is.
  public struct SegmentSummary: Sendable, Equatable {
    public enum Hints: String, Sendable {
      /// The segment that is written to has none.
      case notDue = "not due"
      case good, missing, stale, damaged
    }

    public let identifier: UInt64
    public let coversThrough: UInt64
    public let generation: UInt32
    public let sizeBytes: UInt64
    /// Nil where the header is damaged.
    public let firstSequence: UInt64?
    public internal(set) var values = 0
    public internal(set) var tombstones = 0
    public internal(set) var hints = Hints.missing
    public internal(set) var damages: [SegmentDamage] = []
  }

  /// One item of a segment, payloads left out.
  public enum Item: Sendable, Equatable {
    case value(key: [UInt8], RecordLocation)
    case tombstone(key: [UInt8], RecordLocation)
    case commit(offsetBytes: UInt64, nextSequence: UInt64)
    /// A hole that a recovery sealed.
    case void(offsetBytes: UInt64, sizeBytes: UInt64)
    case damage(SegmentDamage)
  }

  private struct OpenSegment {
    let identifier: UInt64
    let file: any DiskFile
    let sizeBytes: UInt64
    let header: SegmentHeader?
  }

  private let files: SegmentFiles
  private let lock: any DiskLock
  private let store: StoreIdentifier
  private let segments: [OpenSegment]
  /// Damage of the folder as a whole: its manifest, missing segments.
  public let damages: [SegmentDamage]

  deinit { lock.release() }

  /// Throws `.alreadyOpen` where a daemon has the store open, `.identityLost` where there is no store.
  public init(directory: String, disk: any Disk = SystemDisk()) throws(SegmentStoreError) {
    let files = SegmentFiles(disk: disk, directory: directory)
    let names: [String]
    do throws(DiskError) { names = try disk.listDirectory(directory) } catch { throw .disk(error) }
    let identifiers = names.compactMap { FileName.segmentIdentifier(of: $0) }.sorted()
    guard !identifiers.isEmpty || names.contains(FileName.manifest) else {
      throw .identityLost(directory: directory)
    }
    let lock: (any DiskLock)?
    do throws(DiskError) { lock = try disk.lock(files.path(FileName.lock)) } catch {
      throw .disk(error)
    }
    guard let lock else { throw .alreadyOpen(directory: directory) }
    do throws(SegmentStoreError) {
      var damages: [SegmentDamage] = []
      let manifest = try Self.manifest(files)
      let opened = try identifiers.map { identifier throws(SegmentStoreError) in
        try Self.open(identifier, files)
      }
      guard let store = manifest?.store ?? opened.lazy.compactMap({ $0.header?.store }).first else {
        throw SegmentStoreError.identityLost(directory: directory)
      }
      if manifest == nil {
        damages.append(Self.damage(.manifest, 0, sizeBytes: UInt64(Manifest.sizeBytes)))
      }
      let first = manifest?.firstSegment ?? identifiers.first ?? 1
      let coverage = SegmentCoverage(
        opened.map { ($0.identifier, $0.header) }, store: store, last: identifiers.last ?? first)
      for range in coverage.missing(from: first, among: identifiers) {
        damages.append(
          Self.damage(.missingSegments(through: range.upperBound), range.lowerBound))
      }
      self.files = files
      self.lock = lock
      self.store = store
      self.damages = damages
      segments = opened.filter { segment in
        segment.identifier >= first && !coverage.contains(segment.identifier)
          && (segment.header == nil || segment.header?.store == store)
      }
    } catch {
      lock.release()
      throw error
    }
  }

  private static func manifest(_ files: SegmentFiles) throws(SegmentStoreError) -> Manifest? {
    let path = files.path(FileName.manifest)
    let bytes: [UInt8]
    do throws(DiskError) {
      let file = try files.disk.open(path, mode: .readOnly)
      bytes = try files.readStart(of: file, count: Manifest.sizeBytes + 1)
    } catch {
      if error.code == ENOENT || error.code == EIO { return nil }
      throw .disk(error)
    }
    switch Manifest.decode(bytes) {
    case .valid(let manifest): return manifest
    case .damaged: return nil
    case .unsupportedVersion(let version): throw .unsupportedVersion(path: path, version: version)
    }
  }

  private static func open(
    _ identifier: UInt64, _ files: SegmentFiles
  ) throws(SegmentStoreError) -> OpenSegment {
    let path = files.path(FileName.segment(identifier))
    do throws(DiskError) {
      let file = try files.disk.open(path, mode: .readOnly)
      let size = try file.sizeBytes()
      let decoded = SegmentHeader.decode(
        try files.readStart(of: file, count: SegmentHeader.sizeBytes))
      if case .valid(let header) = decoded, header.segmentIdentifier == identifier {
        return OpenSegment(identifier: identifier, file: file, sizeBytes: size, header: header)
      }
      return OpenSegment(identifier: identifier, file: file, sizeBytes: size, header: nil)
    } catch { throw .disk(error) }
  }

  private static func damage(
    _ kind: SegmentDamage.Kind, _ segment: UInt64, sizeBytes: UInt64 = 0
  ) -> SegmentDamage {
    SegmentDamage(
      kind: kind, segmentIdentifier: segment, offsetBytes: 0, sizeBytes: sizeBytes, key: nil,
      missingSequences: nil)
  }

  public var segmentIdentifiers: [UInt64] { segments.map(\.identifier) }

  /// Reads a segment from front to back. Blocks. Damage at the very end of the last segment may be a torn write, which the
  /// next start of the daemon cuts.
  ///
  /// - Parameter body: gets every item, in order.
  public func read(
    segment identifier: UInt64, _ body: (Item) -> Void = { _ in }
  ) throws(SegmentStoreError) -> SegmentSummary {
    guard let segment = segments.first(where: { $0.identifier == identifier }) else {
      throw .invalidConfiguration("there is no segment \(identifier)")
    }
    return try summary(of: segment, body).summary
  }

  private func summary(
    of segment: OpenSegment, _ body: (Item) -> Void
  ) throws(SegmentStoreError) -> (summary: SegmentSummary, hints: HintFile?) {
    var summary = SegmentSummary(
      identifier: segment.identifier,
      coversThrough: segment.header?.coversThrough ?? segment.identifier,
      generation: segment.header?.generation ?? 0, sizeBytes: segment.sizeBytes,
      firstSequence: segment.header?.firstSequence)
    if segment.header == nil {
      summary.damages.append(
        Self.damage(
          .segmentHeader, segment.identifier, sizeBytes: UInt64(SegmentHeader.sizeBytes)))
    }
    var order = SequenceOrder(mayJump: summary.generation > 0, next: segment.header?.firstSequence)
    let window = SegmentWindow(file: segment.file, sizeBytes: segment.sizeBytes)
    var scanner = SegmentScanner(
      window: window, binding: RecordBinding(store: store, segmentIdentifier: segment.identifier),
      path: files.path(FileName.segment(segment.identifier)))
    var hints = HintBuilder()
    while let item = try scanner.next() {
      let seen = Self.item(item, segment.identifier, window.readError)
      if let problem = order.take(item, in: segment.identifier) {
        summary.damages.append(problem)
        body(.damage(problem))
      }
      switch seen {
      case .value: summary.values += 1
      case .tombstone: summary.tombstones += 1
      case .damage(let damage): summary.damages.append(damage)
      case .commit, .void: break
      }
      if case .record(let header, let key, _, let offset) = item, header.isData {
        hints.add(
          header.kind, key, sequence: header.sequence, offsetBytes: offset,
          payloadSizeBytes: header.payloadSizeBytes)
      }
      body(seen)
    }
    guard segment.identifier != segments.last?.identifier else {
      summary.hints = .notDue
      return (summary, nil)
    }
    let due = due(segment, hints, order.next, isGood: summary.damages.isEmpty)
    summary.hints = state(of: segment, due)
    return (summary, due)
  }

  /// What the hint file of a good segment should be.
  private func due(
    _ segment: OpenSegment, _ hints: HintBuilder, _ nextSequence: UInt64?, isGood: Bool
  ) -> HintFile? {
    guard isGood, hints.isUsable, let header = segment.header, let nextSequence else { return nil }
    return HintFile(
      segmentIdentifier: segment.identifier, store: store, segmentSizeBytes: segment.sizeBytes,
      segmentGeneration: header.generation, nextSequence: nextSequence, entries: hints.bytes)
  }

  private func state(of segment: OpenSegment, _ due: HintFile?) -> SegmentSummary.Hints {
    let found: FileBlockResult<HintFile>?
    do throws(DiskError) {
      found = try files.readHint(segment.identifier, limitBytes: segment.sizeBytes + 128)
    } catch { return .damaged }
    switch found {
    case nil: return .missing
    case .damaged, .unsupportedVersion: return .damaged
    case .valid(let hint): return hint == due ? .good : .stale
    }
  }

  private static func item(
    _ item: ScannedItem, _ segment: UInt64, _ readError: DiskError?
  ) -> Item {
    guard case .record(let header, let key, _, let offset) = item else {
      return .damage(item.damage(in: segment, readError))
    }
    let location = RecordLocation(
      segmentIdentifier: segment, offsetBytes: offset, payloadSizeBytes: header.payloadSizeBytes,
      sequence: header.sequence)
    switch header.kind {
    case .value: return .value(key: key, location)
    case .tombstone: return .tombstone(key: key, location)
    case .commit: return .commit(offsetBytes: offset, nextSequence: header.sequence)
    case .void: return .void(offsetBytes: offset, sizeBytes: header.recordSizeBytes)
    }
  }

  /// Writes the hint file of a rolled segment anew. False where it needs none: it is the last, has damage or too many
  /// records, or its hints are good.
  public func rebuildHints(of identifier: UInt64) throws(SegmentStoreError) -> Bool {
    guard let segment = segments.first(where: { $0.identifier == identifier }) else {
      throw .invalidConfiguration("there is no segment \(identifier)")
    }
    let (summary, due) = try summary(of: segment) { _ in }
    guard let due, summary.hints != .good else { return false }
    do throws(DiskError) {
      try files.writeHint(due)
      try files.disk.synchronizeDirectory(files.directory)
    } catch { throw .disk(error) }
    return true
  }
}

/// Finds numbers that are missing between good records, or used twice.
private struct SequenceOrder {
  let mayJump: Bool
  var next: UInt64?
  private var jumpIsExplained = false

  init(mayJump: Bool, next: UInt64?) {
    self.mayJump = mayJump
    self.next = next
  }

  mutating func take(_ item: ScannedItem, in segment: UInt64) -> SegmentDamage? {
    guard case .record(let header, let key, _, let offset) = item else {
      jumpIsExplained = true
      return nil
    }
    if header.kind == .void {
      jumpIsExplained = true
      return nil
    }
    let expected = next ?? header.sequence
    defer {
      next = max(expected, header.isData ? header.sequence + 1 : header.sequence)
      jumpIsExplained = false
    }
    if header.sequence < expected {
      return SegmentDamage(
        kind: .sequenceRepeated, segmentIdentifier: segment, offsetBytes: offset,
        sizeBytes: header.recordSizeBytes, key: header.isData ? key : nil, missingSequences: nil)
    }
    guard header.sequence > expected, !mayJump, !jumpIsExplained else { return nil }
    return SegmentDamage(
      kind: .sequenceGap, segmentIdentifier: segment, offsetBytes: offset,
      sizeBytes: header.recordSizeBytes, key: nil,
      missingSequences: expected...(header.sequence - 1))
  }
}
