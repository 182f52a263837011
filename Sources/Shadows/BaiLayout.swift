import CKernels

/// Where everything lies in the shadows of one secret; lengths follow from |secret| and r alone.
struct BaiLayout: Equatable {
  static let blockBytes = Int(FIELD65537_BLOCK_BYTES)
  static let vectorBytesPerBlock = Int(FIELD65537_VECTOR_BYTES)
  /// Blocks whose projections go into the key of the remainder.
  static let keyedBlockCount = 64
  /// Bits that those projections must hold against r - 1 shadows.
  private static let keyedEntropyBits = 256

  let secretByteCount: Int
  let threshold: Int
  /// Blocks that hold bytes of the secret.
  let secretBlockCount: Int
  /// With the random blocks that a short secret gets, so that the key has enough entropy.
  let blockCount: Int

  init(secretByteCount: Int, threshold: Int) throws(ShadowError) {
    try checkSecretSize(secretByteCount)
    self.secretByteCount = secretByteCount
    self.threshold = threshold
    secretBlockCount = (secretByteCount + Self.blockBytes - 1) / Self.blockBytes
    let bitsPerBlock = (Int(FIELD65537_ORDER) - threshold) * 16
    blockCount = max(secretBlockCount, (Self.keyedEntropyBits + bitsPerBlock - 1) / bitsPerBlock)
  }

  /// Length of the share vectors at the start of a body.
  var vectorByteCount: Int { blockCount * Self.vectorBytesPerBlock }
  /// Length of the masked remainder, which the shards divide among them.
  var remainderByteCount: Int { blockCount * Self.blockBytes }
  /// Length of the shard at the end of a body.
  var shardByteCount: Int { (remainderByteCount + threshold - 1) / threshold }
  var bodyByteCount: Int { vectorByteCount + shardByteCount }

  /// The pieces of a range of the remainder, each within one data shard.
  func pieces(of range: Range<Int>) -> [RemainderPiece] {
    var pieces: [RemainderPiece] = []
    var at = range.lowerBound
    while at < range.upperBound {
      let (shard, offset) = at.quotientAndRemainder(dividingBy: shardByteCount)
      let count = min(shardByteCount - offset, range.upperBound - at)
      pieces.append(
        RemainderPiece(
          start: at - range.lowerBound, shard: shard, offsetInShard: offset, byteCount: count))
      at += count
    }
    return pieces
  }
}

/// Consecutive bytes of the remainder that lie in one data shard.
struct RemainderPiece: Equatable {
  /// Counted from the start of the range that was divided.
  let start: Int
  let shard: Int
  let offsetInShard: Int
  let byteCount: Int
}
