/// How codes are found. All ways give the same result; tests ask for each.
package enum CodeSearchMethod: Sendable, CaseIterable {
  /// Tables as long as they are cheaper than a scan.
  case automatic
  case tablesOnly
  case scanOnly
}

/// A set of distinct codes of more than 16 bits, searched by multi-index hashing (Norouzi, Punjani and
/// Fleet, 2014) or by a linear scan, whichever is cheaper.
///
/// A code is cut into m substrings of at most 16 bits, and stands in one table for each. If two codes
/// differ in at most m a + j bits, then one of their substrings 0 to j differs in at most a bits or one of
/// the others in at most a - 1; so the tables are visited with growing a, and the search may stop as soon
/// as that bound reaches the distance of the k-th hit.
///
/// What a code stands for is not known here, so that these loops exist once, in machine code made for them.
struct CodeSet: Sendable {
  /// How far a search must still look.
  struct Bound {
    /// Codes further away than this do not matter any more.
    var radius: Int
    /// Whether all that was asked for has been found within ``radius``.
    var isFull: Bool
  }

  /// Takes a code that may belong to the result and gives the bound to go on with.
  typealias Visitor = (_ code: UInt64, _ distance: Int) -> Bound

  /// What visiting a bucket and comparing one of its codes cost, counted in codes of a scan. A bucket is a
  /// miss in every cache, a scan is one stream through memory: measured on a million codes.
  private static var bucketCost: Int { 1500 }
  private static var candidateCost: Int { 8 }

  private struct Substring: Sendable {
    let shift: UInt64
    let width: Int
    func key(of code: UInt64) -> Int { Int(code >> shift & (1 << UInt64(width) - 1)) }
  }

  private let method: CodeSearchMethod
  private let substrings: [Substring]
  private let masks: [MaskTable]
  /// Every code once, by each of its substrings.
  private var tables: [BucketTable<[UInt64]>]
  /// Every code once.
  private var codes = CodeArray()

  init(bitCount: Int, method: CodeSearchMethod) {
    self.method = method
    let count = (bitCount + 15) / 16
    var substrings: [Substring] = []
    var shift = 0
    for index in 0..<count {
      let width = bitCount / count + (index < bitCount % count ? 1 : 0)
      substrings.append(Substring(shift: UInt64(shift), width: width))
      shift += width
    }
    self.substrings = substrings
    self.masks = substrings.map { MaskTable(width: $0.width) }
    self.tables = substrings.map { BucketTable(width: $0.width) }
  }

  /// Adds a code that is not in the set, and gives the slot it has until it is moved.
  mutating func insert(_ code: UInt64) -> Int {
    for index in substrings.indices {
      tables[index].modify(substrings[index].key(of: code)) { bucket in
        if bucket == nil { bucket = [code] } else { bucket?.append(code) }
      }
    }
    return codes.append(code)
  }

  /// Removes a code that has the given slot. Another code may move into the slot; it is given back.
  mutating func remove(_ code: UInt64, slot: Int) -> UInt64? {
    for index in substrings.indices {
      tables[index].modify(substrings[index].key(of: code)) { bucket in
        if bucket?.count == 1 { bucket = nil } else { bucket?.removeAll { $0 == code } }
      }
    }
    return codes.remove(slot: slot)
  }

  /// Shows all codes within a bound that `visitor` narrows, each once, in no particular order.
  ///
  /// `restart` is called at most once, where the search begins anew because the tables proved dearer than
  /// a scan; it must forget what the visitor was shown and give the first bound again.
  func search(_ query: UInt64, bound: Bound, restart: () -> Bound, visitor: Visitor) {
    let budget: Int
    switch method {
    case .automatic: budget = codes.count / 2
    case .tablesOnly: budget = .max
    case .scanOnly: budget = 0
    }
    if searchTables(query, bound: bound, budget: budget, visitor: visitor) { return }
    codes.scan(query, radius: restart().radius) { visitor($0, $1).radius }
  }

  /// Answers false where the tables cost more than the budget, because the codes are few, or cluster, or
  /// the nearest ones are far; the visitor has then been shown some of the codes.
  private func searchTables(
    _ query: UInt64, bound: Bound, budget: Int, visitor: Visitor
  ) -> Bool {
    var bound = bound
    var budget = budget
    for radius in 0...16 {
      for table in substrings.indices where radius <= substrings[table].width {
        let key = substrings[table].key(of: query)
        for mask in masks[table].masks(radius: radius) {
          budget -= 1
          if budget < 0 { return false }
          guard let bucket = tables[table][key ^ Int(mask)] else { continue }
          budget -= Self.bucketCost + Self.candidateCost * bucket.count
          if budget < 0 { return false }
          for code in bucket {
            let difference = code ^ query
            let distance = difference.nonzeroBitCount
            if distance <= bound.radius, isFirstVisit(difference, table: table, radius: radius) {
              bound = visitor(code, distance)
            }
          }
        }
        // All codes up to this distance have been seen.
        let complete = substrings.count * radius + table
        if bound.isFull && bound.radius <= complete { return true }
      }
    }
    return true
  }

  /// Whether no bucket visited earlier held the code. It follows from the code alone, so a search keeps no
  /// marks and any number of searches may run on one snapshot.
  private func isFirstVisit(_ difference: UInt64, table: Int, radius: Int) -> Bool {
    for index in substrings.indices where index != table {
      let other = substrings[index].key(of: difference).nonzeroBitCount
      if other < radius || (other == radius && index < table) { return false }
    }
    return true
  }
}
