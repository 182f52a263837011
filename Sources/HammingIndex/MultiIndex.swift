/// Codes of more than 16 bits: the set of distinct codes, and the identifiers of each.
struct MultiIndex<ID: Comparable & Hashable & Sendable>: Sendable {
  /// The identifiers of one code, and the slot that the code has in ``codes``.
  private struct Posting: Sendable {
    var slot: Int
    var list: PostingList<ID>
  }

  private var codes: CodeSet
  private var postings = ShardedDictionary<UInt64, Posting>()

  init(bitCount: Int, method: CodeSearchMethod) {
    codes = CodeSet(bitCount: bitCount, method: method)
  }

  mutating func insert(_ id: ID, code: UInt64) {
    if postings.modify(code, { $0.list.insert(id) }) { return }
    postings.set(Posting(slot: codes.insert(code), list: PostingList(id)), for: code)
  }

  mutating func remove(_ id: ID, code: UInt64) {
    var emptySlot: Int?
    let exists = postings.modify(code) { posting in
      if posting.list.count == 1 { emptySlot = posting.slot } else { posting.list.remove(id) }
    }
    precondition(exists, "no identifier has the code \(code)")
    guard let emptySlot else { return }
    postings.remove(code)
    if let moved = codes.remove(code, slot: emptySlot) {
      _ = postings.modify(moved) { $0.slot = emptySlot }
    }
  }

  func search(_ query: UInt64, collector: inout NearestCollector<ID>) {
    codes.search(query, bound: collector.bound) {
      collector.restart()
      return collector.bound
    } visitor: { code, distance in
      guard let posting = postings[code] else {
        preconditionFailure("the code \(code) is indexed and has no identifiers")
      }
      collector.offer(posting.list, code: code, distance: distance)
      return collector.bound
    }
  }
}
