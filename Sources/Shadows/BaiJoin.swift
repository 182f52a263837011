import Base
import CKernels

/// One join: r verified bodies of the right length.
struct BaiJoin: Sendable {
  let layout: BaiLayout
  /// One less than the index of each body's shadow.
  let shards: [Int]
  let bodies: [any RandomAccessBytes]
  let imageID: ImageID
}

/// Rebuilds blocks on several cores. Used by one caller at a time.
final class BaiJoinEngine: JoinEngine, @unchecked Sendable {
  private let join: BaiJoin
  private let workers: [BaiJoinWorker]
  private let mask: RemainderMask

  /// Throws `contradictoryShadows` where the first vectors span no space.
  init(_ join: BaiJoin, coreCount: Int) throws(ShadowError) {
    self.join = join
    let batchCount =
      (join.layout.blockCount + BaiWorkspace.batchBlockCount - 1) / BaiWorkspace.batchBlockCount
    workers = (0..<max(1, min(coreCount, batchCount))).map { _ in BaiJoinWorker(join: join) }
    mask = try workers[0].mask()
  }

  /// All of the secret, and the random blocks behind a short one.
  func joinAll(into target: UnsafeMutableRawBufferPointer) throws(ShadowError) {
    try run(0..<join.layout.blockCount, into: target)
  }

  func join(
    _ range: Range<Int>, into target: UnsafeMutableRawBufferPointer
  ) throws(ShadowError) {
    let first = range.lowerBound / BaiLayout.blockBytes
    let end = (range.upperBound + BaiLayout.blockBytes - 1) / BaiLayout.blockBytes
    try run(first..<end, into: target)
  }

  private func run(
    _ blocks: Range<Int>, into target: UnsafeMutableRawBufferPointer
  ) throws(ShadowError) {
    let parts = divide(blocks, coreCount: workers.count)
    let start = SharedTarget(target)
    onCores(parts.count) { part in
      let skipped = (parts[part].lowerBound - blocks.lowerBound) * BaiLayout.blockBytes
      workers[part].run(
        parts[part], mask: mask,
        into: start.part(from: skipped, byteCount: parts[part].count * BaiLayout.blockBytes))
    }
    for worker in workers { if let failure = worker.failure { throw failure } }
  }
}

/// A buffer of which several cores write different parts.
struct SharedTarget: @unchecked Sendable {
  private let buffer: UnsafeMutableRawBufferPointer

  init(_ buffer: UnsafeMutableRawBufferPointer) { self.buffer = buffer }

  /// As far as the buffer goes.
  func part(from start: Int, byteCount: Int) -> UnsafeMutableRawBufferPointer {
    let start = min(start, buffer.count)
    return UnsafeMutableRawBufferPointer(
      rebasing: buffer[start..<min(start + byteCount, buffer.count)])
  }
}

/// The part of a join that one core does; used by one core at a time.
final class BaiJoinWorker: @unchecked Sendable {
  private let join: BaiJoin
  private let workspace = BaiWorkspace()
  /// How a data shard that is not among the bodies follows from them.
  private let recoveries: [Int: ShardTransform]
  private let bodyOfShard: [Int: Int]
  private let input: JoinInput
  /// The first thing that went wrong; nothing goes on after it.
  private(set) var failure: ShadowError?

  init(join: BaiJoin) {
    self.join = join
    bodyOfShard = Dictionary(
      uniqueKeysWithValues: join.shards.enumerated().map { ($1, $0) })
    let missing = (0..<join.layout.threshold).filter { !join.shards.contains($0) }
    recoveries = Dictionary(
      uniqueKeysWithValues: missing.map {
        ($0, ShardTransform(available: join.shards, wanted: [$0]))
      })
    input = JoinInput(
      join.bodies, pieceByteCount: BaiWorkspace.batchBlockCount * BaiLayout.blockBytes)
  }

  deinit { workspace.release() }

  /// The mask that follows from the first blocks.
  func mask() throws(ShadowError) -> RemainderMask {
    var hasher = SHA256Hasher()
    let count = min(join.layout.blockCount, BaiLayout.keyedBlockCount)
    let vectors = try vectors(of: 0..<count)
    for start in stride(from: 0, to: count, by: Int(FIELD65537_LANES)) {
      let lanes = min(Int(FIELD65537_LANES), count - start)
      guard project(vectors, start, lanes) else { throw .contradictoryShadows }
      for lane in 0..<lanes { workspace.withTriangle(ofLane: lane) { hasher.update($0) } }
    }
    var digest = hasher.finalize()
    defer { zero(&digest) }
    return RemainderMask(projectionDigest: digest, imageID: join.imageID)
  }

  /// Writes the blocks, as far as `target` goes.
  func run(_ blocks: Range<Int>, mask: RemainderMask, into target: UnsafeMutableRawBufferPointer) {
    let start = SharedTarget(target)
    for batch in batches(of: blocks) where failure == nil {
      let remainders = UnsafeMutableRawBufferPointer(
        rebasing: workspace.remainders[..<(batch.count * BaiLayout.blockBytes)])
      let offset = batch.lowerBound * BaiLayout.blockBytes
      do throws(ShadowError) {
        try fetch(remainders, at: offset)
        mask.apply(remainders, at: offset)
        try rebuild(
          try vectors(of: batch), batch.count, remainders,
          start.part(
            from: (batch.lowerBound - blocks.lowerBound) * BaiLayout.blockBytes,
            byteCount: remainders.count))
      } catch { failure = error }
    }
  }

  private func vectors(of blocks: Range<Int>) throws(ShadowError) -> [UnsafePointer<UInt8>] {
    try input.bytes(
      at: blocks.lowerBound * BaiLayout.vectorBytesPerBlock,
      byteCount: blocks.count * BaiLayout.vectorBytesPerBlock)
  }

  /// Gathers masked remainders from the data shards, decoding where a shard is missing.
  private func fetch(
    _ target: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(ShadowError) {
    for piece in join.layout.pieces(of: offset..<offset + target.count) {
      let destination = UnsafeMutableRawBufferPointer(
        rebasing: target[piece.start..<piece.start + piece.byteCount])
      let place = join.layout.vectorByteCount + piece.offsetInShard
      if let position = bodyOfShard[piece.shard] {
        try join.bodies[position].read(into: destination, at: place)
      } else if let recovery = recoveries[piece.shard] {
        recovery.apply(
          try input.bytes(at: place, byteCount: piece.byteCount),
          [destination.baseAddress!.assumingMemoryBound(to: UInt8.self)],
          byteCount: piece.byteCount)
      }
    }
  }

  /// Adds projections to open remainders, which gives the blocks of the secret.
  private func rebuild(
    _ vectors: [UnsafePointer<UInt8>], _ blockCount: Int,
    _ remainders: UnsafeMutableRawBufferPointer, _ target: UnsafeMutableRawBufferPointer
  ) throws(ShadowError) {
    let isWhole = target.count == remainders.count
    let blocks = (isWhole ? target : workspace.tail).baseAddress!
      .assumingMemoryBound(to: UInt8.self)
    let source = remainders.baseAddress!.assumingMemoryBound(to: UInt8.self)
    for block in stride(from: 0, to: blockCount, by: Int(FIELD65537_LANES)) {
      let lanes = min(Int(FIELD65537_LANES), blockCount - block)
      let at = block * BaiLayout.blockBytes
      guard project(vectors, block, lanes),
        field65537_add(workspace.lanes, lanes, source + at, blocks + at) == 0
      else { throw .contradictoryShadows }
    }
    if !isWhole {
      target.copyMemory(from: UnsafeRawBufferPointer(rebasing: workspace.tail[..<target.count]))
    }
  }

  /// Puts the projections of consecutive blocks into the workspace, the first of which is `block` behind the vectors' start.
  ///
  /// False where r vectors are dependent or a trace differs from r, as the paper's Algorithm 3
  /// asks: neither happens to what a split made, and neither finds an altered vector.
  private func project(
    _ vectors: [UnsafePointer<UInt8>], _ block: Int, _ laneCount: Int
  ) -> Bool {
    let rank = join.layout.threshold
    field65537_load(
      workspace.lanes, rank, laneCount, vectors.map { $0 + block * BaiLayout.vectorBytesPerBlock })
    return field65537_project(workspace.lanes, rank, laneCount) == 0
      && field65537_wrong_traces(workspace.lanes, rank, laneCount) == 0
  }
}

/// The same piece of every body, copied where the bodies are not in memory. Used by one core at a time.
final class JoinInput: @unchecked Sendable {
  private let bodies: [any RandomAccessBytes]
  private let pieceByteCount: Int
  private let copies: UnsafeMutableRawBufferPointer?

  init(_ bodies: [any RandomAccessBytes], pieceByteCount: Int) {
    self.bodies = bodies
    self.pieceByteCount = pieceByteCount
    copies =
      bodies.allSatisfy { $0.memory != nil }
      ? nil : .allocate(byteCount: bodies.count * pieceByteCount, alignment: 64)
  }

  deinit { copies?.deallocate() }

  /// Valid until the next call; at most a piece.
  func bytes(at offset: Int, byteCount: Int) throws(ShadowError) -> [UnsafePointer<UInt8>] {
    precondition(byteCount <= pieceByteCount, "\(byteCount) bytes, a piece has \(pieceByteCount)")
    var pointers: [UnsafePointer<UInt8>] = []
    for (place, body) in bodies.enumerated() {
      if let memory = body.memory {
        pointers.append((memory.baseAddress! + offset).assumingMemoryBound(to: UInt8.self))
      } else if let copies {
        let start = place * pieceByteCount
        let copy = UnsafeMutableRawBufferPointer(rebasing: copies[start..<start + byteCount])
        try body.read(into: copy, at: offset)
        pointers.append(UnsafePointer(copy.baseAddress!.assumingMemoryBound(to: UInt8.self)))
      }
    }
    return pointers
  }
}
