/// Which segments of a folder a compaction put into earlier ones: their files are gone, or what an interruption left.
struct SegmentCoverage {
  private let ranges: [Range<UInt64>]

  /// - Parameters:
  ///   - segments: in the order of their identifiers; nil for a header that is damaged.
  ///   - last: the segment that is written to, which none covers.
  init(
    _ segments: [(identifier: UInt64, header: SegmentHeader?)], store: StoreIdentifier, last: UInt64
  ) {
    ranges = segments.compactMap { segment in
      guard let header = segment.header, header.store == store,
        header.segmentIdentifier == segment.identifier, header.coversThrough < last
      else { return nil }
      return segment.identifier + 1..<header.coversThrough + 1
    }
  }

  func contains(_ identifier: UInt64) -> Bool { ranges.contains { $0.contains(identifier) } }

  /// Identifiers from the first on that are neither there nor covered, up to the highest that is there.
  func missing(from first: UInt64, among identifiers: [UInt64]) -> [ClosedRange<UInt64>] {
    var missing: [ClosedRange<UInt64>] = []
    var expected = first
    for identifier in identifiers where identifier >= expected {
      if identifier > expected { missing.append(expected...(identifier - 1)) }
      expected = identifier + 1
      if let range = ranges.first(where: { $0.lowerBound == expected }) {
        expected = range.upperBound
      }
    }
    return missing
  }
}
