import Base

/// What a scheme does for a repair: the bytes of the lost body at a place, from those of r others at the same place.
protocol RepairEngine: Sendable {
  /// `range` begins at a multiple of 64 and ends at one or at the body's end; `sources` and `target` stand at its start. False where no split
  /// can have made these bytes.
  func repair(
    _ range: Range<Int>, from sources: [UnsafePointer<UInt8>],
    into target: UnsafeMutablePointer<UInt8>
  ) -> Bool
}

/// Makes a lost shadow anew in constant memory, from the bodies of r others as they come in, from front to back.
///
/// Nothing is known about the bytes until ``finish()`` has compared all digests, those of the r bodies and of the new one:
/// until then what comes out must not count as stored anywhere. Used by one caller at a time.
public final class ShadowRepairer: @unchecked Sendable {
  /// Of the lost shadow.
  public let header: ShadowHeader
  public let bodyByteCount: Int
  /// Indices of the r shadows, in the order in which ``next(_:)`` takes their pieces.
  public let indices: [Int]
  /// Bytes of the new body that have been given out.
  public private(set) var position = 0

  private let engine: any RepairEngine
  private let expectedDigests: [[UInt8]]
  private let sourceDigests: ShadowDigests
  private let ownDigest: ShadowDigests
  private let coreCount: Int
  private var isContradictory = false

  static let pieceBytes = 64 << 10

  /// - Parameter expectedDigests: of the sources in order, then of the lost one.
  init(
    lost: ShadowHeader, sources: [ShadowHeader], bodyByteCount: Int, engine: any RepairEngine,
    expectedDigests: [[UInt8]], coreCount: Int
  ) {
    header = lost
    indices = sources.map(\.index)
    self.bodyByteCount = bodyByteCount
    self.engine = engine
    self.expectedDigests = expectedDigests
    self.coreCount = coreCount
    sourceDigests = ShadowDigests(sources)
    ownDigest = ShadowDigests([lost])
  }

  /// Bytes of each body that ``next(_:)`` takes now; 0 when the new body is complete.
  public var nextByteCount: Int { min(Self.pieceBytes, bodyByteCount - position) }

  /// The next piece of the new body from those of the r others, each of ``nextByteCount`` bytes.
  public func next(_ pieces: [[UInt8]]) -> [UInt8] {
    let count = nextByteCount
    precondition(
      count > 0 && pieces.count == indices.count && pieces.allSatisfy { $0.count == count },
      "\(pieces.map(\.count)) bytes where \(indices.count) times \(count) are next")
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      withArrays(pieces) { sources in
        step(sources, count, buffer.baseAddress!)
      }
      initialized = count
    }
  }

  private func step(
    _ sources: [UnsafePointer<UInt8>], _ count: Int, _ target: UnsafeMutablePointer<UInt8>
  ) {
    let isGood = engine.repair(position..<position + count, from: sources, into: target)
    isContradictory = isContradictory || !isGood
    sourceDigests.update(sources, byteCount: count, coreCount: coreCount)
    ownDigest.update([UnsafePointer(target)], byteCount: count, coreCount: 1)
    position += count
  }

  /// To be called once, when the new body is complete. Throws `corruptShadow` for the first of the r bodies that is not the
  /// recorded one, and `contradictoryShadows` where they are and the new one is not.
  public func finish() throws(ShadowError) {
    precondition(position == bodyByteCount, "\(position) of \(bodyByteCount) bytes are done")
    let digests = sourceDigests.finalize()
    for (place, index) in indices.enumerated() where digests[place] != expectedDigests[place] {
      throw .corruptShadow(index: index)
    }
    guard !isContradictory, ownDigest.finalize()[0] == expectedDigests[indices.count] else {
      throw .contradictoryShadows
    }
  }
}

/// The lost shadow from r others that are in memory and verified.
func repairWhole(
  header: ShadowHeader, bodyByteCount: Int, sources: [Shadow], engine: any RepairEngine,
  expectedDigests: [Int: [UInt8]]
) throws(ShadowError) -> Shadow {
  let ownDigest = ShadowDigests([header])
  var isGood = true
  let body = [UInt8](unsafeUninitializedCapacity: bodyByteCount) { buffer, count in
    preferLargePages(UnsafeMutableRawBufferPointer(buffer))
    withBodies(sources) { bodies in
      for start in stride(from: 0, to: bodyByteCount, by: ShadowRepairer.pieceBytes) where isGood {
        let range = start..<min(start + ShadowRepairer.pieceBytes, bodyByteCount)
        let target = buffer.baseAddress! + start
        isGood = engine.repair(range, from: bodies.map { $0 + start }, into: target)
        ownDigest.update([UnsafePointer(target)], byteCount: range.count, coreCount: 1)
      }
    }
    // Nothing of a contradictory set is handed out, so nothing of it counts as written.
    count = isGood ? bodyByteCount : 0
  }
  guard isGood else { throw .contradictoryShadows }
  guard let expected = expectedDigests[header.index] else {
    throw .missingDigest(index: header.index)
  }
  let digest = ownDigest.finalize()[0]
  // The others' digests were right, so they contradict each other where the result is not what was recorded.
  guard digest == expected else { throw .contradictoryShadows }
  return Shadow(header: header, body: body, digest: digest)
}
