import Glibc

/// A map from keys to values kept in the keys' byte order: lookups and changes cost a binary search plus
/// the move of at most one block, and a page of keys is read without sorting anything.
/// Invariant: blocks are non-empty, hold at most `blockLimit` entries, and their keys ascend strictly throughout;
/// `lastPrefixes` has that of each block's last key.
struct OrderedIndex<Value> {
  struct Entry {
    let key: [UInt8]
    /// Of the key: nearly every comparison ends here, without a look at the key's own memory.
    let prefix: UInt64
    var value: Value

    init(key: [UInt8], value: Value) {
      self.key = key
      self.value = value
      prefix = OrderedIndex.prefix(of: key)
    }
  }

  static var blockLimit: Int { 256 }

  private var blocks: [[Entry]] = []
  private var lastPrefixes: [UInt64] = []
  private(set) var count = 0

  subscript(key: [UInt8]) -> Value? {
    let (block, position, found) = locate(key)
    return found ? blocks[block][position].value : nil
  }

  /// Returns what the key had before.
  @discardableResult
  mutating func set(_ key: [UInt8], to value: Value) -> Value? {
    let (block, position, found) = locate(key)
    if found {
      let previous = blocks[block][position].value
      blocks[block][position].value = value
      return previous
    }
    count += 1
    if blocks.isEmpty {
      blocks.append([Entry(key: key, value: value)])
      lastPrefixes.append(Self.prefix(of: key))
      return nil
    }
    defer { noteLast(of: block) }
    if blocks[block].count < Self.blockLimit {
      blocks[block].insert(Entry(key: key, value: value), at: position)
    } else if block == blocks.count - 1 && position == Self.blockLimit {
      // Ascending keys, as a log writes them, fill their blocks instead of leaving halves behind.
      blocks.append([Entry(key: key, value: value)])
      lastPrefixes.append(Self.prefix(of: key))
    } else {
      let upper = Array(blocks[block][(Self.blockLimit / 2)...])
      blocks[block].removeSubrange((Self.blockLimit / 2)...)
      blocks.insert(upper, at: block + 1)
      lastPrefixes.insert(upper[upper.count - 1].prefix, at: block + 1)
      let isUpper = position > Self.blockLimit / 2
      blocks[isUpper ? block + 1 : block].insert(
        Entry(key: key, value: value), at: isUpper ? position - Self.blockLimit / 2 : position)
      noteLast(of: block + 1)
    }
    return nil
  }

  /// Returns what the key had.
  @discardableResult
  mutating func remove(_ key: [UInt8]) -> Value? {
    let (block, position, found) = locate(key)
    guard found else { return nil }
    let value = blocks[block].remove(at: position).value
    if blocks[block].isEmpty {
      blocks.remove(at: block)
      lastPrefixes.remove(at: block)
    } else {
      noteLast(of: block)
    }
    count -= 1
    return value
  }

  private mutating func noteLast(of block: Int) {
    lastPrefixes[block] = blocks[block][blocks[block].count - 1].prefix
  }

  /// In the keys' order.
  func visit(_ body: ([UInt8], Value) -> Void) {
    for block in blocks {
      for entry in block { body(entry.key, entry.value) }
    }
  }

  mutating func removeAll(where condition: (Value) -> Bool) {
    for block in blocks.indices { blocks[block].removeAll { condition($0.value) } }
    blocks.removeAll { $0.isEmpty }
    lastPrefixes = blocks.map { $0[$0.count - 1].prefix }
    count = blocks.reduce(0) { $0 + $1.count }
  }

  /// The first `limit` keys greater than `key` (all keys where it is nil), ascending.
  func keys(after key: [UInt8]?, limit: Int) -> [[UInt8]] {
    var block = 0
    var position = 0
    if let key {
      let place = locate(key)
      block = place.block
      position = place.found ? place.position + 1 : place.position
    }
    var result: [[UInt8]] = []
    while block < blocks.count && result.count < limit {
      let entries = blocks[block][position...].prefix(limit - result.count)
      result.append(contentsOf: entries.map(\.key))
      block += 1
      position = 0
    }
    return result
  }

  /// The block and position of the key, or where it would be inserted.
  private func locate(_ key: [UInt8]) -> (block: Int, position: Int, found: Bool) {
    let prefix = Self.prefix(of: key)
    var low = 0
    var high = blocks.count
    while low < high {  // the first block whose last key is not below the key
      let middle = (low + high) / 2
      let isBelow =
        lastPrefixes[middle] != prefix
        ? lastPrefixes[middle] < prefix
        : Self.isBelow(blocks[middle][blocks[middle].count - 1].key, key)
      if isBelow { low = middle + 1 } else { high = middle }
    }
    if low == blocks.count {
      return (max(0, low - 1), blocks.last?.count ?? 0, false)
    }
    let block = low
    let (position, found) = blocks[block].withUnsafeBufferPointer { entries in
      var (low, high) = (0, entries.count)
      while low < high {
        let middle = (low + high) / 2
        let isBelow =
          entries[middle].prefix != prefix
          ? entries[middle].prefix < prefix : Self.isBelow(entries[middle].key, key)
        if isBelow { low = middle + 1 } else { high = middle }
      }
      return (low, entries[low].prefix == prefix && entries[low].key == key)
    }
    return (block, position, found)
  }

  /// The first eight bytes, zeros behind a shorter key. Where those of two keys differ, they order the keys.
  private static func prefix(of key: [UInt8]) -> UInt64 {
    if key.count >= 8 {
      return key.withUnsafeBytes { UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)) }
    }
    var prefix: UInt64 = 0
    for position in 0..<8 {
      prefix = prefix << 8 | UInt64(position < key.count ? key[position] : 0)
    }
    return prefix
  }

  private static func isBelow(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    let shared = min(left.count, right.count)
    let order = left.withUnsafeBytes { first in
      right.withUnsafeBytes { second in
        shared == 0 ? 0 : memcmp(first.baseAddress!, second.baseAddress!, shared)
      }
    }
    return order != 0 ? order < 0 : left.count < right.count
  }
}
