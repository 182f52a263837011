import Base

/// SHA-256 of s shadows under way: each takes its header, then the pieces of its body while they are in the cache.
///
/// Used by one caller at a time.
final class ShadowDigests: @unchecked Sendable {
  /// Holds what cannot be copied, so that there may be an array of them.
  private final class State {
    var hasher: SHA256Hasher? = SHA256Hasher()

    func update(_ bytes: UnsafeRawBufferPointer) { hasher?.update(bytes) }

    func finalize() -> [UInt8] {
      guard let hasher = hasher.take() else { preconditionFailure("a digest is asked for twice") }
      return hasher.finalize()
    }
  }

  private let states: [State]

  init(_ headers: [ShadowHeader]) {
    states = headers.map { _ in State() }
    for (state, header) in zip(states, headers) {
      header.bytes.withUnsafeBytes { state.update($0) }
    }
  }

  /// The next `byteCount` bytes of each body.
  func update(_ pieces: [UnsafePointer<UInt8>], byteCount: Int, coreCount: Int) {
    let pieces = SharedPointers(pieces)
    let share = (states.count + coreCount - 1) / coreCount
    let starts = Array(stride(from: 0, to: states.count, by: share))
    onCores(starts.count) { part in
      for place in starts[part]..<min(starts[part] + share, states.count) {
        states[place].update(UnsafeRawBufferPointer(start: pieces[place], count: byteCount))
      }
    }
  }

  /// In the order of the headers; to be called once.
  func finalize() -> [[UInt8]] { states.map { $0.finalize() } }
}

/// Pointers that several cores read through.
struct SharedPointers: @unchecked Sendable {
  private let pointers: [UnsafePointer<UInt8>]

  init(_ pointers: [UnsafePointer<UInt8>]) { self.pointers = pointers }

  subscript(_ place: Int) -> UnsafePointer<UInt8> { pointers[place] }
}
