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
    var hints = HintBuilder()
    /// Where compaction left records out, numbers are missing on purpose.
    let mayJump: Bool
  }

  /// Scans a segment into the index; the last one is mended and returned for appending where that is possible.
  mutating func scan(
    _ candidate: Candidate, store: StoreIdentifier, isLast: Bool
  ) throws(SegmentStoreError) -> ActiveSegment? {
    let identifier = candidate.identifier
    generation = candidate.header?.generation ?? 0
    if let header = candidate.header {
      guard header.store == store && header.segmentIdentifier == identifier else {
        addDamage(.foreignSegment, identifier, offset: 0, size: candidate.sizeBytes)
        explanation = .damage(index: report.damages.count - 1)
        return nil
      }
      let isInOrder = meet(header.firstSequence, identifier, offset: 0, size: 0)
      if !isLast, isInOrder, takeHints(candidate, header) { return nil }
    } else {
      addDamage(.segmentHeader, identifier, offset: 0, size: UInt64(SegmentHeader.sizeBytes))
    }
    let damagesBefore = report.damages.count
    let binding = RecordBinding(store: store, segmentIdentifier: identifier)
    let window = SegmentWindow(file: candidate.file, sizeBytes: candidate.sizeBytes)
    var scanner = SegmentScanner(
      window: window, binding: binding, path: files.path(FileName.segment(identifier)))
    var tail = SegmentTail(mayJump: (candidate.header?.generation ?? 0) > 0)
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
        identifier: identifier, file: candidate.file, binding: binding, hints: tail.hints,
        sizeBytes: sizeBytes, synchronizedSizeBytes: settled.synchronizedSizeBytes)
    }
    state.segments.append(
      Segment(
        identifier: identifier, file: candidate.file, binding: binding,
        header: candidate.header, sizeBytes: sizeBytes, nextSequence: expectedSequence ?? 1))
    if !isLast, let header = candidate.header, report.damages.count == damagesBefore {
      renewHints(header, tail.hints, sizeBytes)
    }
    return state.status == .readWrite ? active : nil
  }

  private mutating func take(
    _ item: ScannedItem, _ segment: UInt64, _ fileSize: UInt64, _ tail: inout SegmentTail
  ) {
    let expectedBefore = expectedSequence
    switch item {
    case .record(let header, let key, _, let offset):
      takeGood(header, key, segment, offset, &tail)
      tail.provenEnd = max(tail.provenEnd, UInt64(header.batchStart))
      tail.goodEnd = offset + header.recordSizeBytes
      tail.endsWithCommit = header.kind == .commit
    case .badPayload(let header, let key, let offset, let isTruncated):
      tail.provenEnd = max(tail.provenEnd, UInt64(header.batchStart))
      let size = isTruncated ? fileSize - offset : header.recordSizeBytes
      tail.hints.giveUp()
      if tail.mayJump { skip(to: header.sequence) }
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
          generation: generation)
        state.damages[header.sequence] = report.damages.last
        marked = (key, state.setEntry(key, entry))
      }
      tail.suspects.append(
        SuspectStretch(
          damageIndex: report.damages.count - 1, offset: offset, sizeBytes: size,
          expectedBefore: expectedBefore, marked: marked))
    case .unparseable(let offset, let size):
      tail.hints.giveUp()
      addDamage(.unparseable, segment, offset: offset, size: size)
      explanation = .damage(index: report.damages.count - 1)
      tail.suspects.append(
        SuspectStretch(
          damageIndex: report.damages.count - 1, offset: offset, sizeBytes: size,
          expectedBefore: expectedBefore, marked: nil))
    }
  }

  private mutating func takeGood(
    _ header: RecordHeader, _ key: [UInt8], _ segment: UInt64, _ offset: UInt64,
    _ tail: inout SegmentTail
  ) {
    if header.kind == .void {
      report.sealedSizeBytes += header.recordSizeBytes
      explanation = .sealedHole
      return
    }
    if tail.mayJump { skip(to: header.sequence) }
    guard meet(header.sequence, segment, offset: offset, size: header.recordSizeBytes) else {
      tail.hints.giveUp()
      addDamage(
        .sequenceRepeated, segment, offset: offset, size: header.recordSizeBytes,
        key: header.isData ? key : nil)
      return
    }
    switch header.kind {
    case .commit, .void: return
    case .value, .tombstone:
      apply(
        HintEntry(
          kind: header.kind, key: key, sequence: header.sequence, offsetBytes: offset,
          payloadSizeBytes: header.payloadSizeBytes), segment)
      tail.hints.add(
        header.kind, key, sequence: header.sequence, offsetBytes: offset,
        payloadSizeBytes: header.payloadSizeBytes)
    }
    expectedSequence = header.sequence + 1
  }

  mutating func apply(_ entry: HintEntry, _ segment: UInt64) {
    if entry.kind == .tombstone {
      report.tombstones += 1
      state.removeEntry(entry.key)
    } else {
      report.valueRecords += 1
      state.setEntry(
        entry.key,
        IndexEntry(
          location: RecordLocation(
            segmentIdentifier: segment, offsetBytes: entry.offsetBytes,
            payloadSizeBytes: entry.payloadSizeBytes, sequence: entry.sequence),
          recordSizeBytes: entry.recordSizeBytes, generation: generation))
    }
  }

  /// Takes numbers for left out on purpose.
  private mutating func skip(to sequence: UInt64) {
    if sequence > expectedSequence ?? sequence { expectedSequence = sequence }
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
