import Base
import CKernels

/// One join: r verified bodies of the right length, and the secret to be written.
///
/// Cores write different blocks of the secret, so the pointers may be shared among them.
struct BaiJoin: @unchecked Sendable {
  let layout: BaiLayout
  /// One less than the index of each body's shadow.
  let shards: [Int]
  let bodies: [UnsafePointer<UInt8>]
  let imageID: ImageID
  let secret: UnsafeMutableRawBufferPointer

  /// False where the shadows contradict each other.
  func run(coreCount: Int) -> Bool {
    let head = BaiJoinWorker(join: self)
    guard let mask = head.mask() else { return false }
    let parts = divide(0..<layout.blockCount, coreCount: coreCount)
    let workers = [head] + parts.dropFirst().map { _ in BaiJoinWorker(join: self) }
    onCores(parts.count) { workers[$0].run(parts[$0], mask: mask) }
    return workers.allSatisfy { !$0.contradictory }
  }

  func shardStart(_ position: Int) -> UnsafePointer<UInt8> {
    bodies[position] + layout.vectorByteCount
  }
}

/// The part of a join that one core does; used by one core at a time.
final class BaiJoinWorker: @unchecked Sendable {
  private let join: BaiJoin
  private let workspace = BaiWorkspace()
  /// How a data shard that is not among the bodies follows from them.
  private let recoveries: [Int: ShardTransform]
  private let bodyOfShard: [Int: Int]
  private(set) var contradictory = false

  init(join: BaiJoin) {
    self.join = join
    bodyOfShard = Dictionary(
      uniqueKeysWithValues: join.shards.enumerated().map { ($1, $0) })
    let missing = (0..<join.layout.threshold).filter { !join.shards.contains($0) }
    recoveries = Dictionary(
      uniqueKeysWithValues: missing.map {
        ($0, ShardTransform(available: join.shards, wanted: [$0]))
      })
  }

  deinit { workspace.release() }

  /// The mask that follows from the first blocks; nil where their vectors span no space.
  func mask() -> RemainderMask? {
    var hasher = SHA256Hasher()
    let count = min(join.layout.blockCount, BaiLayout.keyedBlockCount)
    for start in stride(from: 0, to: count, by: Int(FIELD65537_LANES)) {
      let lanes = min(Int(FIELD65537_LANES), count - start)
      guard project(start, lanes) else { return nil }
      for lane in 0..<lanes { workspace.withTriangle(ofLane: lane) { hasher.update($0) } }
    }
    var digest = hasher.finalize()
    defer { zero(&digest) }
    return RemainderMask(projectionDigest: digest, imageID: join.imageID)
  }

  func run(_ blocks: Range<Int>, mask: RemainderMask) {
    for batch in batches(of: blocks) where !contradictory {
      let remainders = UnsafeMutableRawBufferPointer(
        rebasing: workspace.remainders[..<(batch.count * BaiLayout.blockBytes)])
      let offset = batch.lowerBound * BaiLayout.blockBytes
      fetch(remainders, at: offset)
      mask.apply(remainders, at: offset)
      rebuild(batch, remainders)
    }
  }

  /// Gathers masked remainders from the data shards, decoding where a shard is missing.
  private func fetch(_ target: UnsafeMutableRawBufferPointer, at offset: Int) {
    for piece in join.layout.pieces(of: offset..<offset + target.count) {
      let destination = target.baseAddress! + piece.start
      if let position = bodyOfShard[piece.shard] {
        destination.copyMemory(
          from: join.shardStart(position) + piece.offsetInShard, byteCount: piece.byteCount)
      } else if let recovery = recoveries[piece.shard] {
        recovery.apply(
          join.bodies.indices.map { join.shardStart($0) + piece.offsetInShard },
          [destination.assumingMemoryBound(to: UInt8.self)], byteCount: piece.byteCount)
      }
    }
  }

  /// Adds projections to open remainders, which gives the blocks of the secret.
  private func rebuild(_ batch: Range<Int>, _ remainders: UnsafeMutableRawBufferPointer) {
    let start = batch.lowerBound * BaiLayout.blockBytes
    let end = batch.upperBound * BaiLayout.blockBytes
    let whole = end <= join.secret.count
    let target =
      whole
      ? (join.secret.baseAddress! + start).assumingMemoryBound(to: UInt8.self)
      : workspace.tail.baseAddress!.assumingMemoryBound(to: UInt8.self)
    let source = remainders.baseAddress!.assumingMemoryBound(to: UInt8.self)
    for block in stride(from: batch.lowerBound, to: batch.upperBound, by: Int(FIELD65537_LANES)) {
      let lanes = min(Int(FIELD65537_LANES), batch.upperBound - block)
      let at = (block - batch.lowerBound) * BaiLayout.blockBytes
      guard project(block, lanes),
        field65537_add(workspace.lanes, lanes, source + at, target + at) == 0
      else {
        contradictory = true
        return
      }
    }
    if !whole, start < join.secret.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: join.secret[start...])
      rest.copyMemory(from: UnsafeRawBufferPointer(rebasing: workspace.tail[..<rest.count]))
    }
  }

  /// Puts the projections of consecutive blocks into the workspace.
  ///
  /// False where r vectors are dependent or a trace differs from r, as the paper's Algorithm 3
  /// asks: neither happens to what a split made, and neither finds an altered vector.
  private func project(_ block: Int, _ laneCount: Int) -> Bool {
    let rank = join.layout.threshold
    let vectors = join.bodies.map { $0 + block * BaiLayout.vectorBytesPerBlock }
    field65537_load(workspace.lanes, rank, laneCount, vectors)
    return field65537_project(workspace.lanes, rank, laneCount) == 0
      && field65537_wrong_traces(workspace.lanes, rank, laneCount) == 0
  }
}
