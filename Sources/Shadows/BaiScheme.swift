import Base
import CKernels

/// Bai's projection scheme over the field of 65537 elements, 16 x 16 blocks of 16-bit words.
///
/// Every block S gets a fresh random matrix A; P = A (A^T A)^-1 A^T, the remainder is S - P, and
/// shadow i holds the vector A (1, i, i^2, ...)^T. Any r vectors span the columns of A and give P.
/// The remainder of all blocks is masked with a key that follows from P, then erasure-coded, so
/// that each shadow carries 1/r of it and fewer than r shadows show nothing of it.
///
/// Memory: besides the secret and its shadows (|secret| (s/16 + s/r) bytes), about 0.5 MiB for
/// each core used; a splitter, joiner or repairer holds pieces of them only. The form is in `docs/formats/shadow-bai1.md`.
public struct BaiScheme: ShadowScheme {
  /// 1 GiB: the largest secret, checked before anything is allocated.
  public static let maximumSecretBytes = 1 << 30
  /// Half the order of a block, as Bai's condition m > 2 (r - 1) - 1 and the leakage ask for.
  public static let maximumThreshold = Int(FIELD65537_MAXIMUM_RANK)

  /// Cores that one call may use.
  public let coreCount: Int

  public init(coreCount: Int = 1) {
    precondition(coreCount >= 1, "\(coreCount) cores")
    self.coreCount = coreCount
  }

  public var name: String { "bai" }
  public var format: ShadowFormat { .bai1 }

  public func bodyByteCount(
    secretByteCount: Int, threshold: Int
  ) throws(ShadowError) -> Int {
    try layout(secretByteCount: secretByteCount, threshold: threshold).bodyByteCount
  }

  public func split(
    secret: [UInt8], threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32,
    entropy: some Entropy, makesDigests: Bool
  ) throws(ShadowError) -> [Shadow] {
    try split(
      secret: secret, threshold: threshold, shadowCount: shadowCount, imageID: imageID,
      epoch: epoch, makesDigests: makesDigests
    ) { CounterModeBytes(entropy: entropy) }
  }

  /// The same with the matrices' bytes from elsewhere: one source for each core.
  package func split<Source: MatrixByteSource>(
    secret: [UInt8], threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32,
    makesDigests: Bool = true, makeSource: () -> Source
  ) throws(ShadowError) -> [Shadow] {
    let (layout, headers) = try prepare(
      secretByteCount: secret.count, threshold: threshold, shadowCount: shadowCount,
      imageID: imageID, epoch: epoch)
    return secret.withUnsafeBytes { secret in
      splitWhole(
        headers: headers, bodyByteCount: layout.bodyByteCount, coreCount: coreCount,
        makesDigests: makesDigests
      ) { bodies in
        BaiSplitEngine(
          layout: layout, secret: BorrowedBytes(bytes: secret),
          scratch: BaiBodyScratch(layout: layout, bodies: bodies), shadowCount: shadowCount,
          imageID: imageID, coreCount: coreCount, makeSource: makeSource)
      }
    }
  }

  public func splitter(
    secret: any RandomAccessBytes, secretByteCount: Int, scratch: any RandomAccessScratch,
    threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32, entropy: some Entropy
  ) throws(ShadowError) -> ShadowSplitter {
    try splitter(
      secret: secret, secretByteCount: secretByteCount, scratch: scratch, threshold: threshold,
      shadowCount: shadowCount, imageID: imageID, epoch: epoch
    ) { CounterModeBytes(entropy: entropy) }
  }

  /// The same with the matrices' bytes from elsewhere: one source for each core.
  package func splitter<Source: MatrixByteSource>(
    secret: any RandomAccessBytes, secretByteCount: Int, scratch: any RandomAccessScratch,
    threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32, makeSource: () -> Source
  ) throws(ShadowError) -> ShadowSplitter {
    let (layout, headers) = try prepare(
      secretByteCount: secretByteCount, threshold: threshold, shadowCount: shadowCount,
      imageID: imageID, epoch: epoch)
    return ShadowSplitter(
      headers: headers, bodyByteCount: layout.bodyByteCount,
      engine: BaiSplitEngine(
        layout: layout, secret: secret, scratch: scratch, shadowCount: shadowCount,
        imageID: imageID, coreCount: coreCount, makeSource: makeSource),
      coreCount: coreCount)
  }

  public func scratchByteCount(
    secretByteCount: Int, threshold: Int
  ) throws(ShadowError) -> Int {
    try layout(secretByteCount: secretByteCount, threshold: threshold).remainderByteCount
  }

  private func prepare(
    secretByteCount: Int, threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32
  ) throws(ShadowError) -> (BaiLayout, [ShadowHeader]) {
    guard supports(threshold: threshold, shadowCount: shadowCount) else {
      throw .impossibleThreshold(threshold: threshold, shadowCount: shadowCount)
    }
    let layout = try layout(secretByteCount: secretByteCount, threshold: threshold)
    let headers = try makeHeaders(
      format: format, count: shadowCount, epoch: epoch, imageID: imageID,
      secretByteCount: secretByteCount)
    return (layout, headers)
  }

  public func join(
    shadows: [Shadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> [UInt8] {
    let (chosen, layout) = try select(shadows, threshold, expectedDigests)
    var failure: ShadowError?
    let secret = [UInt8](unsafeUninitializedCapacity: layout.secretByteCount) { buffer, count in
      preferLargePages(UnsafeMutableRawBufferPointer(buffer))
      withBodies(chosen) { bodies in
        let join = BaiJoin(
          layout: layout, shards: chosen.map { $0.index - 1 },
          bodies: bodies.map {
            BorrowedBytes(
              bytes: UnsafeRawBufferPointer(start: $0, count: layout.bodyByteCount))
          }, imageID: chosen[0].header.imageID)
        do throws(ShadowError) {
          try BaiJoinEngine(join, coreCount: coreCount)
            .joinAll(into: UnsafeMutableRawBufferPointer(buffer))
        } catch { failure = error }
      }
      // Nothing of a contradictory set is handed out, so nothing of it counts as written.
      count = failure == nil ? layout.secretByteCount : 0
    }
    if let failure { throw failure }
    return secret
  }

  public func joiner(
    shadows: [StoredShadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ShadowJoiner {
    let coreCount = coreCount
    let (chosen, layout) = try select(shadows, threshold, expectedDigests) {
      shadows throws(ShadowError) in
      try digestsFromBytes(of: shadows, coreCount: coreCount)
    }
    let join = BaiJoin(
      layout: layout, shards: chosen.map { $0.header.index - 1 }, bodies: chosen.map(\.body),
      imageID: chosen[0].header.imageID)
    return ShadowJoiner(
      secretByteCount: layout.secretByteCount,
      engine: try BaiJoinEngine(join, coreCount: coreCount), coreCount: coreCount)
  }

  public func repair(
    lost: Int, shadows: [Shadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> Shadow {
    guard (1...255).contains(lost) else { throw .indexOutOfRange(lost) }
    let others = shadows.filter { $0.index != lost }
    let (chosen, layout) = try select(others, threshold, expectedDigests)
    return try repairWhole(
      header: try chosen[0].header.with(index: lost), bodyByteCount: layout.bodyByteCount,
      sources: chosen,
      engine: BaiRepairEngine(layout: layout, lost: lost, indices: chosen.map(\.index)),
      expectedDigests: expectedDigests)
  }

  public func repairer(
    lost: Int, headers: [ShadowHeader], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ShadowRepairer {
    let plan = try RepairPlan(
      lost: lost, headers: headers, threshold: threshold, format: format,
      expectedDigests: expectedDigests)
    let layout = try layout(secretByteCount: plan.lost.secretByteCount, threshold: threshold)
    return ShadowRepairer(
      lost: plan.lost, sources: plan.sources, bodyByteCount: layout.bodyByteCount,
      engine: BaiRepairEngine(
        layout: layout, lost: lost, indices: plan.sources.map(\.index)),
      expectedDigests: plan.digests, coreCount: coreCount)
  }

  private func layout(secretByteCount: Int, threshold: Int) throws(ShadowError) -> BaiLayout {
    precondition(secretByteCount >= 0, "a secret of \(secretByteCount) bytes")
    guard (2...Self.maximumThreshold).contains(threshold) else {
      throw .impossibleThreshold(threshold: threshold, shadowCount: threshold + 1)
    }
    return try BaiLayout(secretByteCount: secretByteCount, threshold: threshold)
  }

  private func select(
    _ shadows: [Shadow], _ threshold: Int, _ expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ([Shadow], BaiLayout) {
    try select(shadows, threshold, expectedDigests) {
      digestsFromBytes(of: $0, coreCount: coreCount)
    }
  }

  private func select<Part: HeadedShadow>(
    _ shadows: [Part], _ threshold: Int, _ expectedDigests: [Int: [UInt8]],
    digests: ([Part]) throws(ShadowError) -> [[UInt8]]
  ) throws(ShadowError) -> ([Part], BaiLayout) {
    guard (2...Self.maximumThreshold).contains(threshold) else {
      throw .impossibleThreshold(threshold: threshold, shadowCount: shadows.count)
    }
    let chosen = try selectShadows(
      shadows, need: threshold, format: format, expectedDigests: expectedDigests,
      digests: digests)
    let layout = try layout(
      secretByteCount: chosen[0].header.secretByteCount, threshold: threshold)
    try checkBodies(of: chosen, byteCount: layout.bodyByteCount)
    return (chosen, layout)
  }
}
