/// The entries from a base on, in memory. What is on disk may lag behind it.
struct EntryLog: Sendable {
  private(set) var base: LogBase
  private var entries: [Entry] = []
  /// Bytes of all entries up to and including each, counted from the beginning of this object.
  private var endBytes: [UInt64] = []
  /// What stands in front of the base in both arrays, not yet let go of.
  private var dead = 0
  private var baseBytes: UInt64 = 0
  /// Latest last: memberships in the log, with their indices.
  private var memberships: [(index: Index, membership: Membership)] = []

  init(base: LogBase, entries: [Entry] = []) {
    self.base = base
    append(entries)
  }

  var firstIndex: Index { base.position.index + 1 }
  var lastIndex: Index { base.position.index + UInt64(entries.count - dead) }
  var last: Position { Position(term: term(at: lastIndex)!, index: lastIndex) }
  /// Of all entries behind the base.
  var sizeBytes: UInt64 { (endBytes.last ?? baseBytes) - baseBytes }

  /// The latest in the log, committed or not (Raft's dissertation, section 4.1), and where it stands.
  var latestMembership: (index: Index, membership: Membership) {
    memberships.last ?? (base.position.index, base.membership)
  }

  /// Nil for what lies before the base or behind the end.
  func term(at index: Index) -> Term? {
    if index == base.position.index { return base.position.term }
    return entry(at: index)?.term
  }

  func entry(at index: Index) -> Entry? {
    guard index >= firstIndex, index <= lastIndex else { return nil }
    return entries[offset(index)]
  }

  private func offset(_ index: Index) -> Int { dead + Int(index - firstIndex) }

  /// Bytes behind the base up to and including an entry.
  func bytes(through index: Index) -> UInt64 {
    index < firstIndex ? 0 : endBytes[offset(min(index, lastIndex))] - baseBytes
  }

  mutating func append(_ new: [Entry]) {
    for entry in new {
      precondition(
        entry.term >= last.term, "an entry of term \(entry.term) behind \(last)")
      entries.append(entry)
      endBytes.append((endBytes.last ?? baseBytes) + entry.payload.sizeBytes)
      if case .membership(let membership) = entry.payload {
        memberships.append((lastIndex, membership))
      }
    }
  }

  /// A base for whoever holds the state as of an entry of this log.
  func base(at index: Index) -> LogBase? {
    guard let term = term(at: index) else { return nil }
    let latest = memberships.last { $0.index <= index }?.membership ?? base.membership
    return LogBase(position: Position(term: term, index: index), membership: latest)
  }

  /// Removes the entry at `index` and all behind it.
  mutating func truncate(from index: Index) {
    precondition(index >= firstIndex, "cut at \(index), the log begins at \(firstIndex)")
    guard index <= lastIndex else { return }
    let count = offset(index)
    entries.removeLast(entries.count - count)
    endBytes.removeLast(endBytes.count - count)
    memberships.removeAll { $0.index >= index }
  }

  /// Entries from `index` on, up to about so many bytes and at least one, if there is any.
  func slice(from index: Index, maximumBytes: UInt64) -> [Entry] {
    guard index >= firstIndex, index <= lastIndex else { return [] }
    let start = offset(index)
    let limit = (start == 0 ? baseBytes : endBytes[start - 1]) + maximumBytes
    // The first that ends beyond the limit.
    var (low, high) = (start, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if endBytes[middle] <= limit { low = middle + 1 } else { high = middle }
    }
    return Array(entries[start..<max(low, start + 1)])
  }

  func entries(from first: Index, through last: Index) -> [Entry] {
    guard first >= firstIndex, first <= last, last <= lastIndex else { return [] }
    return Array(entries[offset(first)...offset(last)])
  }

  /// Moves the base up to an entry that is in the log.
  mutating func compact(through index: Index) {
    guard index > base.position.index else { return }
    precondition(index <= lastIndex, "compaction through \(index), the log ends at \(lastIndex)")
    let new = base(at: index)!
    memberships.removeAll { $0.index <= index }
    baseBytes = endBytes[offset(index)]
    dead += Int(index - base.position.index)
    base = new
    // Moving the rest each time would make many small compactions quadratic.
    if dead > entries.count / 2 {
      entries.removeFirst(dead)
      endBytes.removeFirst(dead)
      dead = 0
    }
  }

  /// Nothing but a base: what stood here is in a snapshot that came from elsewhere.
  mutating func reset(to base: LogBase) {
    self = EntryLog(base: base)
  }
}
