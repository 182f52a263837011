/// The share of the key is interpolated, the shard encoded; neither the key nor the secret is known in between.
struct KrawczykRepairEngine: RepairEngine {
  private let lost: Int
  private let indices: [Int]
  private let transform: ShardTransform

  init(lost: Int, indices: [Int]) {
    self.lost = lost
    self.indices = indices
    transform = ShardTransform(available: indices.map { $0 - 1 }, wanted: [lost - 1])
  }

  func repair(
    _ range: Range<Int>, from sources: [UnsafePointer<UInt8>],
    into target: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    var done = 0
    if range.lowerBound == 0 {
      done = KrawczykLayout.keyByteCount
      let share = KeySharing.value(
        at: UInt8(lost), indices: indices,
        shares: sources.map { Array(UnsafeBufferPointer(start: $0, count: done)) })
      target.update(from: share, count: done)
    }
    transform.apply(sources.map { $0 + done }, [target + done], byteCount: range.count - done)
    return true
  }
}
