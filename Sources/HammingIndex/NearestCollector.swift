/// Gathers the k nearest identifiers from lists that a search offers in any order.
///
/// Order is by distance, then by identifier. ``radius`` only shrinks, and no list further away than it
/// can change the result; a search uses it to stop.
struct NearestCollector<ID: Comparable & Hashable & Sendable> {
  /// Largest distance at which an identifier may still belong to the result.
  private(set) var radius: Int

  private let limit: Int
  private let isIncluded: ((ID) -> Bool)?
  /// Identifiers found so far, by distance.
  private var found: [[(id: ID, code: UInt64)]]
  /// How many were found at each distance up to ``radius``, counting those trimmed away.
  private var counts: [Int]
  private var total = 0

  /// limit: k, at least 1.
  init(limit: Int, bitCount: Int, isIncluded: ((ID) -> Bool)?) {
    precondition(limit > 0, "a search for \(limit) identifiers")
    self.limit = limit
    self.radius = bitCount
    self.isIncluded = isIncluded
    self.found = Array(repeating: [], count: bitCount + 1)
    self.counts = Array(repeating: 0, count: bitCount + 1)
  }

  /// Whether k identifiers lie within ``radius``, so that nothing beyond it matters.
  var isFull: Bool { total >= limit }

  /// The same two facts for a search that knows codes only.
  var bound: CodeSet.Bound { CodeSet.Bound(radius: radius, isFull: isFull) }

  /// Forgets everything found, for a search that begins anew.
  mutating func restart() {
    self = NearestCollector(limit: limit, bitCount: counts.count - 1, isIncluded: isIncluded)
  }

  /// Takes the first k identifiers that the filter accepts of a list at the given distance.
  mutating func offer(_ list: PostingList<ID>, code: UInt64, distance: Int) {
    if distance > radius { return }
    var taken = 0
    list.visit { id in
      if let isIncluded, !isIncluded(id) { return true }
      found[distance].append((id, code))
      taken += 1
      return taken < limit
    }
    counts[distance] += taken
    total += taken
    while total - counts[radius] >= limit {
      total -= counts[radius]
      found[radius].removeAll()
      radius -= 1
    }
    // Many codes at one distance are the rule with short codes; only the smallest k identifiers count.
    if found[distance].count >= 2 * limit + 64 { trim(distance) }
  }

  private mutating func trim(_ distance: Int) {
    found[distance].sort { $0.id < $1.id }
    found[distance].removeLast(found[distance].count - limit)
  }

  /// The result in order.
  mutating func finish() -> [HammingIndex<ID>.Hit] {
    var hits: [HammingIndex<ID>.Hit] = []
    for distance in 0...radius where hits.count < limit {
      found[distance].sort { $0.id < $1.id }
      for (id, code) in found[distance].prefix(limit - hits.count) {
        hits.append(.init(id: id, code: code, distance: distance))
      }
    }
    return hits
  }
}
