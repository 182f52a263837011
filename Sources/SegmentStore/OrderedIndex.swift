import Glibc

/// A map from keys to values kept in the keys' byte order: lookups and changes cost a binary search plus
/// the move of at most one block, and a page of keys is read without sorting anything.
/// Invariant: blocks are non-empty, hold at most `blockLimit` entries, and their keys ascend strictly throughout.
struct OrderedIndex<Value> {
  struct Entry {
    let key: [UInt8]
    var value: Value
  }

  static var blockLimit: Int { 256 }

  private var blocks: [[Entry]] = []
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
      return nil
    }
    if blocks[block].count < Self.blockLimit {
      blocks[block].insert(Entry(key: key, value: value), at: position)
    } else if block == blocks.count - 1 && position == Self.blockLimit {
      // Ascending keys, as a log writes them, fill their blocks instead of leaving halves behind.
      blocks.append([Entry(key: key, value: value)])
    } else {
      let upper = Array(blocks[block][(Self.blockLimit / 2)...])
      blocks[block].removeSubrange((Self.blockLimit / 2)...)
      blocks.insert(upper, at: block + 1)
      let isUpper = position > Self.blockLimit / 2
      blocks[isUpper ? block + 1 : block].insert(
        Entry(key: key, value: value), at: isUpper ? position - Self.blockLimit / 2 : position)
    }
    return nil
  }

  /// Returns what the key had.
  @discardableResult
  mutating func remove(_ key: [UInt8]) -> Value? {
    let (block, position, found) = locate(key)
    guard found else { return nil }
    let value = blocks[block].remove(at: position).value
    if blocks[block].isEmpty { blocks.remove(at: block) }
    count -= 1
    return value
  }

  /// In the keys' order.
  func forEach(_ body: ([UInt8], Value) -> Void) {
    for block in blocks {
      for entry in block { body(entry.key, entry.value) }
    }
  }

  mutating func removeAll(where condition: (Value) -> Bool) {
    for block in blocks.indices { blocks[block].removeAll { condition($0.value) } }
    blocks.removeAll { $0.isEmpty }
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
    var low = 0
    var high = blocks.count
    while low < high {  // the first block whose last key is not below the key
      let middle = (low + high) / 2
      let last = blocks[middle].count - 1
      if isBelow(blocks[middle][last].key, key) { low = middle + 1 } else { high = middle }
    }
    if low == blocks.count {
      return (max(0, low - 1), blocks.last?.count ?? 0, false)
    }
    let block = low
    (low, high) = (0, blocks[block].count)
    while low < high {
      let middle = (low + high) / 2
      if isBelow(blocks[block][middle].key, key) { low = middle + 1 } else { high = middle }
    }
    return (block, low, blocks[block][low].key == key)
  }

  private func isBelow(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    let shared = min(left.count, right.count)
    let order = left.withUnsafeBytes { first in
      right.withUnsafeBytes { second in
        shared == 0 ? 0 : memcmp(first.baseAddress!, second.baseAddress!, shared)
      }
    }
    return order != 0 ? order < 0 : left.count < right.count
  }
}
