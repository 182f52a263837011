/// A dictionary in many small parts.
///
/// A writer that changes one entry while a reader holds a snapshot copies one part, not everything.
struct ShardedDictionary<Key: Hashable & Sendable, Value: Sendable>: Sendable {
  private static var shardCount: Int { 1024 }

  private var shards: [[Key: Value]] = Array(repeating: [:], count: shardCount)
  private(set) var count = 0

  private static func shard(of key: Key) -> Int {
    Int(truncatingIfNeeded: UInt(bitPattern: key.hashValue) % UInt(shardCount))
  }

  subscript(key: Key) -> Value? { shards[Self.shard(of: key)][key] }

  /// Sets a value and gives the one it replaces.
  @discardableResult
  mutating func set(_ value: Value, for key: Key) -> Value? {
    let old = shards[Self.shard(of: key)].updateValue(value, forKey: key)
    if old == nil { count += 1 }
    return old
  }

  @discardableResult
  mutating func remove(_ key: Key) -> Value? {
    let old = shards[Self.shard(of: key)].removeValue(forKey: key)
    if old != nil { count -= 1 }
    return old
  }

  /// Changes a value that exists, in place; answers false where it does not exist.
  mutating func modify(_ key: Key, _ body: (inout Value) -> Void) -> Bool {
    let shard = Self.shard(of: key)
    guard let index = shards[shard].index(forKey: key) else { return false }
    body(&shards[shard].values[index])
    return true
  }
}
