import Base

/// Hints at the start: what they save and what becomes of those that cannot be used.
extension Recovery {
  /// Takes a rolled segment's records from its hints; false where they are missing, not of this segment, or damaged: then it
  /// has to be read.
  mutating func takeHints(_ candidate: Candidate, _ header: SegmentHeader) -> Bool {
    guard !configuration.verifiesAtOpen, let hint = usableHint(candidate, header) else {
      return false
    }
    let identifier = candidate.identifier
    hint.visit { apply($0, identifier) }
    expectedSequence = hint.nextSequence
    explanation = .none
    report.hintedSegments += 1
    state.segments.append(
      Segment(
        identifier: identifier, file: candidate.file,
        binding: RecordBinding(store: header.store, segmentIdentifier: identifier), header: header,
        sizeBytes: candidate.sizeBytes, nextSequence: hint.nextSequence))
    return true
  }

  /// Reports a damaged one.
  private mutating func usableHint(
    _ candidate: Candidate, _ header: SegmentHeader
  ) -> HintFile? {
    let files = files
    let found: FileBlockResult<HintFile>?
    do throws(DiskError) {
      found = try files.readHint(candidate.identifier, limitBytes: candidate.sizeBytes + 128)
    } catch {
      found = .damaged
    }
    switch found {
    case nil, .unsupportedVersion: return nil
    case .damaged:
      report.damagedHints.append(candidate.identifier)
      return nil
    case .valid(let hint):
      let describesIt =
        hint.store == header.store && hint.segmentIdentifier == header.segmentIdentifier
        && hint.segmentSizeBytes == candidate.sizeBytes
        && hint.segmentGeneration == header.generation
        && hint.nextSequence >= expectedSequence ?? 1
      return describesIt ? hint : nil
    }
  }

  /// Writes the hints of a rolled segment that was read and found good, unless the same stand there.
  mutating func renewHints(_ header: SegmentHeader, _ hints: HintBuilder, _ sizeBytes: UInt64) {
    guard hints.isUsable, state.status == .readWrite else { return }
    let hint = HintFile(
      segmentIdentifier: header.segmentIdentifier, store: header.store,
      segmentSizeBytes: sizeBytes, segmentGeneration: header.generation,
      nextSequence: expectedSequence ?? 1, entries: hints.bytes)
    if configuration.verifiesAtOpen {
      switch try? files.readHint(header.segmentIdentifier, limitBytes: sizeBytes + 128) {
      case .valid(let found) where found == hint: return
      case nil: break
      default: report.damagedHints.append(header.segmentIdentifier)
      }
    }
    // Without hints the next start reads the segment again: no reason to take no more writes.
    do throws(DiskError) {
      try files.writeHint(hint)
      report.rebuiltHints.append(header.segmentIdentifier)
    } catch {
      report.hintError = error
    }
  }
}
