import CISAL

/// Computes shards of a (r, s) group from r others.
struct ShardTransform {
  private let dataShardCount: Int
  private let wantedCount: Int
  private let tables: [UInt8]

  /// Shards are counted from 0, one less than the index of their shadow; `available` are r
  /// different ones.
  init(available: [Int], wanted: [Int]) {
    dataShardCount = available.count
    wantedCount = wanted.count
    var coefficients = [UInt8](repeating: 0, count: available.count * wanted.count)
    let regular = sfm_rs_coefficients(
      available.count, available.map { UInt8($0) }, wanted.count, wanted.map { UInt8($0) },
      &coefficients)
    precondition(regular == 1, "shards \(available) are not \(available.count) different ones")
    var tables = [UInt8](repeating: 0, count: coefficients.count * Int(SFM_RS_TABLE_BYTES))
    if wantedCount > 0 { sfm_rs_prepare(available.count, wanted.count, coefficients, &tables) }
    self.tables = tables
  }

  /// `sources` are in the order of `available`, `destinations` in that of `wanted`.
  func apply(
    _ sources: [UnsafePointer<UInt8>], _ destinations: [UnsafeMutablePointer<UInt8>],
    byteCount: Int
  ) {
    precondition(sources.count == dataShardCount && destinations.count == wantedCount)
    if wantedCount == 0 { return }
    sfm_rs_apply(dataShardCount, wantedCount, tables, byteCount, sources, destinations)
  }
}
