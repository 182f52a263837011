/// Exact nearest-neighbour search over binary codes by Hamming distance.
///
/// Results are in order of distance, and of identifier where distances are equal, so they never depend on
/// the order of insertion. Codes of up to 16 bits are looked up in a table of buckets visited in order of
/// distance; longer ones by multi-index hashing, or by a scan where there are few codes or they cluster.
///
/// A value: a copy is a snapshot, made in constant time, that later changes do not reach. Readers search
/// their snapshot on any thread while one writer changes its own copy; a change copies only the small
/// parts that a snapshot still shares.
public struct HammingIndex<ID: Comparable & Hashable & Sendable>: Sendable {
  /// One result of a search.
  public struct Hit: Sendable, Hashable {
    public let id: ID
    /// The code under which the identifier is stored.
    public let code: UInt64
    /// Number of bits in which it differs from the query.
    public let distance: Int

    public init(id: ID, code: UInt64, distance: Int) {
      self.id = id
      self.code = code
      self.distance = distance
    }
  }

  /// Longest code that a direct table serves.
  private static var directBitCount: Int { 16 }

  /// Length of the codes in bits, from 1 to 64.
  public let bitCount: Int

  private var codeByID = ShardedDictionary<ID, UInt64>()
  // Exactly one of the two exists. An enumeration would say so better, but its payload could not be
  // changed in place.
  private var direct: DirectTable<ID>?
  private var multi: MultiIndex<ID>?

  /// Makes an empty index for codes of a length from 1 to 64 bits.
  public init(bitCount: Int) {
    self.init(bitCount: bitCount, method: .automatic)
  }

  /// Makes an index that searches codes of more than 16 bits in the given way.
  package init(bitCount: Int, method: CodeSearchMethod) {
    precondition((1...64).contains(bitCount), "codes of \(bitCount) bits")
    self.bitCount = bitCount
    if bitCount <= Self.directBitCount {
      direct = DirectTable(bitCount: bitCount)
    } else {
      multi = MultiIndex(bitCount: bitCount, method: method)
    }
  }

  /// Number of identifiers.
  public var count: Int { codeByID.count }

  /// The code of an identifier, if it is in the index.
  public func code(of id: ID) -> UInt64? { codeByID[id] }

  /// Stores an identifier under a code, in place of the one it had before, which is given back.
  @discardableResult
  public mutating func insert(_ id: ID, code: UInt64) throws(HammingIndexError) -> UInt64? {
    try check(code)
    let old = codeByID.set(code, for: id)
    if old == code { return old }
    if let old {
      direct?.remove(id, code: old)
      multi?.remove(id, code: old)
    }
    direct?.insert(id, code: code)
    multi?.insert(id, code: code)
    return old
  }

  /// Removes an identifier and gives the code it had, or nil where it is not in the index.
  @discardableResult
  public mutating func remove(_ id: ID) -> UInt64? {
    guard let code = codeByID.remove(id) else { return nil }
    direct?.remove(id, code: code)
    multi?.remove(id, code: code)
    return code
  }

  /// The k identifiers nearest to a code, or all where there are fewer.
  ///
  /// - Parameters:
  ///   - query: the code to compare with.
  ///   - limit: k; none are found for 0.
  ///   - isIncluded: says which identifiers count, for instance by owner. It is asked about the nearest
  ///     ones first in no particular order, and not about all of them.
  public func nearest(
    to query: UInt64, limit: Int, where isIncluded: ((ID) -> Bool)? = nil
  ) throws(HammingIndexError) -> [Hit] {
    precondition(limit >= 0, "a search for \(limit) identifiers")
    try check(query)
    if limit == 0 || count == 0 { return [] }
    var collector = NearestCollector<ID>(
      limit: min(limit, count), bitCount: bitCount, isIncluded: isIncluded)
    direct?.search(query, collector: &collector)
    multi?.search(query, collector: &collector)
    return collector.finish()
  }

  private func check(_ code: UInt64) throws(HammingIndexError) {
    if bitCount < 64 && code >> UInt64(bitCount) != 0 {
      throw .codeTooLong(code: code, bitCount: bitCount)
    }
  }
}
