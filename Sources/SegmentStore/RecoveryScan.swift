import Base

/// Reading one segment at the start.
extension Recovery {
  /// A damaged stretch of the segment in hand, with what to take back should it turn out to be a torn write.
  struct SuspectStretch {
    let damageIndex: Int
    let offset: UInt64
    let sizeBytes: UInt64
    let expectedBefore: UInt64?
    /// The key that was marked damaged, and what it pointed to before.
    let marked: (key: [UInt8], previous: IndexEntry?)?
  }

  /// What the scan of one segment found out about its end.
  struct SegmentTail {
    /// Everything before was synchronized before something behind it was written.
    var provenEnd = UInt64(SegmentHeader.sizeBytes)
    /// Behind the last record that is wholly good.
    var goodEnd = UInt64(SegmentHeader.sizeBytes)
    var endsWithCommit = true
    var suspects: [SuspectStretch] = []
  }

  /// Scans a segment into the index; the last one is mended and returned for appending where that is possible.
  mutating func scan(
    _ candidate: Candidate, store: StoreIdentifier, isLast: Bool
  ) throws(SegmentStoreError) -> ActiveSegment? {
    let identifier = candidate.identifier
    if let header = candidate.header {
      guard header.store == store && header.segmentIdentifier == identifier else {
        addDamage(.foreignSegment, identifier, offset: 0, size: candidate.sizeBytes)
        explanation = .damage(index: report.damages.count - 1)
        return nil
      }
      meet(header.firstSequence, identifier, offset: 0, size: 0)
    } else {
      addDamage(.segmentHeader, identifier, offset: 0, size: UInt64(SegmentHeader.sizeBytes))
    }
    let binding = RecordBinding(store: store, segmentIdentifier: identifier)
    let window = SegmentWindow(file: candidate.file, sizeBytes: candidate.sizeBytes)
    var scanner = SegmentScanner(
      window: window, binding: binding, path: files.path(FileName.segment(identifier)))
    var tail = SegmentTail()
    while let item = try scanner.next() { take(item, identifier, candidate.sizeBytes, &tail) }
    if let error = window.readError {
      addDamage(.unreadable(error), identifier, offset: 0, size: candidate.sizeBytes)
      if isLast && state.status == .readWrite {
        state.status = .readOnly(.unreadableTail(segmentIdentifier: identifier))
      }
    }
    var sizeBytes = candidate.sizeBytes
    var active: ActiveSegment?
    if isLast && candidate.header != nil && window.readError == nil
      && sizeBytes < UInt64(UInt32.max) - UInt64(RecordHeader.sizeBytes)
    {
      let settled = settleTail(candidate, binding, tail)
      sizeBytes = settled.sizeBytes
      active = ActiveSegment(
        identifier: identifier, file: candidate.file, binding: binding, sizeBytes: sizeBytes,
        synchronizedSizeBytes: settled.synchronizedSizeBytes)
    }
    state.segments.append(
      Segment(
        identifier: identifier, file: candidate.file, binding: binding, sizeBytes: sizeBytes,
        nextSequence: expectedSequence ?? 1))
    return state.status == .readWrite ? active : nil
  }

  private mutating func take(
    _ item: ScannedItem, _ segment: UInt64, _ fileSize: UInt64, _ tail: inout SegmentTail
  ) {
    let expectedBefore = expectedSequence
    switch item {
    case .record(let header, let key, _, let offset):
      takeGood(header, key, segment, offset)
      tail.provenEnd = max(tail.provenEnd, UInt64(header.batchStart))
      tail.goodEnd = offset + header.recordSizeBytes
      tail.endsWithCommit = header.kind == .commit
    case .badPayload(let header, let key, let offset, let isTruncated):
      tail.provenEnd = max(tail.provenEnd, UInt64(header.batchStart))
      let size = isTruncated ? fileSize - offset : header.recordSizeBytes
      let isExpected = header.isData && meet(header.sequence, segment, offset: offset, size: size)
      addDamage(
        isTruncated ? .truncated : .payload, segment, offset: offset, size: size,
        key: header.isData ? key : nil,
        missing: isExpected ? header.sequence...header.sequence : nil)
      var marked: (key: [UInt8], previous: IndexEntry?)?
      if isExpected {
        expectedSequence = header.sequence + 1
        let entry = IndexEntry(
          location: location(header, segment, offset), recordSizeBytes: header.recordSizeBytes,
          damage: report.damages.last)
        marked = (key, state.setEntry(key, entry))
      }
      tail.suspects.append(
        SuspectStretch(
          damageIndex: report.damages.count - 1, offset: offset, sizeBytes: size,
          expectedBefore: expectedBefore, marked: marked))
    case .unparseable(let offset, let size):
      addDamage(.unparseable, segment, offset: offset, size: size)
      explanation = .damage(index: report.damages.count - 1)
      tail.suspects.append(
        SuspectStretch(
          damageIndex: report.damages.count - 1, offset: offset, sizeBytes: size,
          expectedBefore: expectedBefore, marked: nil))
    }
  }

  private mutating func takeGood(
    _ header: RecordHeader, _ key: [UInt8], _ segment: UInt64, _ offset: UInt64
  ) {
    if header.kind == .void {
      report.sealedSizeBytes += header.recordSizeBytes
      explanation = .sealedHole
      return
    }
    guard meet(header.sequence, segment, offset: offset, size: header.recordSizeBytes) else {
      addDamage(
        .sequenceRepeated, segment, offset: offset, size: header.recordSizeBytes,
        key: header.isData ? key : nil)
      return
    }
    switch header.kind {
    case .commit, .void: return
    case .value:
      report.valueRecords += 1
      state.setEntry(
        key,
        IndexEntry(
          location: location(header, segment, offset), recordSizeBytes: header.recordSizeBytes))
    case .tombstone:
      report.tombstones += 1
      state.removeEntry(key)
    }
    expectedSequence = header.sequence + 1
  }

  /// Compares a sequence number with the expected one. Numbers that were jumped over are put down to the damage
  /// before them, or reported as damage of their own. False for a number that is already taken.
  @discardableResult
  private mutating func meet(
    _ sequence: UInt64, _ segment: UInt64, offset: UInt64, size: UInt64
  ) -> Bool {
    let expected = expectedSequence ?? sequence
    guard sequence >= expected else { return false }
    if sequence > expected {
      let missing = expected...(sequence - 1)
      switch explanation {
      case .damage(let index): report.damages[index].missingSequences = missing
      case .sealedHole: break
      case .none: addDamage(.sequenceGap, segment, offset: offset, size: size, missing: missing)
      }
    }
    explanation = .none
    expectedSequence = sequence
    return true
  }

  private func location(
    _ header: RecordHeader, _ segment: UInt64, _ offset: UInt64
  ) -> RecordLocation {
    RecordLocation(
      segmentIdentifier: segment, offsetBytes: offset, payloadSizeBytes: header.payloadSizeBytes,
      sequence: header.sequence)
  }
}
