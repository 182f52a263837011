import Base

/// Krawczyk's "secret sharing made short": the secret under AES-256-CTR with a fresh key, cut into r data shards and
/// s - r parity shards, and the key shared by Shamir.
///
/// A shadow is 32 bytes and 1/r of the secret. Fewer than r shadows hold no information about the key; what they
/// hold of the cipher text they hide as AES-256 does. The form is in `docs/formats/shadow-krw1.md`.
///
/// Source: H. Krawczyk, Secret sharing made short, CRYPTO '93.
public struct KrawczykScheme: ShadowScheme {
  /// As for Bai's scheme, so that an operator may change the scheme and nothing else.
  public static let maximumThreshold = BaiScheme.maximumThreshold

  /// Cores that one call may use.
  public let coreCount: Int

  public init(coreCount: Int = 1) {
    precondition(coreCount >= 1, "\(coreCount) cores")
    self.coreCount = coreCount
  }

  public var name: String { "krawczyk" }
  public var format: ShadowFormat { .krawczyk1 }

  public func bodyByteCount(
    secretByteCount: Int, threshold: Int
  ) throws(ShadowError) -> Int {
    try layout(secretByteCount, threshold).bodyByteCount
  }

  public func split(
    secret: [UInt8], threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32,
    entropy: some Entropy, makesDigests: Bool
  ) throws(ShadowError) -> [Shadow] {
    let (layout, headers) = try prepare(
      secretByteCount: secret.count, threshold: threshold, shadowCount: shadowCount,
      imageID: imageID, epoch: epoch)
    return secret.withUnsafeBytes { secret in
      splitWhole(
        headers: headers, bodyByteCount: layout.bodyByteCount, coreCount: coreCount,
        makesDigests: makesDigests
      ) { _ in
        KrawczykSplitEngine(
          layout: layout, secret: BorrowedBytes(bytes: secret), shadowCount: shadowCount,
          coreCount: coreCount, entropy: entropy)
      }
    }
  }

  /// Nothing is written to the scratch.
  public func splitter(
    secret: any RandomAccessBytes, secretByteCount: Int, scratch: any RandomAccessScratch,
    threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32, entropy: some Entropy
  ) throws(ShadowError) -> ShadowSplitter {
    let (layout, headers) = try prepare(
      secretByteCount: secretByteCount, threshold: threshold, shadowCount: shadowCount,
      imageID: imageID, epoch: epoch)
    return ShadowSplitter(
      headers: headers, bodyByteCount: layout.bodyByteCount,
      engine: KrawczykSplitEngine(
        layout: layout, secret: secret, shadowCount: shadowCount, coreCount: coreCount,
        entropy: entropy),
      coreCount: coreCount)
  }

  public func scratchByteCount(
    secretByteCount: Int, threshold: Int
  ) throws(ShadowError) -> Int { 0 }

  private func prepare(
    secretByteCount: Int, threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32
  ) throws(ShadowError) -> (KrawczykLayout, [ShadowHeader]) {
    guard supports(threshold: threshold, shadowCount: shadowCount) else {
      throw .impossibleThreshold(threshold: threshold, shadowCount: shadowCount)
    }
    let layout = try layout(secretByteCount, threshold)
    let headers = try makeHeaders(
      format: format, count: shadowCount, epoch: epoch, imageID: imageID,
      secretByteCount: secretByteCount)
    return (layout, headers)
  }

  public func join(
    shadows: [Shadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> [UInt8] {
    let (chosen, layout) = try select(shadows, threshold, expectedDigests)
    var found = keyValue(at: 0, of: chosen)
    defer { zero(&found) }
    let key = SecretBytes(found)
    return [UInt8](unsafeUninitializedCapacity: layout.secretByteCount) { buffer, count in
      preferLargePages(UnsafeMutableRawBufferPointer(buffer))
      withBodies(chosen) { bodies in
        KrawczykJoin(
          layout: layout, shards: chosen.map { $0.index - 1 }, bodies: bodies, key: key,
          secret: UnsafeMutableRawBufferPointer(buffer)
        ).run(coreCount: coreCount)
      }
      count = layout.secretByteCount
    }
  }

  public func joiner(
    shadows: [StoredShadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ShadowJoiner {
    let coreCount = coreCount
    let (chosen, layout) = try select(shadows, threshold, expectedDigests) {
      shadows throws(ShadowError) in
      try digestsFromBytes(of: shadows, coreCount: coreCount)
    }
    var shares: [[UInt8]] = []
    for shadow in chosen {
      var share = [UInt8](repeating: 0, count: KrawczykLayout.keyByteCount)
      var failure: ShadowError?
      share.withUnsafeMutableBytes { buffer in
        do throws(ShadowError) { try shadow.body.read(into: buffer, at: 0) } catch {
          failure = error
        }
      }
      if let failure { throw failure }
      shares.append(share)
    }
    var found = KeySharing.value(at: 0, indices: chosen.map(\.header.index), shares: shares)
    defer { zero(&found) }
    return ShadowJoiner(
      secretByteCount: layout.secretByteCount,
      engine: KrawczykJoinEngine(
        layout: layout, shards: chosen.map { $0.header.index - 1 }, bodies: chosen.map(\.body),
        key: SecretBytes(found), coreCount: coreCount),
      coreCount: coreCount)
  }

  public func repair(
    lost: Int, shadows: [Shadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> Shadow {
    guard (1...255).contains(lost) else { throw .indexOutOfRange(lost) }
    let others = shadows.filter { $0.index != lost }
    let (chosen, layout) = try select(others, threshold, expectedDigests)
    return try repairWhole(
      header: try chosen[0].header.with(index: lost), bodyByteCount: layout.bodyByteCount,
      sources: chosen, engine: KrawczykRepairEngine(lost: lost, indices: chosen.map(\.index)),
      expectedDigests: expectedDigests)
  }

  public func repairer(
    lost: Int, headers: [ShadowHeader], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ShadowRepairer {
    let plan = try RepairPlan(
      lost: lost, headers: headers, threshold: threshold, format: format,
      expectedDigests: expectedDigests)
    let layout = try layout(plan.lost.secretByteCount, threshold)
    return ShadowRepairer(
      lost: plan.lost, sources: plan.sources, bodyByteCount: layout.bodyByteCount,
      engine: KrawczykRepairEngine(lost: lost, indices: plan.sources.map(\.index)),
      expectedDigests: plan.digests, coreCount: coreCount)
  }

  private func keyValue(at x: UInt8, of shadows: [Shadow]) -> [UInt8] {
    KeySharing.value(
      at: x, indices: shadows.map(\.index),
      shares: shadows.map { Array($0.body[..<KrawczykLayout.keyByteCount]) })
  }

  private func layout(_ secretByteCount: Int, _ threshold: Int) throws(ShadowError)
    -> KrawczykLayout
  {
    precondition(secretByteCount >= 0, "a secret of \(secretByteCount) bytes")
    guard (2...Self.maximumThreshold).contains(threshold) else {
      throw .impossibleThreshold(threshold: threshold, shadowCount: threshold + 1)
    }
    return try KrawczykLayout(secretByteCount: secretByteCount, threshold: threshold)
  }

  private func select(
    _ shadows: [Shadow], _ threshold: Int, _ expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ([Shadow], KrawczykLayout) {
    try select(shadows, threshold, expectedDigests) {
      digestsFromBytes(of: $0, coreCount: coreCount)
    }
  }

  private func select<Part: HeadedShadow>(
    _ shadows: [Part], _ threshold: Int, _ expectedDigests: [Int: [UInt8]],
    digests: ([Part]) throws(ShadowError) -> [[UInt8]]
  ) throws(ShadowError) -> ([Part], KrawczykLayout) {
    guard (2...Self.maximumThreshold).contains(threshold) else {
      throw .impossibleThreshold(threshold: threshold, shadowCount: shadows.count)
    }
    let chosen = try selectShadows(
      shadows, need: threshold, format: format, expectedDigests: expectedDigests,
      digests: digests)
    let layout = try layout(chosen[0].header.secretByteCount, threshold)
    try checkBodies(of: chosen, byteCount: layout.bodyByteCount)
    return (chosen, layout)
  }
}

/// One join of bodies that are all in memory: at each place every missing shard is computed while the sources are in the cache, which
/// ``KrawczykJoinEngine``, that goes through the secret from front to back, cannot. Cores write different pieces of the secret.
private struct KrawczykJoin: @unchecked Sendable {
  let layout: KrawczykLayout
  /// One less than the index of each body's shadow.
  let shards: [Int]
  let bodies: [UnsafePointer<UInt8>]
  let key: SecretBytes
  let secret: UnsafeMutableRawBufferPointer

  func run(coreCount: Int) {
    let missing = (0..<layout.threshold).filter { !shards.contains($0) }
    let recoveries = missing.map { ShardTransform(available: shards, wanted: [$0]) }
    let parts = layout.parts(coreCount: coreCount)
    onCores(parts.count) { part in
      for piece in parts[part] {
        let sources = bodies.map { $0 + KrawczykLayout.keyByteCount + piece.lowerBound }
        for (shard, source) in zip(shards, sources) where shard < layout.threshold {
          if let target = target(shard, piece) {
            open(UnsafeRawPointer(source), target, shard, piece)
          }
        }
        for (shard, recovery) in zip(missing, recoveries) {
          guard let target = target(shard, piece), let start = target.baseAddress else { continue }
          recovery.apply(
            sources, [start.assumingMemoryBound(to: UInt8.self)], byteCount: target.count)
          open(UnsafeRawPointer(start), target, shard, piece)
        }
      }
    }
  }

  /// Where a piece of a data shard belongs; nil for one that is padding.
  private func target(_ shard: Int, _ piece: Range<Int>) -> UnsafeMutableRawBufferPointer? {
    let count = layout.secretByteCount(
      shard: shard, offset: piece.lowerBound, byteCount: piece.count)
    let start = shard * layout.shardByteCount + piece.lowerBound
    return count > 0
      ? UnsafeMutableRawBufferPointer(rebasing: secret[start..<start + count]) : nil
  }

  private func open(
    _ source: UnsafeRawPointer, _ target: UnsafeMutableRawBufferPointer, _ shard: Int,
    _ piece: Range<Int>
  ) {
    let counter = layout.counter(shard: shard, offset: piece.lowerBound)
    key.withBytes {
      AES256CTR.apply(
        UnsafeRawBufferPointer(start: source, count: target.count), into: target, key: $0,
        counter: counter)
    }
  }
}
