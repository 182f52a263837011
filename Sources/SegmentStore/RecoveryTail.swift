import Base

/// Mending the end of the last segment: the only place where a crash can leave anything but good records.
extension Recovery {
  private static let copyBytes = 1 << 20

  /// Decides for each damaged stretch of the last segment whether it may be a torn write, cuts or seals those, and
  /// makes sure that everything kept is on the disk.
  ///
  /// Damage before `provenEnd` is rot and stays reported. Behind it lies at most the last batch, of which nobody
  /// knows whether it was acknowledged: its torn end is cut; holes with good records behind them are sealed.
  mutating func settleTail(
    _ candidate: Candidate, _ binding: RecordBinding, _ tail: SegmentTail
  ) -> (sizeBytes: UInt64, synchronizedSizeBytes: UInt64) {
    let (provenEnd, goodEnd) = (tail.provenEnd, tail.goodEnd)
    let unproven = tail.suspects.filter { $0.offset >= provenEnd }
    for stretch in unproven.reversed() { takeBackMark(stretch) }
    let holes = unproven.filter { $0.offset < goodEnd && isSealable($0) }
    for hole in holes { report.damages[hole.damageIndex].kind = .unprovenBatch }
    let cut = unproven.filter { $0.offset >= goodEnd }
    let keptEnd = cut.first?.offset ?? candidate.sizeBytes
    if let first = cut.first {
      expectedSequence = first.expectedBefore
      reportCut(cut, candidate)
    }

    let endsWithCommit = tail.endsWithCommit && goodEnd == keptEnd
    let isSettled =
      endsWithCommit && cut.isEmpty && holes.isEmpty
      && keptEnd <= provenEnd + UInt64(RecordHeader.sizeBytes)
    if isSettled { return (keptEnd, provenEnd) }
    mendFile(candidate, binding, provenEnd..<max(provenEnd, keptEnd), holes)
    return (writeCommit(candidate, binding, at: keptEnd), keptEnd)
  }

  /// Gives the key of a bad record that was never acknowledged back what it pointed to before.
  private mutating func takeBackMark(_ stretch: SuspectStretch) {
    guard let (key, previous) = stretch.marked, let entry = state.index[key],
      state.damages[entry.location.sequence] == report.damages[stretch.damageIndex]
    else { return }
    state.damages[entry.location.sequence] = nil
    if let previous { state.setEntry(key, previous) } else { state.removeEntry(key) }
  }

  private func isSealable(_ stretch: SuspectStretch) -> Bool {
    (UInt64(RecordHeader.sizeBytes)...UInt64(UInt32.max)).contains(stretch.sizeBytes)
  }

  private mutating func reportCut(_ cut: [SuspectStretch], _ candidate: Candidate) {
    let start = cut[0].offset
    report.tailCut = RecoveryReport.TailCut(
      segmentIdentifier: candidate.identifier, offsetBytes: start,
      sizeBytes: candidate.sizeBytes - start,
      keys: cut.compactMap { report.damages[$0.damageIndex].key })
    report.damages.removeAll {
      $0.segmentIdentifier == candidate.identifier && $0.offsetBytes >= start
    }
  }

  /// Cuts, writes the unproven bytes again, seals the holes, and synchronizes. The bytes are written again because
  /// after a failed synchronization the kernel may show bytes as clean that never reached the disk.
  private mutating func mendFile(
    _ candidate: Candidate, _ binding: RecordBinding, _ unproven: Range<UInt64>,
    _ holes: [SuspectStretch]
  ) {
    let file = candidate.file
    let didMend = mend { () throws(DiskError) in
      if unproven.upperBound < candidate.sizeBytes {
        try file.truncate(toSizeBytes: unproven.upperBound)
      }
      var position = unproven.lowerBound
      while position < unproven.upperBound {
        let count = Int(min(UInt64(Self.copyBytes), unproven.upperBound - position))
        try Self.rewrite(file, at: position, count: count)
        position += UInt64(count)
      }
      for hole in holes {
        try Self.seal(file, binding, hole, batchStart: unproven.lowerBound)
      }
      try file.synchronize()
    }
    if didMend { report.rewrittenSizeBytes = UInt64(unproven.count) }
  }

  private static func rewrite(
    _ file: any DiskFile, at position: UInt64, count: Int
  ) throws(DiskError) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
    defer { buffer.deallocate() }
    let found = try file.read(into: buffer, at: position)
    try file.write(UnsafeRawBufferPointer(rebasing: buffer[..<found]), at: position)
  }

  /// Puts a void record over a hole; the hole's other bytes become its payload and stay for whoever looks into them.
  private static func seal(
    _ file: any DiskFile, _ binding: RecordBinding, _ hole: SuspectStretch, batchStart: UInt64
  ) throws(DiskError) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: copyBytes, alignment: 16)
    defer { buffer.deallocate() }
    var checksum: UInt32 = 0
    var position = hole.offset + UInt64(RecordHeader.sizeBytes)
    let end = hole.offset + hole.sizeBytes
    while position < end {
      let wanted = Int(min(UInt64(copyBytes), end - position))
      let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
      guard try file.read(into: part, at: position) == wanted else {
        preconditionFailure(
          "a hole of \(hole.sizeBytes) bytes at \(hole.offset) is longer than its file")
      }
      checksum = Checksum.crc32c(UnsafeRawBufferPointer(part), continuing: checksum)
      position += UInt64(wanted)
    }
    let header = RecordHeader(
      kind: .void, keySizeBytes: 0, sequence: hole.expectedBefore ?? 1,
      payloadSizeBytes: Int(hole.sizeBytes) - RecordHeader.sizeBytes, payloadChecksum: checksum,
      batchStart: UInt32(batchStart))
    header.encode(key: [], to: buffer.baseAddress!, binding: binding, offset: hole.offset)
    try file.write(
      UnsafeRawBufferPointer(rebasing: buffer[..<RecordHeader.sizeBytes]), at: hole.offset)
  }

  /// Says durably soon, without waiting for it, that everything before was synchronized. Returns the new size.
  private mutating func writeCommit(
    _ candidate: Candidate, _ binding: RecordBinding, at offset: UInt64
  ) -> UInt64 {
    guard offset > UInt64(SegmentHeader.sizeBytes) else { return offset }
    let commit = RecordHeader.commit(sequence: expectedSequence ?? 1, offset: offset)
    let isWritten = mend { () throws(DiskError) in
      try commit.write(to: candidate.file, binding: binding, at: offset)
    }
    return isWritten ? offset + UInt64(RecordHeader.sizeBytes) : offset
  }
}
