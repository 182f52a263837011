import Base
import CKernels

/// One split: the secret, and the bodies of all shadows to be written.
///
/// Cores write different blocks of the bodies, so the pointers may be shared among them.
struct BaiSplit: @unchecked Sendable {
  let layout: BaiLayout
  let secret: UnsafeRawBufferPointer
  let bodies: [UnsafeMutablePointer<UInt8>]
  let imageID: ImageID

  func run<Source: MatrixByteSource>(coreCount: Int, makeSource: () -> Source) {
    // The mask follows from the first batch, so that one comes first and alone.
    let headEnd = min(layout.blockCount, BaiWorkspace.batchBlockCount)
    let head = BaiSplitWorker(split: self, source: makeSource())
    let mask = head.runHead(0..<headEnd)
    let rest = divide(headEnd..<layout.blockCount, coreCount: coreCount)
    let workers =
      [head]
      + rest.dropFirst().map { _ in
        BaiSplitWorker(split: self, source: makeSource())
      }
    onCores(rest.count) { workers[$0].run(rest[$0], mask: mask) }
    padShards()
    encodeShards(coreCount: coreCount)
  }

  /// Start of the shard in the body of shadow `shard + 1`.
  private func shardStart(_ shard: Int) -> UnsafeMutablePointer<UInt8> {
    bodies[shard] + layout.vectorByteCount
  }

  /// Copies masked remainders to the data shards that hold them.
  func store(_ remainders: UnsafeMutableRawBufferPointer, at offset: Int) {
    for piece in layout.pieces(of: offset..<offset + remainders.count) {
      UnsafeMutableRawPointer(shardStart(piece.shard) + piece.offsetInShard).copyMemory(
        from: remainders.baseAddress! + piece.start, byteCount: piece.byteCount)
    }
  }

  private func padShards() {
    let end = layout.threshold * layout.shardByteCount
    for piece in layout.pieces(of: layout.remainderByteCount..<end) {
      (shardStart(piece.shard) + piece.offsetInShard).update(
        repeating: 0, count: piece.byteCount)
    }
  }

  /// Computes shards r and above from the data shards.
  private func encodeShards(coreCount: Int) {
    let data = Array(0..<layout.threshold)
    let parity = Array(layout.threshold..<bodies.count)
    let transform = ShardTransform(available: data, wanted: parity)
    let share =
      coreCount == 1
      ? layout.shardByteCount : max(1 << 16, (layout.shardByteCount + coreCount - 1) / coreCount)
    let starts = Array(stride(from: 0, to: layout.shardByteCount, by: share))
    onCores(starts.count) { part in
      let start = starts[part]
      transform.apply(
        data.map { UnsafePointer(shardStart($0) + start) }, parity.map { shardStart($0) + start },
        byteCount: min(share, layout.shardByteCount - start))
    }
  }
}

/// The part of a split that one core does; used by one core at a time.
final class BaiSplitWorker<Source: MatrixByteSource>: @unchecked Sendable {
  private let split: BaiSplit
  private let workspace = BaiWorkspace()
  private var stream: MatrixStream<Source>

  init(split: BaiSplit, source: Source) {
    self.split = split
    stream = MatrixStream(source: source)
  }

  deinit {
    workspace.release()
    stream.release()
  }

  /// Does the first batch and returns the mask that follows from it.
  func runHead(_ batch: Range<Int>) -> RemainderMask {
    var hasher = SHA256Hasher()
    let remainders = project(batch) { block, lane in
      guard block < BaiLayout.keyedBlockCount else { return }
      workspace.withTriangle(ofLane: lane) { hasher.update($0) }
    }
    var digest = hasher.finalize()
    let mask = RemainderMask(projectionDigest: digest, imageID: split.imageID)
    zero(&digest)
    finish(batch, remainders, mask)
    return mask
  }

  func run(_ blocks: Range<Int>, mask: RemainderMask) {
    for batch in batches(of: blocks) { finish(batch, project(batch) { _, _ in }, mask) }
  }

  private func finish(
    _ batch: Range<Int>, _ remainders: UnsafeMutableRawBufferPointer, _ mask: RemainderMask
  ) {
    let offset = batch.lowerBound * BaiLayout.blockBytes
    mask.apply(remainders, at: offset)
    split.store(remainders, at: offset)
  }

  /// Writes the share vectors of a batch to the bodies and returns its remainders, still open.
  ///
  /// `accepted` is called once for each block, in order, while its projection is in the workspace.
  private func project(
    _ batch: Range<Int>, accepted: (_ block: Int, _ lane: Int) -> Void
  ) -> UnsafeMutableRawBufferPointer {
    let secret = secretBytes(of: batch)
    let lanes = workspace.lanes
    let rank = split.layout.threshold
    let remainders = workspace.remainders.baseAddress!.assumingMemoryBound(to: UInt8.self)
    var block = batch.lowerBound
    while block < batch.upperBound {
      let limit = min(Int(FIELD65537_LANES), batch.upperBound - block)
      let drawn = stream.draw(into: lanes, rank: rank, limit: limit)
      let start = (block - batch.lowerBound) * BaiLayout.blockBytes
      var refused = field65537_project(lanes, rank, drawn)
      refused |= field65537_subtract(lanes, drawn, secret + start, remainders + start)
      for (shadow, body) in split.bodies.enumerated() {
        refused |= field65537_share(
          lanes, rank, drawn, UInt32(shadow + 1), body + block * BaiLayout.vectorBytesPerBlock)
      }
      // Blocks behind a refused one are computed again, from the elements after the refused ones.
      let good = refused == 0 ? drawn : refused.trailingZeroBitCount
      for lane in 0..<good { accepted(block + lane, lane) }
      stream.consume(lanes: refused == 0 ? drawn : good + 1)
      block += good
    }
    return UnsafeMutableRawBufferPointer(
      rebasing: workspace.remainders[..<(batch.count * BaiLayout.blockBytes)])
  }

  /// The secret's own memory, or a copy padded to whole blocks where the batch reaches its end.
  private func secretBytes(of batch: Range<Int>) -> UnsafePointer<UInt8> {
    let start = batch.lowerBound * BaiLayout.blockBytes
    let end = batch.upperBound * BaiLayout.blockBytes
    if end <= split.secret.count {
      return (split.secret.baseAddress! + start).assumingMemoryBound(to: UInt8.self)
    }
    let rest = UnsafeRawBufferPointer(rebasing: split.secret[start...])
    workspace.tail.initializeMemory(as: UInt8.self, repeating: 0)
    workspace.tail.copyMemory(from: rest)
    // Short secrets only, so that these blocks are in the same batch.
    let random = split.layout.secretBlockCount * BaiLayout.blockBytes
    if random < end {
      stream.fillDirectly(
        UnsafeMutableRawBufferPointer(rebasing: workspace.tail[(random - start)..<(end - start)]))
    }
    return UnsafePointer(workspace.tail.baseAddress!.assumingMemoryBound(to: UInt8.self))
  }
}
