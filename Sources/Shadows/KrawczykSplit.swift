import Base

/// One split: the shares of the key, then the same piece of every shard after the other.
///
/// A piece is read from r places of the secret, one for each data shard, and nothing is kept.
final class KrawczykSplitEngine: SplitEngine, @unchecked Sendable {
  private let layout: KrawczykLayout
  private let secret: any RandomAccessBytes
  private let coreCount: Int
  private let key: SecretBytes
  private let shares: [[UInt8]]
  private let parity: ShardTransform
  private let stepBytes: Int
  private var areSharesWritten = false
  private var shardOffset = 0

  init(
    layout: KrawczykLayout, secret: any RandomAccessBytes, shadowCount: Int, coreCount: Int,
    entropy: some Entropy
  ) {
    self.layout = layout
    self.secret = secret
    self.coreCount = coreCount
    key = SecretBytes(randomCount: KrawczykLayout.keyByteCount, entropy: entropy)
    shares = key.withBytes {
      KeySharing.split(
        $0, threshold: layout.threshold, shadowCount: shadowCount, entropy: entropy)
    }
    parity = ShardTransform(
      available: Array(0..<layout.threshold), wanted: Array(layout.threshold..<shadowCount))
    stepBytes = shardStepByteCount(shadowCount: shadowCount)
  }

  func step(
    into targets: [UnsafeMutablePointer<UInt8>], capacity: Int
  ) throws(ShadowError) -> Int {
    if !areSharesWritten {
      guard capacity >= KrawczykLayout.keyByteCount else { return 0 }
      for (share, target) in zip(shares, targets) {
        UnsafeMutableRawBufferPointer(start: target, count: share.count).copyBytes(from: share)
      }
      areSharesWritten = true
      return KrawczykLayout.keyByteCount
    }
    let room = capacity / KrawczykLayout.cipherBlockBytes * KrawczykLayout.cipherBlockBytes
    let count = min(stepBytes * coreCount, room, layout.shardByteCount - shardOffset)
    if count == 0 { return 0 }
    try write(shardOffset..<shardOffset + count, SharedTargets(targets))
    shardOffset += count
    return count
  }

  private func write(_ range: Range<Int>, _ targets: SharedTargets) throws(ShadowError) {
    let failures = Locked<ShadowError?>(nil)
    let starts = Array(stride(from: range.lowerBound, to: range.upperBound, by: stepBytes))
    onCores(starts.count) { part in
      let piece = starts[part]..<min(starts[part] + stepBytes, range.upperBound)
      do throws(ShadowError) {
        try write(piece, targets.advanced(by: piece.lowerBound - range.lowerBound))
      } catch {
        failures.withLock { $0 = error }
      }
    }
    if let failure = failures.withLock({ $0 }) { throw failure }
  }

  /// The same piece of every shard, the parity while the data is still in the cache.
  private func write(
    _ piece: Range<Int>, _ targets: [UnsafeMutablePointer<UInt8>]
  ) throws(ShadowError) {
    for shard in 0..<layout.threshold {
      let target = UnsafeMutableRawBufferPointer(start: targets[shard], count: piece.count)
      let count = layout.secretByteCount(
        shard: shard, offset: piece.lowerBound, byteCount: piece.count)
      let start = shard * layout.shardByteCount + piece.lowerBound
      if count > 0 { try encrypt(start..<start + count, into: target, shard, piece) }
      UnsafeMutableRawBufferPointer(rebasing: target[count...])
        .initializeMemory(as: UInt8.self, repeating: 0)
    }
    parity.apply(
      targets[..<layout.threshold].map { UnsafePointer($0) },
      Array(targets[layout.threshold...]), byteCount: piece.count)
  }

  private func encrypt(
    _ range: Range<Int>, into target: UnsafeMutableRawBufferPointer, _ shard: Int,
    _ piece: Range<Int>
  ) throws(ShadowError) {
    let source: UnsafeRawBufferPointer
    if let memory = secret.memory {
      source = UnsafeRawBufferPointer(rebasing: memory[range])
    } else {
      let copy = UnsafeMutableRawBufferPointer(rebasing: target[..<range.count])
      try secret.read(into: copy, at: range.lowerBound)
      source = UnsafeRawBufferPointer(copy)
    }
    let counter = layout.counter(shard: shard, offset: piece.lowerBound)
    key.withBytes { AES256CTR.apply(source, into: target, key: $0, counter: counter) }
  }
}
