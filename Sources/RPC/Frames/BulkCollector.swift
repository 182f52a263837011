/// Memory for announced raw bytes, filled in order as they come.
///
/// A liar who announces much and sends little gets memory for little: it grows with what has come.
final class BulkCollector {
  /// Bytes announced.
  let expected: Int
  /// Bytes that have come.
  private(set) var filled = 0
  private var bytes: [UInt8]

  private static let firstBytes = 4 << 20

  init(expected: Int) {
    self.expected = expected
    bytes = Self.uninitialized(min(expected, Self.firstBytes))
  }

  var remaining: Int { expected - filled }

  /// What came, once all has.
  func take() -> [UInt8] {
    precondition(filled == expected, "\(filled) of \(expected) bytes have come")
    defer { bytes = [] }
    return bytes
  }

  /// Lets `body` put at most `count` bytes; it returns how many it put.
  func withRoom(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
    precondition(count <= remaining, "\(count) bytes where \(remaining) are due")
    if filled + count > bytes.count { grow(filled + count) }
    let start = filled
    let put = bytes.withUnsafeMutableBytes {
      body(UnsafeMutableRawBufferPointer(rebasing: $0[start..<start + count]))
    }
    filled += put
    return put
  }

  private func grow(_ needed: Int) {
    var larger = Self.uninitialized(min(expected, max(needed, 2 * bytes.count)))
    larger.withUnsafeMutableBytes { target in
      bytes.withUnsafeBytes {
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<filled]))
      }
    }
    bytes = larger
  }

  private static func uninitialized(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { $1 = count }
  }
}
