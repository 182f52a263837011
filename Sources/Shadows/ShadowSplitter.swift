import Base

/// What a scheme does for a split: writes the bodies of all shadows from front to back, a step at a time.
///
/// Used by one caller at a time.
protocol SplitEngine: AnyObject {
  /// Writes the next bytes of every body and says how many, 0 where `capacity` does not hold a step or the bodies are complete.
  ///
  /// A step is so small that its bytes are in the cache when it returns.
  func step(
    into targets: [UnsafeMutablePointer<UInt8>], capacity: Int
  ) throws(ShadowError) -> Int
}

/// Splits a secret of any size in constant memory: the bodies of all shadows side by side, from front to back, a piece at a
/// time, and their digests at the end.
///
/// The secret is read at several places, not from front to back (`docs/formats`). What is held is
/// ``heldByteCount`` and a few hundred KiB a core. Used by one caller at a time, from any thread; ``next()`` may block as
/// long as the secret's and the scratch's reads and writes do.
public final class ShadowSplitter: @unchecked Sendable {
  /// Of shadows 1 to s.
  public let headers: [ShadowHeader]
  /// Of each body.
  public let bodyByteCount: Int
  /// Bytes of each body that have been given out.
  public private(set) var position = 0

  private let engine: any SplitEngine
  private let digesting: ShadowDigests
  private let coreCount: Int
  private let window: UnsafeMutableRawBufferPointer
  private let pieceByteCount: Int
  private var failure: ShadowError?

  /// Largest piece for one core. The engines' largest step fits.
  static let pieceBytes = 64 << 10

  init(
    headers: [ShadowHeader], bodyByteCount: Int, engine: any SplitEngine, coreCount: Int
  ) {
    self.headers = headers
    self.bodyByteCount = bodyByteCount
    self.engine = engine
    self.coreCount = coreCount
    digesting = ShadowDigests(headers)
    pieceByteCount = Self.pieceBytes * max(1, coreCount / 2)
    window = .allocate(byteCount: pieceByteCount * headers.count, alignment: 64)
  }

  deinit { window.deallocate() }

  /// Bytes of the window that the pieces pass through.
  public var heldByteCount: Int { window.count }

  /// The next piece of every body, all of one length; nil when the bodies are complete.
  ///
  /// After an error nothing more can be had.
  public func next() throws(ShadowError) -> [[UInt8]]? {
    let (pieces, byteCount) = try fill()
    return byteCount == 0
      ? nil : pieces.map { Array(UnsafeBufferPointer(start: $0, count: byteCount)) }
  }

  /// The same without a copy: lends the pieces, which are overwritten by the next call. False when the bodies are complete.
  public func withNext<Failure: Error>(
    _ body: ([UnsafeRawBufferPointer]) throws(Failure) -> Void
  ) throws -> Bool {
    let (pieces, byteCount) = try fill()
    if byteCount == 0 { return false }
    try body(pieces.map { UnsafeRawBufferPointer(start: $0, count: byteCount) })
    return true
  }

  /// SHA-256 of header and body of each shadow; to be called once, when the bodies are complete.
  public func finish() -> [[UInt8]] {
    precondition(position == bodyByteCount, "\(position) of \(bodyByteCount) bytes are done")
    return digesting.finalize()
  }

  private func fill() throws(ShadowError) -> ([UnsafeMutablePointer<UInt8>], Int) {
    let pieces = headers.indices.map {
      (window.baseAddress! + $0 * pieceByteCount).assumingMemoryBound(to: UInt8.self)
    }
    if let failure { throw failure }
    let wanted = min(pieceByteCount, bodyByteCount - position)
    var filled = 0
    while filled < wanted {
      let targets = pieces.map { $0 + filled }
      let count: Int
      do throws(ShadowError) {
        count = try engine.step(into: targets, capacity: wanted - filled)
      } catch {
        // What stands in the window is in the digests and was not given out.
        failure = error
        throw error
      }
      if count == 0 { break }
      digesting.update(
        targets.map { UnsafePointer($0) }, byteCount: count, coreCount: coreCount)
      filled += count
    }
    precondition(filled > 0 || wanted == 0, "a step of more than \(wanted) bytes")
    position += filled
    return (pieces, filled)
  }
}

/// The whole bodies at once, written where they stay.
///
/// `bodies` lends the memory to whoever makes the engine, which cannot fail.
func splitWhole(
  headers: [ShadowHeader], bodyByteCount: Int, coreCount: Int, makesDigests: Bool,
  makeEngine: ([UnsafeMutablePointer<UInt8>]) -> any SplitEngine
) -> [Shadow] {
  let digests = makesDigests ? ShadowDigests(headers) : nil
  let bodies = makeBodies(count: headers.count, byteCount: bodyByteCount) { bodies in
    let engine = makeEngine(bodies)
    var position = 0
    while position < bodyByteCount {
      let targets = bodies.map { $0 + position }
      let count: Int
      do throws(ShadowError) {
        count = try engine.step(into: targets, capacity: bodyByteCount - position)
      } catch { preconditionFailure("reading memory failed: \(error)") }
      precondition(count > 0, "a split came to \(position) of \(bodyByteCount) bytes")
      digests?.update(
        targets.map { UnsafePointer($0) }, byteCount: count, coreCount: coreCount)
      position += count
    }
  }
  let known = digests?.finalize()
  return headers.indices.map {
    Shadow(header: headers[$0], body: bodies[$0], digest: known?[$0])
  }
}

/// Bytes of each body that one step covers on one core, so that those of all s are in a second-level cache together.
func shardStepByteCount(shadowCount: Int) -> Int {
  max(4 << 10, min(32 << 10, (320 << 10) / shadowCount / 1024 * 1024))
}
