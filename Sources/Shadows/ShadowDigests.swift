import Base
import CKernels

/// SHA-256 of shadows of one length under way: each takes its header, then the pieces of its body while they are in the cache.
///
/// Where the processor can, two are computed at once on a core, which takes little longer than one. Used by one caller at
/// a time.
final class ShadowDigests: @unchecked Sendable {
  private let lanes: DigestLanes?
  private let hashers: [SharedHasher]
  private let count: Int

  /// - Parameter usesLanes: false for OpenSSL's code whatever the processor can.
  init(_ headers: [ShadowHeader], usesLanes: Bool = true) {
    count = headers.count
    let hasLanes = usesLanes && sha256_lanes_supported() == 1
    lanes = hasLanes ? DigestLanes(count: count) : nil
    hashers = hasLanes ? [] : headers.map { _ in SharedHasher() }
    let bytes = headers.flatMap(\.bytes)
    bytes.withUnsafeBufferPointer { bytes in
      // An empty list has no header to point at.
      guard let start = bytes.baseAddress else { return }
      update(
        headers.indices.map { start + $0 * ShadowHeader.byteCount },
        byteCount: ShadowHeader.byteCount, coreCount: 1)
    }
  }

  /// The next `byteCount` bytes of each body.
  func update(_ pieces: [UnsafePointer<UInt8>], byteCount: Int, coreCount: Int) {
    let pieces = SharedPointers(pieces)
    // Whole pairs for each core.
    let share = max(2, (count + 2 * coreCount - 1) / (2 * coreCount) * 2)
    let starts = Array(stride(from: 0, to: count, by: share))
    onCores(starts.count) { part in
      let range = starts[part]..<min(starts[part] + share, count)
      if let lanes {
        lanes.update(range, pieces, byteCount)
      } else {
        for place in range {
          hashers[place].update(UnsafeRawBufferPointer(start: pieces[place], count: byteCount))
        }
      }
    }
    lanes?.advance(byteCount)
  }

  /// In the order of the headers; to be called once.
  func finalize() -> [[UInt8]] { lanes?.finalize() ?? hashers.map { $0.finalize() } }
}

/// Holds what cannot be copied, so that there may be an array of them.
private final class SharedHasher {
  private var hasher: SHA256Hasher? = SHA256Hasher()

  func update(_ bytes: UnsafeRawBufferPointer) { hasher?.update(bytes) }

  func finalize() -> [UInt8] {
    guard let hasher = hasher.take() else { preconditionFailure("a digest is asked for twice") }
    return hasher.finalize()
  }
}

/// Messages of one length (FIPS 180-4), which have always come equally far.
private final class DigestLanes {
  private static let blockBytes = Int(SHA256_BLOCK_BYTES)
  private static let stateWords = 8
  /// FIPS 180-4, 5.3.3.
  private static let initialState: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab,
    0x5be0_cd19,
  ]

  private let count: Int
  private let states: UnsafeMutablePointer<UInt32>
  /// Of each message, bytes that do not make a block yet.
  private let pending: UnsafeMutablePointer<UInt8>
  private var byteCount = 0

  init(count: Int) {
    self.count = count
    states = .allocate(capacity: count * Self.stateWords)
    pending = .allocate(capacity: count * Self.blockBytes)
    for place in 0..<count {
      states.advanced(by: place * Self.stateWords)
        .update(from: Self.initialState, count: Self.stateWords)
    }
  }

  deinit {
    states.deallocate()
    pending.deallocate()
  }

  /// Takes bytes into some of the messages; ``advance(_:)`` follows when all have them.
  func update(_ places: Range<Int>, _ pieces: SharedPointers, _ pieceByteCount: Int) {
    let kept = byteCount % Self.blockBytes
    let completing = min(pieceByteCount, (Self.blockBytes - kept) % Self.blockBytes)
    for place in places { keep(pieces[place], completing, at: kept, of: place) }
    if completing > 0, kept + completing == Self.blockBytes {
      compress(places, blockCount: 1) { UnsafePointer(block(of: $0)) }
    }
    let blockCount = (pieceByteCount - completing) / Self.blockBytes
    compress(places, blockCount: blockCount) { pieces[$0] + completing }
    let done = completing + blockCount * Self.blockBytes
    if done < pieceByteCount {
      for place in places { keep(pieces[place] + done, pieceByteCount - done, at: 0, of: place) }
    }
  }

  func advance(_ pieceByteCount: Int) { byteCount += pieceByteCount }

  func finalize() -> [[UInt8]] {
    let kept = byteCount % Self.blockBytes
    let bitCount = UInt64(byteCount) * 8
    return (0..<count).map { place in
      var last = [UInt8](UnsafeBufferPointer(start: block(of: place), count: kept))
      last.append(0x80)
      last += [UInt8](repeating: 0, count: (2 * Self.blockBytes - 8 - last.count) % Self.blockBytes)
      last.append(bigEndian: bitCount)
      let state = state(of: place)
      sha256_compress(state, last, last.count / Self.blockBytes)
      var digest: [UInt8] = []
      for word in 0..<Self.stateWords { digest.append(bigEndian: state[word]) }
      return digest
    }
  }

  private func state(of place: Int) -> UnsafeMutablePointer<UInt32> {
    states + place * Self.stateWords
  }

  private func block(of place: Int) -> UnsafeMutablePointer<UInt8> {
    pending + place * Self.blockBytes
  }

  private func keep(
    _ bytes: UnsafePointer<UInt8>, _ byteCount: Int, at offset: Int, of place: Int
  ) {
    (block(of: place) + offset).update(from: bytes, count: byteCount)
  }

  private func compress(
    _ places: Range<Int>, blockCount: Int, _ blocks: (Int) -> UnsafePointer<UInt8>
  ) {
    if blockCount == 0 { return }
    for place in stride(from: places.lowerBound, to: places.upperBound, by: 2) {
      if place + 1 < places.upperBound {
        sha256_compress_two(
          state(of: place), blocks(place), state(of: place + 1), blocks(place + 1), blockCount)
      } else {
        sha256_compress(state(of: place), blocks(place), blockCount)
      }
    }
  }
}

/// Pointers that several cores read through.
struct SharedPointers: @unchecked Sendable {
  private let pointers: [UnsafePointer<UInt8>]

  init(_ pointers: [UnsafePointer<UInt8>]) { self.pointers = pointers }

  subscript(_ place: Int) -> UnsafePointer<UInt8> { pointers[place] }
}

/// SHA-256 of header and body of each, whatever the shadows know about themselves.
func digestsFromBytes(of shadows: [Shadow], coreCount: Int) -> [[UInt8]] {
  guard let first = shadows.first else { return [] }
  let isEven = shadows.allSatisfy { $0.body.count == first.body.count }
  guard isEven, !first.body.isEmpty else { return shadows.map { $0.computedDigest() } }
  let digests = ShadowDigests(shadows.map(\.header))
  withBodies(shadows) {
    digests.update($0, byteCount: first.body.count, coreCount: coreCount)
  }
  return digests.finalize()
}
