/// The open calls of a connection by number: a hash table with linear probing.
///
/// Numbers grow one by one, so their low bits are the hash and neighbours lie side by side.
struct StreamTable {
  private var slots: [Stream?] = []
  private(set) var count = 0

  private var mask: Int { slots.count - 1 }

  subscript(id: UInt32) -> Stream? {
    guard !slots.isEmpty else { return nil }
    var index = Int(id) & mask
    while let stream = slots[index] {
      if stream.id == id { return stream }
      index = (index + 1) & mask
    }
    return nil
  }

  mutating func insert(_ stream: Stream) {
    if 2 * (count + 1) > slots.count { grow() }
    put(stream)
    count += 1
  }

  private mutating func put(_ stream: Stream) {
    var index = Int(stream.id) & mask
    while slots[index] != nil { index = (index + 1) & mask }
    slots[index] = stream
  }

  private mutating func grow() {
    let old = slots
    slots = Array(repeating: nil, count: max(8, 2 * old.count))
    for case let stream? in old { put(stream) }
  }

  @discardableResult
  mutating func remove(_ id: UInt32) -> Stream? {
    guard !slots.isEmpty else { return nil }
    var index = Int(id) & mask
    while let stream = slots[index], stream.id != id { index = (index + 1) & mask }
    guard let removed = slots[index] else { return nil }
    slots[index] = nil
    count -= 1
    // Later ones move up, so that no search ends at the gap.
    var next = (index + 1) & mask
    while let moved = slots[next] {
      let home = Int(moved.id) & mask
      if (next - home) & mask >= (next - index) & mask {
        slots[index] = moved
        slots[next] = nil
        index = next
      }
      next = (next + 1) & mask
    }
    return removed
  }

  /// All of them, in no order.
  var all: [Stream] { slots.compactMap { $0 } }

  mutating func removeAll() -> [Stream] {
    let streams = all
    slots = []
    count = 0
    return streams
  }
}
