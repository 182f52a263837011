import Base

/// SHA-256 of shadows of one length under way: each takes its header, then the pieces of its body while they are in the cache.
///
/// Used by one caller at a time.
final class ShadowDigests: @unchecked Sendable {
  private let hashers: [SharedHasher]

  init(_ headers: [ShadowHeader]) {
    hashers = headers.map { header in
      let hasher = SharedHasher()
      header.bytes.withUnsafeBytes { hasher.update($0) }
      return hasher
    }
  }

  /// The next `byteCount` bytes of each body.
  func update(_ pieces: [UnsafePointer<UInt8>], byteCount: Int, coreCount: Int) {
    let pieces = SharedPointers(pieces)
    let count = hashers.count
    let share = max(1, (count + coreCount - 1) / coreCount)
    let starts = Array(stride(from: 0, to: count, by: share))
    onCores(starts.count) { part in
      for place in starts[part]..<min(starts[part] + share, count) {
        hashers[place].update(UnsafeRawBufferPointer(start: pieces[place], count: byteCount))
      }
    }
  }

  /// In the order of the headers; to be called once.
  func finalize() -> [[UInt8]] { hashers.map { $0.finalize() } }
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
