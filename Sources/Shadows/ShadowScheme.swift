import Base

/// A way to turn a secret into s shadows, any r of which give it back.
public protocol ShadowScheme: Sendable {
  /// As it stands in the configuration.
  var name: String { get }
  var format: ShadowFormat { get }

  /// Thresholds r that the scheme can use with s shadows.
  func supports(threshold: Int, shadowCount: Int) -> Bool

  /// Length of a shadow's body, the same for every index.
  func bodyByteCount(secretByteCount: Int, threshold: Int) throws(ShadowError) -> Int

  /// The shadows 1 to s in order.
  ///
  /// With `makesDigests` the shadows know their digests, made while their bytes were in the cache. Throws
  /// `impossibleThreshold` and `secretTooLarge`.
  func split(
    secret: [UInt8], threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32,
    entropy: some Entropy, makesDigests: Bool
  ) throws(ShadowError) -> [Shadow]

  /// A split in constant memory.
  ///
  /// `secret` is read at several places and has `secretByteCount` bytes. `scratch` has room for ``scratchByteCount(secretByteCount:threshold:)``
  /// bytes, which show no more of the secret than the shadows' bodies do; it may be the same as the secret, which is then
  /// overwritten. Both must stay as they are until the bodies are complete. Throws as `split` does.
  func splitter(
    secret: any RandomAccessBytes, secretByteCount: Int, scratch: any RandomAccessScratch,
    threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32, entropy: some Entropy
  ) throws(ShadowError) -> ShadowSplitter

  /// Bytes that a splitter puts into its scratch; 0 where it needs none.
  func scratchByteCount(secretByteCount: Int, threshold: Int) throws(ShadowError) -> Int

  /// The secret, from the first r different indices among `shadows`.
  ///
  /// The digest of each shadow is checked before anything else is done with its bytes. Throws
  /// `notEnoughShadows`, `missingDigest`, `corruptShadow`, `inconsistentShadows`,
  /// `malformedShadow`, `impossibleThreshold` and, where the digests themselves were recorded of
  /// invented shadows, `contradictoryShadows`.
  func join(
    shadows: [Shadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> [UInt8]

  /// Shadow number `lost`, byte for byte as it was, from r others and without the secret.
  ///
  /// A shadow with the lost index among `shadows` is left aside. `expectedDigests` must hold the
  /// lost shadow's digest too: the result is checked against it. Throws as `join` does, and
  /// `indexOutOfRange`.
  func repair(
    lost: Int, shadows: [Shadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> Shadow
}

extension ShadowScheme {
  /// The shadows with their digests.
  public func split(
    secret: [UInt8], threshold: Int, shadowCount: Int, imageID: ImageID, epoch: UInt32,
    entropy: some Entropy
  ) throws(ShadowError) -> [Shadow] {
    try split(
      secret: secret, threshold: threshold, shadowCount: shadowCount, imageID: imageID,
      epoch: epoch, entropy: entropy, makesDigests: true)
  }

  /// 2 <= r < s <= 255 and r <= 8: an operator may change the scheme and nothing else.
  public func supports(threshold: Int, shadowCount: Int) -> Bool {
    (2...BaiScheme.maximumThreshold).contains(threshold) && threshold < shadowCount
      && shadowCount <= 255
  }
}

/// Throws `secretTooLarge`.
func checkSecretSize(_ byteCount: Int) throws(ShadowError) {
  guard byteCount <= BaiScheme.maximumSecretBytes else {
    throw .secretTooLarge(byteCount: UInt64(byteCount), maximum: BaiScheme.maximumSecretBytes)
  }
}

/// The first `need` shadows of different indices, each verified and of one image and epoch.
func selectShadows(
  _ shadows: [Shadow], need: Int, format: ShadowFormat, expectedDigests: [Int: [UInt8]],
  coreCount: Int
) throws(ShadowError) -> [Shadow] {
  var chosen: [Shadow] = []
  var seen: Set<Int> = []
  for shadow in shadows where seen.insert(shadow.index).inserted && chosen.count < need {
    chosen.append(shadow)
  }
  guard chosen.count == need else { throw .notEnoughShadows(have: chosen.count, need: need) }
  for (shadow, digest) in zip(chosen, digestsFromBytes(of: chosen, coreCount: coreCount)) {
    guard let expected = expectedDigests[shadow.index] else {
      throw .missingDigest(index: shadow.index)
    }
    guard digest == expected else { throw .corruptShadow(index: shadow.index) }
  }
  for shadow in chosen {
    guard shadow.header.format == format else { throw .malformedShadow(.unknownFormat) }
    guard shadow.header.belongsWith(chosen[0].header) else {
      throw .inconsistentShadows(index: shadow.index)
    }
  }
  return chosen
}

/// Throws `malformedShadow` where a body is not as long as the scheme makes it.
func checkBodies(of shadows: [Shadow], byteCount: Int) throws(ShadowError) {
  for shadow in shadows where shadow.body.count != byteCount {
    throw .malformedShadow(
      .wrongBodyLength(byteCount: shadow.body.count, expected: byteCount))
  }
}

/// A repaired shadow is what was recorded, or the others, whose digests were right, contradict each other.
func verifyRepaired(
  _ repaired: Shadow, _ expectedDigests: [Int: [UInt8]]
) throws(ShadowError) -> Shadow {
  guard let expected = expectedDigests[repaired.index] else {
    throw .missingDigest(index: repaired.index)
  }
  guard repaired.digest() == expected else { throw .contradictoryShadows }
  return repaired
}

/// The schemes that a cluster may use, by the name that the configuration and placement records have.
public enum ShadowSchemes {
  public static let names = ["bai", "krawczyk"]

  /// Nil for a name that this version does not know.
  public static func named(_ name: String, coreCount: Int = 1) -> (any ShadowScheme)? {
    switch name {
    case "bai": BaiScheme(coreCount: coreCount)
    case "krawczyk": KrawczykScheme(coreCount: coreCount)
    default: nil
    }
  }
}
