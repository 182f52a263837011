import Base
import CKernels

/// One split: first the share vectors of all blocks, whose masked remainders go to the scratch; then the shards.
///
/// The scratch may be where the secret lies: a batch is read before its remainders take its place.
final class BaiSplitEngine<Source: MatrixByteSource>: SplitEngine, @unchecked Sendable {
  private let layout: BaiLayout
  private let scratch: any RandomAccessScratch
  private let imageID: ImageID
  private let workers: [BaiSplitWorker<Source>]
  private let parity: ShardTransform
  private let shardStepBytes: Int
  private var mask: RemainderMask?
  private var nextBlock = 0
  private var shardOffset = 0

  /// `scratch` has room for `layout.remainderByteCount` bytes.
  init(
    layout: BaiLayout, secret: any RandomAccessBytes, scratch: any RandomAccessScratch,
    shadowCount: Int, imageID: ImageID, coreCount: Int, makeSource: () -> Source
  ) {
    self.layout = layout
    self.scratch = scratch
    self.imageID = imageID
    // Cores beyond the batches would have nothing to do.
    let batchCount =
      (layout.blockCount + BaiWorkspace.batchBlockCount - 1) / BaiWorkspace.batchBlockCount
    workers = (0..<max(1, min(coreCount, batchCount))).map { _ in
      BaiSplitWorker(layout: layout, secret: secret, scratch: scratch, source: makeSource())
    }
    parity = ShardTransform(
      available: Array(0..<layout.threshold), wanted: Array(layout.threshold..<shadowCount))
    shardStepBytes = shardStepByteCount(shadowCount: shadowCount) * coreCount
  }

  func step(
    into targets: [UnsafeMutablePointer<UInt8>], capacity: Int
  ) throws(ShadowError) -> Int {
    nextBlock < layout.blockCount
      ? try writeVectors(targets, capacity) : try writeShards(targets, capacity)
  }

  private func writeVectors(
    _ targets: [UnsafeMutablePointer<UInt8>], _ capacity: Int
  ) throws(ShadowError) -> Int {
    // The mask follows from the first batch, so that one comes first and alone. Later ones come in several a core,
    // since starting cores costs as much as a part of a batch.
    let batch = BaiWorkspace.batchBlockCount
    let wanted = mask == nil || workers.count == 1 ? batch : 4 * batch * workers.count
    var count = min(wanted, layout.blockCount - nextBlock)
    if count * BaiLayout.vectorBytesPerBlock > capacity {
      count = capacity / (batch * BaiLayout.vectorBytesPerBlock) * batch
    }
    if count == 0 { return 0 }
    let blocks = nextBlock..<nextBlock + count
    if let mask {
      let parts = divide(blocks, coreCount: workers.count)
      let targets = SharedTargets(targets)
      onCores(parts.count) { part in
        let skipped =
          (parts[part].lowerBound - blocks.lowerBound) * BaiLayout.vectorBytesPerBlock
        workers[part].run(parts[part], mask: mask, vectors: targets.advanced(by: skipped))
      }
    } else {
      mask = workers[0].runHead(blocks, imageID: imageID, vectors: targets)
    }
    for worker in workers { if let failure = worker.failure { throw failure } }
    nextBlock += count
    return count * BaiLayout.vectorBytesPerBlock
  }

  private func writeShards(
    _ targets: [UnsafeMutablePointer<UInt8>], _ capacity: Int
  ) throws(ShadowError) -> Int {
    let count = min(shardStepBytes, capacity, layout.shardByteCount - shardOffset)
    for shard in 0..<layout.threshold {
      let target = UnsafeMutableRawBufferPointer(start: targets[shard], count: count)
      let start = shard * layout.shardByteCount + shardOffset
      // What is behind the remainder is padding of the last shards.
      let stored = max(0, min(count, layout.remainderByteCount - start))
      if stored > 0 {
        try scratch.read(
          into: UnsafeMutableRawBufferPointer(rebasing: target[..<stored]), at: start)
      }
      UnsafeMutableRawBufferPointer(rebasing: target[stored...])
        .initializeMemory(as: UInt8.self, repeating: 0)
    }
    encode(targets, count)
    shardOffset += count
    return count
  }

  /// Computes shards r and above from the data shards.
  private func encode(_ targets: [UnsafeMutablePointer<UInt8>], _ byteCount: Int) {
    let share =
      workers.count == 1 ? byteCount : max(8 << 10, (byteCount + workers.count - 1) / workers.count)
    let starts = Array(stride(from: 0, to: byteCount, by: max(1, share)))
    let shared = SharedTargets(targets)
    onCores(starts.count) { part in
      let places = shared.advanced(by: starts[part])
      parity.apply(
        places[..<layout.threshold].map { UnsafePointer($0) },
        Array(places[layout.threshold...]), byteCount: min(share, byteCount - starts[part]))
    }
  }
}

/// Pointers through which several cores write different bytes.
struct SharedTargets: @unchecked Sendable {
  private let targets: [UnsafeMutablePointer<UInt8>]

  init(_ targets: [UnsafeMutablePointer<UInt8>]) { self.targets = targets }

  func advanced(by byteCount: Int) -> [UnsafeMutablePointer<UInt8>] {
    targets.map { $0 + byteCount }
  }
}

/// The data shards of bodies in memory, as the place of the masked remainder: what is read from there to its own place
/// is there already.
struct BaiBodyScratch: RandomAccessScratch, @unchecked Sendable {
  let layout: BaiLayout
  let bodies: [UnsafeMutablePointer<UInt8>]

  func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(ShadowError) {
    for piece in layout.pieces(of: offset..<offset + buffer.count) {
      UnsafeMutableRawPointer(place(of: piece)).copyMemory(
        from: buffer.baseAddress! + piece.start, byteCount: piece.byteCount)
    }
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ShadowError) {
    for piece in layout.pieces(of: offset..<offset + buffer.count) {
      let source = UnsafeRawPointer(place(of: piece))
      let target = buffer.baseAddress! + piece.start
      if target != source { target.copyMemory(from: source, byteCount: piece.byteCount) }
    }
  }

  private func place(of piece: RemainderPiece) -> UnsafeMutablePointer<UInt8> {
    bodies[piece.shard] + layout.vectorByteCount + piece.offsetInShard
  }
}

/// The part of a split that one core does; used by one core at a time.
final class BaiSplitWorker<Source: MatrixByteSource>: @unchecked Sendable {
  private let layout: BaiLayout
  private let secret: any RandomAccessBytes
  private let scratch: any RandomAccessScratch
  private let workspace = BaiWorkspace()
  private var stream: MatrixStream<Source>
  /// Why the secret or the scratch could not be used; nothing goes on after that.
  private(set) var failure: ShadowError?

  init(
    layout: BaiLayout, secret: any RandomAccessBytes, scratch: any RandomAccessScratch,
    source: Source
  ) {
    self.layout = layout
    self.secret = secret
    self.scratch = scratch
    stream = MatrixStream(source: source)
  }

  deinit {
    workspace.release()
    stream.release()
  }

  /// Does the first batch and returns the mask that follows from it.
  func runHead(
    _ batch: Range<Int>, imageID: ImageID, vectors: [UnsafeMutablePointer<UInt8>]
  ) -> RemainderMask {
    var hasher = SHA256Hasher()
    let remainders = project(batch, vectors) { block, lane in
      guard block < BaiLayout.keyedBlockCount else { return }
      workspace.withTriangle(ofLane: lane) { hasher.update($0) }
    }
    var digest = hasher.finalize()
    let mask = RemainderMask(projectionDigest: digest, imageID: imageID)
    zero(&digest)
    finish(batch, remainders, mask)
    return mask
  }

  /// `vectors` are where those of the first block go.
  func run(
    _ blocks: Range<Int>, mask: RemainderMask, vectors: [UnsafeMutablePointer<UInt8>]
  ) {
    for batch in batches(of: blocks) where failure == nil {
      let skipped = (batch.lowerBound - blocks.lowerBound) * BaiLayout.vectorBytesPerBlock
      finish(batch, project(batch, vectors.map { $0 + skipped }) { _, _ in }, mask)
    }
  }

  private func finish(
    _ batch: Range<Int>, _ remainders: UnsafeMutableRawBufferPointer, _ mask: RemainderMask
  ) {
    guard failure == nil else { return }
    let offset = batch.lowerBound * BaiLayout.blockBytes
    mask.apply(remainders, at: offset)
    do throws(ShadowError) {
      try scratch.write(UnsafeRawBufferPointer(remainders), at: offset)
    } catch { failure = error }
  }

  /// Writes the share vectors of a batch and returns its remainders, still open.
  ///
  /// `accepted` is called once for each block, in order, while its projection is in the workspace.
  private func project(
    _ batch: Range<Int>, _ vectors: [UnsafeMutablePointer<UInt8>],
    accepted: (_ block: Int, _ lane: Int) -> Void
  ) -> UnsafeMutableRawBufferPointer {
    let lanes = workspace.lanes
    let rank = layout.threshold
    let remainders = workspace.remainders.baseAddress!.assumingMemoryBound(to: UInt8.self)
    let secret: UnsafePointer<UInt8>
    do throws(ShadowError) { secret = try secretBytes(of: batch) } catch {
      failure = error
      return workspace.remainders
    }
    var done = 0
    while done < batch.count {
      let limit = min(Int(FIELD65537_LANES), batch.count - done)
      let drawn = stream.draw(into: lanes, rank: rank, limit: limit)
      let start = done * BaiLayout.blockBytes
      var refused = field65537_project(lanes, rank, drawn)
      refused |= field65537_subtract(lanes, drawn, secret + start, remainders + start)
      for (shadow, target) in vectors.enumerated() {
        refused |= field65537_share(
          lanes, rank, drawn, UInt32(shadow + 1), target + done * BaiLayout.vectorBytesPerBlock)
      }
      // Blocks behind a refused one are computed again, from the elements after the refused ones.
      let good = refused == 0 ? drawn : refused.trailingZeroBitCount
      for lane in 0..<good { accepted(batch.lowerBound + done + lane, lane) }
      stream.consume(lanes: refused == 0 ? drawn : good + 1)
      done += good
    }
    return UnsafeMutableRawBufferPointer(
      rebasing: workspace.remainders[..<(batch.count * BaiLayout.blockBytes)])
  }

  /// The secret's own memory, or a copy, padded to whole blocks where the batch reaches its end.
  private func secretBytes(of batch: Range<Int>) throws(ShadowError) -> UnsafePointer<UInt8> {
    let start = batch.lowerBound * BaiLayout.blockBytes
    let end = batch.upperBound * BaiLayout.blockBytes
    if end <= layout.secretByteCount, let memory = secret.memory {
      return (memory.baseAddress! + start).assumingMemoryBound(to: UInt8.self)
    }
    let tail = UnsafeMutableRawBufferPointer(rebasing: workspace.tail[..<(end - start)])
    let count = max(0, min(end, layout.secretByteCount) - start)
    if count > 0 {
      try secret.read(into: UnsafeMutableRawBufferPointer(rebasing: tail[..<count]), at: start)
    }
    UnsafeMutableRawBufferPointer(rebasing: tail[count...])
      .initializeMemory(as: UInt8.self, repeating: 0)
    // Short secrets only, so that these blocks are in the same batch.
    let random = layout.secretBlockCount * BaiLayout.blockBytes
    if random < end {
      stream.fillDirectly(UnsafeMutableRawBufferPointer(rebasing: tail[(random - start)...]))
    }
    return UnsafePointer(tail.baseAddress!.assumingMemoryBound(to: UInt8.self))
  }
}
