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

  /// A join in constant memory. Reads all bodies for their digests, and throws as `join` does.
  func joiner(
    shadows: [StoredShadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ShadowJoiner

  /// Shadow number `lost`, byte for byte as it was, from r others and without the secret.
  ///
  /// A shadow with the lost index among `shadows` is left aside. `expectedDigests` must hold the
  /// lost shadow's digest too: the result is checked against it. Throws as `join` does, and
  /// `indexOutOfRange`.
  func repair(
    lost: Int, shadows: [Shadow], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> Shadow

  /// A repair in constant memory from r of the shadows with these headers, whose bodies come from front to back.
  ///
  /// Throws `indexOutOfRange`, `impossibleThreshold`, `notEnoughShadows`, `inconsistentShadows`, `malformedShadow`,
  /// `secretTooLarge` and `missingDigest`.
  func repairer(
    lost: Int, headers: [ShadowHeader], threshold: Int, expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) -> ShadowRepairer
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

/// What selecting needs to know of a shadow, wherever its body is.
protocol HeadedShadow {
  var header: ShadowHeader { get }
  var bodyByteCount: Int { get }
}

extension Shadow: HeadedShadow {
  var bodyByteCount: Int { body.count }
}

extension StoredShadow: HeadedShadow {}

/// The first `need` shadows of different indices, each verified and of one image and epoch.
func selectShadows<Part: HeadedShadow>(
  _ shadows: [Part], need: Int, format: ShadowFormat, expectedDigests: [Int: [UInt8]],
  digests: ([Part]) throws(ShadowError) -> [[UInt8]]
) throws(ShadowError) -> [Part] {
  let chosen = try firstShadows(shadows, need: need)
  for (shadow, digest) in zip(chosen, try digests(chosen)) {
    let index = shadow.header.index
    guard let expected = expectedDigests[index] else { throw .missingDigest(index: index) }
    guard digest == expected else { throw .corruptShadow(index: index) }
  }
  try checkHeaders(chosen.map(\.header), format: format)
  return chosen
}

/// Throws `notEnoughShadows`; an index counts once.
private func firstShadows<Part: HeadedShadow>(
  _ shadows: [Part], need: Int
) throws(ShadowError) -> [Part] {
  var chosen: [Part] = []
  var seen: Set<Int> = []
  for shadow in shadows
  where seen.insert(shadow.header.index).inserted && chosen.count < need {
    chosen.append(shadow)
  }
  guard chosen.count == need else { throw .notEnoughShadows(have: chosen.count, need: need) }
  return chosen
}

private func checkHeaders(
  _ headers: [ShadowHeader], format: ShadowFormat
) throws(ShadowError) {
  for header in headers {
    guard header.format == format else { throw .malformedShadow(.unknownFormat) }
    guard header.belongsWith(headers[0]) else { throw .inconsistentShadows(index: header.index) }
  }
}

/// Throws `malformedShadow` where a body is not as long as the scheme makes it.
func checkBodies(of shadows: [some HeadedShadow], byteCount: Int) throws(ShadowError) {
  for shadow in shadows where shadow.bodyByteCount != byteCount {
    throw .malformedShadow(
      .wrongBodyLength(byteCount: shadow.bodyByteCount, expected: byteCount))
  }
}

/// What a repair needs to know before it sees a body.
struct RepairPlan {
  let lost: ShadowHeader
  let sources: [ShadowHeader]
  /// Of the sources in order, then of the lost one.
  let digests: [[UInt8]]

  /// A header with the lost index among `headers` is left aside.
  init(
    lost: Int, headers: [ShadowHeader], threshold: Int, format: ShadowFormat,
    expectedDigests: [Int: [UInt8]]
  ) throws(ShadowError) {
    guard (1...255).contains(lost) else { throw .indexOutOfRange(lost) }
    guard (2...BaiScheme.maximumThreshold).contains(threshold) else {
      throw .impossibleThreshold(threshold: threshold, shadowCount: headers.count)
    }
    struct Candidate: HeadedShadow {
      let header: ShadowHeader
      var bodyByteCount: Int { 0 }
    }
    let others = headers.filter { $0.index != lost }.map { Candidate(header: $0) }
    sources = try firstShadows(others, need: threshold).map(\.header)
    try checkHeaders(sources, format: format)
    self.lost = try sources[0].with(index: lost)
    var digests: [[UInt8]] = []
    for index in sources.map(\.index) + [lost] {
      guard let digest = expectedDigests[index] else { throw .missingDigest(index: index) }
      digests.append(digest)
    }
    self.digests = digests
  }
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
