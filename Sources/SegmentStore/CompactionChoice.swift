/// Which rolled segments are worth compacting.
extension StoreState {
  /// Fewer adjacent segments that are small are left as they are.
  private static let smallSegmentsWorthMerging = 4

  /// Adjacent rolled segments whose useful records fit into one; empty where nothing is worth it.
  func segmentsToCompact(_ settings: CompactionSettings, maximumSegmentSizeBytes: Int) -> [Segment]
  {
    let rolled = Array(segments.dropLast())
    let limit = UInt64(maximumSegmentSizeBytes)
    if let worst = rolled.indices.filter({ isWorthwhile(rolled[$0], settings) })
      .max(by: { garbageBytes(of: rolled[$0]) < garbageBytes(of: rolled[$1]) })
    {
      return grow(worst..<worst + 1, in: rolled, settings, limit)
    }
    for start in rolled.indices where isSmall(rolled[start], limit) {
      let run = rolled[start...].prefix { isSmall($0, limit) && isGood($0) }
      guard run.count >= Self.smallSegmentsWorthMerging else { continue }
      let grown = grow(start..<start + 1, in: rolled, settings, limit)
      if grown.count >= Self.smallSegmentsWorthMerging { return grown }
    }
    return []
  }

  /// Takes neighbours in as long as all that is useful fits into one segment.
  private func grow(
    _ start: Range<Int>, in rolled: [Segment], _ settings: CompactionSettings, _ limit: UInt64
  ) -> [Segment] {
    var range = start
    var bytes = keptBytes(of: rolled[range.lowerBound])
    func mayJoin(_ segment: Segment) -> Bool {
      isGood(segment) && (isSmall(segment, limit) || isWorthwhile(segment, settings))
        && bytes + keptBytes(of: segment) <= limit
    }
    while range.upperBound < rolled.count, mayJoin(rolled[range.upperBound]) {
      bytes += keptBytes(of: rolled[range.upperBound])
      range = range.lowerBound..<range.upperBound + 1
    }
    while range.lowerBound > 0, mayJoin(rolled[range.lowerBound - 1]) {
      bytes += keptBytes(of: rolled[range.lowerBound - 1])
      range = range.lowerBound - 1..<range.upperBound
    }
    return Array(rolled[range])
  }

  private func isGood(_ segment: Segment) -> Bool {
    segment.header != nil && !uncompactable.contains(segment.identifier)
  }

  private func isSmall(_ segment: Segment, _ limit: UInt64) -> Bool {
    segment.sizeBytes <= limit / 8
  }

  private func isWorthwhile(_ segment: Segment, _ settings: CompactionSettings) -> Bool {
    isGood(segment)
      && Double(garbageBytes(of: segment)) >= settings.garbageFraction * Double(segment.sizeBytes)
      && garbageBytes(of: segment) > 0
  }

  /// What a compaction would win, about: tombstones of the last one had to stay then, and are not counted again.
  private func garbageBytes(of segment: Segment) -> UInt64 {
    let fixed = UInt64(SegmentHeader.sizeBytes + RecordHeader.sizeBytes)
    let used = fixed + liveBytes[segment.identifier, default: 0] + segment.residueBytes
    return segment.sizeBytes - min(segment.sizeBytes, used)
  }

  private func keptBytes(of segment: Segment) -> UInt64 {
    segment.sizeBytes - garbageBytes(of: segment)
  }
}
