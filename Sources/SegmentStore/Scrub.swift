import Base

/// Where reading everything again goes on. A compaction in between begins its segment anew.
public struct ScrubPosition: Sendable, Equatable {
  public var segmentIdentifier: UInt64
  public var generation: UInt32
  public var offsetBytes: UInt64

  public init(segmentIdentifier: UInt64, generation: UInt32 = 0, offsetBytes: UInt64 = 0) {
    self.segmentIdentifier = segmentIdentifier
    self.generation = generation
    self.offsetBytes = offsetBytes
  }

  /// The first segment, whatever it is called.
  public static let start = ScrubPosition(segmentIdentifier: 0)
}

/// Bytes that are not what was once written, and what was lost by it.
public struct ScrubFinding: Sendable, Equatable {
  public let damage: SegmentDamage
  /// Keys whose latest record stands there; none where nothing of use was hit.
  public let keys: [[UInt8]]
}

/// One step of reading everything again.
public struct ScrubStep: Sendable, Equatable {
  /// Nil at the end.
  public internal(set) var next: ScrubPosition?
  public internal(set) var sizeBytes: UInt64 = 0
  public internal(set) var records = 0
  public internal(set) var findings: [ScrubFinding] = []
}

/// Reads what the index need not read for years. On a reader thread.
struct Scrubber {
  let shared: Monitor<StoreState>
  let files: SegmentFiles
  let store: StoreIdentifier

  func step(from position: ScrubPosition, maximumBytes: Int) throws(SegmentStoreError) -> ScrubStep
  {
    let segments = shared.withLock { $0.segments }
    var step = ScrubStep()
    guard let segment = segments.first(where: { $0.identifier >= position.segmentIdentifier })
    else {
      return step
    }
    let goesOn =
      segment.identifier == position.segmentIdentifier
      && segment.generation == position.generation && position.offsetBytes > 0
    let isRolled = segment.identifier != segments.last?.identifier
    if !goesOn { checkFiles(of: segment, isRolled: isRolled, &step) }
    let start = goesOn ? position.offsetBytes : UInt64(SegmentHeader.sizeBytes)
    let end = try checkRecords(of: segment, from: start, maximumBytes, &step)
    if end < segment.sizeBytes {
      step.next = ScrubPosition(
        segmentIdentifier: segment.identifier, generation: segment.generation, offsetBytes: end)
    } else if isRolled {
      step.next = ScrubPosition(segmentIdentifier: segment.identifier + 1)
    }
    return step
  }

  /// The segment's header and its hints.
  private func checkFiles(of segment: Segment, isRolled: Bool, _ step: inout ScrubStep) {
    let found: FileBlockResult<SegmentHeader>
    do throws(DiskError) {
      let bytes = try files.readStart(of: segment.file, count: SegmentHeader.sizeBytes)
      found = SegmentHeader.decode(bytes)
    } catch { found = .damaged }
    step.sizeBytes += UInt64(SegmentHeader.sizeBytes)
    if case .valid(let header) = found, header == segment.header {
    } else {
      add(.segmentHeader, segment, 0, UInt64(SegmentHeader.sizeBytes), [], &step)
    }
    guard isRolled, let header = segment.header else { return }
    let hint: FileBlockResult<HintFile>?
    do throws(DiskError) {
      hint = try files.readHint(segment.identifier, limitBytes: segment.sizeBytes + 128)
    } catch { hint = .damaged }
    switch hint {
    case nil, .unsupportedVersion: break
    case .valid(let hint) where hint.store == header.store: break
    case .valid, .damaged: add(.hints, segment, 0, 0, [], &step)
    }
  }

  private func checkRecords(
    of segment: Segment, from start: UInt64, _ maximumBytes: Int, _ step: inout ScrubStep
  ) throws(SegmentStoreError) -> UInt64 {
    let window = SegmentWindow(file: segment.file, sizeBytes: segment.sizeBytes)
    var scanner = SegmentScanner(
      window: window, binding: segment.binding,
      path: files.path(FileName.segment(segment.identifier)), from: start)
    var end = start
    while end - start < UInt64(maximumBytes), let item = try scanner.next() {
      end = scanner.offset
      if case .record = item {
        step.records += 1
        continue
      }
      let damage = item.damage(in: segment.identifier, window.readError)
      let keys = shared.withLock {
        $0.keys(in: segment, from: item.offset, to: end)
      }
      step.findings.append(ScrubFinding(damage: damage, keys: keys))
    }
    step.sizeBytes += end - start
    return end
  }

  private func add(
    _ kind: SegmentDamage.Kind, _ segment: Segment, _ offset: UInt64, _ size: UInt64,
    _ keys: [[UInt8]], _ step: inout ScrubStep
  ) {
    let damage = SegmentDamage(
      kind: kind, segmentIdentifier: segment.identifier, offsetBytes: offset, sizeBytes: size,
      key: nil, missingSequences: nil)
    step.findings.append(ScrubFinding(damage: damage, keys: keys))
  }
}
