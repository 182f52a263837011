/// Codes of at most 16 bits: one bucket a code, visited in order of distance.
struct DirectTable<ID: Comparable & Hashable & Sendable>: Sendable {
  private let bitCount: Int
  private let masks: MaskTable
  private var buckets: BucketTable<PostingList<ID>>

  init(bitCount: Int) {
    self.bitCount = bitCount
    self.masks = MaskTable(width: bitCount)
    self.buckets = BucketTable(width: bitCount)
  }

  mutating func insert(_ id: ID, code: UInt64) {
    buckets.modify(Int(code)) { list in
      if list == nil { list = PostingList(id) } else { list?.insert(id) }
    }
  }

  mutating func remove(_ id: ID, code: UInt64) {
    buckets.modify(Int(code)) { list in
      if list?.count == 1 { list = nil } else { list?.remove(id) }
    }
  }

  /// Finishes the whole radius in which the last hit falls, because a smaller identifier may come late.
  func search(_ query: UInt64, collector: inout NearestCollector<ID>) {
    var distance = 0
    while distance <= collector.radius {
      for mask in masks.masks(radius: distance) {
        let code = query ^ UInt64(mask)
        if let list = buckets[Int(code)] {
          collector.offer(list, code: code, distance: distance)
        }
      }
      if collector.isFull { return }
      distance += 1
    }
  }
}
