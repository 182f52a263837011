import Base

/// A shadow whose body lies somewhere: in memory, or in a file that nobody writes to meanwhile.
public struct StoredShadow: Sendable {
  public let header: ShadowHeader
  public let body: any RandomAccessBytes
  public let bodyByteCount: Int

  public init(header: ShadowHeader, body: any RandomAccessBytes, bodyByteCount: Int) {
    self.header = header
    self.body = body
    self.bodyByteCount = bodyByteCount
  }
}

/// What a scheme does for a join: any part of the secret.
protocol JoinEngine: AnyObject, Sendable {
  /// Writes the bytes of `range`, which begins at a multiple of ``ShadowJoiner/pieceBytes`` and ends within the secret.
  func join(
    _ range: Range<Int>, into target: UnsafeMutableRawBufferPointer
  ) throws(ShadowError)
}

/// Rebuilds a secret of any size in constant memory, from front to back, a piece at a time.
///
/// Every body was read once for its digest before there is a joiner, and is read again for the secret: at two or more places
/// at a time, and more than once where data shards are missing. What changed in between is not found here; whoever has a
/// digest of the secret checks it at the end. Used by one caller at a time; ``next()`` may block.
public final class ShadowJoiner: @unchecked Sendable {
  public let secretByteCount: Int
  /// Bytes of the secret that have been given out.
  public private(set) var position = 0

  private let engine: any JoinEngine
  private let pieceByteCount: Int

  /// Of a piece, for one core: whole blocks of every scheme.
  static let pieceBytes = 512 << 10

  init(secretByteCount: Int, engine: any JoinEngine, coreCount: Int) {
    self.secretByteCount = secretByteCount
    self.engine = engine
    pieceByteCount = Self.pieceBytes * max(1, coreCount / 2)
  }

  /// The next piece of the secret; nil at its end. Throws `contradictoryShadows` and what reading throws.
  public func next() throws(ShadowError) -> [UInt8]? {
    let range = position..<min(position + pieceByteCount, secretByteCount)
    if range.isEmpty { return nil }
    var failure: ShadowError?
    let piece = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
      do throws(ShadowError) {
        try engine.join(range, into: UnsafeMutableRawBufferPointer(buffer))
        count = range.count
      } catch { failure = error }
    }
    if let failure { throw failure }
    position = range.upperBound
    return piece
  }
}

/// SHA-256 of header and body of each, read a window at a time.
func digestsFromBytes(
  of shadows: [StoredShadow], coreCount: Int
) throws(ShadowError) -> [[UInt8]] {
  guard let byteCount = shadows.first?.bodyByteCount else { return [] }
  guard shadows.allSatisfy({ $0.bodyByteCount == byteCount }) else {
    var digests: [[UInt8]] = []
    for shadow in shadows { digests += try digestsFromBytes(of: [shadow], coreCount: 1) }
    return digests
  }
  let windowBytes = 64 << 10
  let window = UnsafeMutableRawBufferPointer.allocate(
    byteCount: windowBytes * shadows.count, alignment: 64)
  defer { window.deallocate() }
  let digests = ShadowDigests(shadows.map(\.header))
  for start in stride(from: 0, to: byteCount, by: windowBytes) {
    let count = min(windowBytes, byteCount - start)
    var pieces: [UnsafePointer<UInt8>] = []
    for (place, shadow) in shadows.enumerated() {
      let buffer = UnsafeMutableRawBufferPointer(
        rebasing: window[place * windowBytes..<place * windowBytes + count])
      try shadow.body.read(into: buffer, at: start)
      pieces.append(UnsafePointer(buffer.baseAddress!.assumingMemoryBound(to: UInt8.self)))
    }
    digests.update(pieces, byteCount: count, coreCount: coreCount)
  }
  return digests.finalize()
}
