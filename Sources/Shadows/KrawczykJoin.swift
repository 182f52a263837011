import Base

/// One join, piece by piece of the secret. Cores write different parts of it.
///
/// A missing data shard is computed from r others by itself, so that their bodies are read once more for each.
final class KrawczykJoinEngine: JoinEngine, @unchecked Sendable {
  private static let stepBytes = 32 << 10

  private let layout: KrawczykLayout
  private let bodies: [any RandomAccessBytes]
  private let bodyOfShard: [Int: Int]
  private let recoveries: [Int: ShardTransform]
  private let key: SecretBytes
  private let inputs: [JoinInput]

  /// - Parameter shards: one less than the index of each body's shadow.
  init(
    layout: KrawczykLayout, shards: [Int], bodies: [any RandomAccessBytes], key: SecretBytes,
    coreCount: Int
  ) {
    self.layout = layout
    self.bodies = bodies
    self.key = key
    bodyOfShard = Dictionary(uniqueKeysWithValues: shards.enumerated().map { ($1, $0) })
    let missing = (0..<layout.threshold).filter { !shards.contains($0) }
    recoveries = Dictionary(
      uniqueKeysWithValues: missing.map {
        ($0, ShardTransform(available: shards, wanted: [$0]))
      })
    inputs = (0..<coreCount).map { _ in JoinInput(bodies, pieceByteCount: Self.stepBytes) }
  }

  func join(
    _ range: Range<Int>, into target: UnsafeMutableRawBufferPointer
  ) throws(ShadowError) {
    let steps = (range.count + Self.stepBytes - 1) / Self.stepBytes
    let share = (steps + inputs.count - 1) / inputs.count * Self.stepBytes
    let starts = Array(stride(from: 0, to: range.count, by: share))
    let target = SharedTarget(target)
    let failures = Locked<ShadowError?>(nil)
    onCores(starts.count) { part in
      let end = min(starts[part] + share, range.count)
      do throws(ShadowError) {
        for start in stride(from: starts[part], to: end, by: Self.stepBytes) {
          let count = min(Self.stepBytes, end - start)
          try join(
            range.lowerBound + start, target.part(from: start, byteCount: count), inputs[part])
        }
      } catch { failures.withLock { $0 = error } }
    }
    if let failure = failures.withLock({ $0 }) { throw failure }
  }

  /// Bytes of the secret from `start` on, at most a step.
  private func join(
    _ start: Int, _ target: UnsafeMutableRawBufferPointer, _ input: JoinInput
  ) throws(ShadowError) {
    var done = 0
    while done < target.count {
      let (shard, offset) = (start + done).quotientAndRemainder(
        dividingBy: layout.shardByteCount)
      let count = min(target.count - done, layout.shardByteCount - offset)
      let piece = UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
      let place = KrawczykLayout.keyByteCount + offset
      if let position = bodyOfShard[shard] {
        try bodies[position].read(into: piece, at: place)
      } else if let recovery = recoveries[shard] {
        recovery.apply(
          try input.bytes(at: place, byteCount: count),
          [piece.baseAddress!.assumingMemoryBound(to: UInt8.self)], byteCount: count)
      }
      key.withBytes {
        AES256CTR.apply(
          inPlace: piece, key: $0, counter: layout.counter(shard: shard, offset: offset))
      }
      done += count
    }
  }
}
