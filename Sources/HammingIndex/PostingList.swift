/// The identifiers that share one code, in ascending order; never empty.
///
/// Kept in order, because hash codes cluster: a quarter of all images may share a code, and the smallest
/// k of them are then the first k here. The order is kept in leaves of bounded size, so that an insertion
/// moves, and a copy-on-write copies, one leaf and not the whole list. A single identifier, the usual
/// case of long codes, costs no allocation.
struct PostingList<ID: Comparable & Hashable & Sendable>: Sendable {
  /// A full leaf splits in halves.
  static var maximumLeafCount: Int { 512 }

  /// The smallest identifier.
  private(set) var first: ID
  /// All others in ascending order; no leaf is empty.
  private var leaves: [[ID]] = []
  private(set) var count = 1

  init(_ id: ID) { first = id }

  /// Adds an identifier that is not in the list.
  mutating func insert(_ id: ID) {
    var id = id
    if id < first { swap(&id, &first) }
    count += 1
    guard !leaves.isEmpty else {
      leaves.append([id])
      return
    }
    let leaf = leafIndex(for: id)
    leaves[leaf].insert(id, at: Self.position(of: id, in: leaves[leaf]))
    if leaves[leaf].count > Self.maximumLeafCount {
      let half = leaves[leaf].count / 2
      let upper = Array(leaves[leaf][half...])
      leaves[leaf].removeSubrange(half...)
      leaves.insert(upper, at: leaf + 1)
    }
  }

  /// Removes an identifier that is in the list; the last one cannot be removed.
  mutating func remove(_ id: ID) {
    precondition(count > 1, "the last identifier of a list goes with the list")
    count -= 1
    if id == first {
      first = leaves[0].removeFirst()
      if leaves[0].isEmpty { leaves.removeFirst() }
      return
    }
    let leaf = leafIndex(for: id)
    let position = Self.position(of: id, in: leaves[leaf])
    precondition(
      position < leaves[leaf].count && leaves[leaf][position] == id, "\(id) is not in the list")
    leaves[leaf].remove(at: position)
    if leaves[leaf].isEmpty { leaves.remove(at: leaf) }
  }

  /// Visits the identifiers in ascending order until `body` answers false.
  func visit(while body: (ID) -> Bool) {
    if !body(first) { return }
    for leaf in leaves {
      for id in leaf where !body(id) { return }
    }
  }

  /// The leaf that holds `id`, or that must take it: the last one that does not begin after it.
  private func leafIndex(for id: ID) -> Int {
    var (low, high) = (0, leaves.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if id < leaves[middle][0] { high = middle } else { low = middle }
    }
    return low
  }

  /// Number of the leaf's identifiers that are smaller than `id`.
  private static func position(of id: ID, in leaf: [ID]) -> Int {
    var (low, high) = (0, leaf.count)
    while low < high {
      let middle = (low + high) / 2
      if leaf[middle] < id { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
