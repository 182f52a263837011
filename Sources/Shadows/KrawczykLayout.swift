/// Where everything lies in the body of a Krawczyk shadow: the share of the key, then the shard.
struct KrawczykLayout: Equatable {
  static let keyByteCount = 32
  /// A shard is a whole number of these, so that the key stream of each begins at a block.
  static let cipherBlockBytes = 16

  let secretByteCount: Int
  let threshold: Int
  let shardByteCount: Int

  init(secretByteCount: Int, threshold: Int) throws(ShadowError) {
    try checkSecretSize(secretByteCount)
    self.secretByteCount = secretByteCount
    self.threshold = threshold
    let stripe = Self.cipherBlockBytes * threshold
    shardByteCount = max(1, (secretByteCount + stripe - 1) / stripe) * Self.cipherBlockBytes
  }

  var bodyByteCount: Int { Self.keyByteCount + shardByteCount }

  /// Bytes of the secret in a piece of data shard `shard`; what is behind them is zeros.
  func secretByteCount(shard: Int, offset: Int, byteCount: Int) -> Int {
    max(0, min(byteCount, secretByteCount - (shard * shardByteCount + offset)))
  }

  /// Where the key stream of a piece of data shard `shard` begins; `offset` is a multiple of 16.
  func counter(shard: Int, offset: Int) -> [UInt8] {
    counterBlock(UInt64((shard * shardByteCount + offset) / Self.cipherBlockBytes))
  }

  /// Pieces of a shard that one core works on while they lie in its cache, divided among the cores.
  func parts(coreCount: Int) -> [[Range<Int>]] {
    let pieceBytes = 32 << 10
    let pieces = stride(from: 0, to: shardByteCount, by: pieceBytes).map {
      $0..<min($0 + pieceBytes, shardByteCount)
    }
    let share = (pieces.count + coreCount - 1) / coreCount
    return stride(from: 0, to: pieces.count, by: share).map {
      Array(pieces[$0..<min($0 + share, pieces.count)])
    }
  }
}
