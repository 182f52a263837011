internal import CKernels

/// Codes in chunks of fixed size, for scanning all of them; copy-on-write copies one chunk.
struct CodeArray: Sendable {
  private static let chunkBits = 12
  /// The first block of a scan is short, because until k hits are known every code is one.
  private static let firstBlockCount = 64

  private var chunks: [[UInt64]] = []
  private(set) var count = 0

  /// Adds a code and gives its slot.
  mutating func append(_ code: UInt64) -> Int {
    if count & (1 << Self.chunkBits - 1) == 0 {
      var chunk: [UInt64] = []
      // A table of few codes stays small; only the chunks after the first are full-sized from the start.
      if count > 0 { chunk.reserveCapacity(1 << Self.chunkBits) }
      chunks.append(chunk)
    }
    chunks[count >> Self.chunkBits].append(code)
    count += 1
    return count - 1
  }

  /// Removes the code of a slot by moving the last one into it; gives the moved code, if any.
  mutating func remove(slot: Int) -> UInt64? {
    precondition(slot < count, "slot \(slot) of \(count)")
    count -= 1
    let last = chunks[count >> Self.chunkBits].removeLast()
    if chunks[count >> Self.chunkBits].isEmpty { chunks.removeLast() }
    if slot == count { return nil }
    chunks[slot >> Self.chunkBits][slot & (1 << Self.chunkBits - 1)] = last
    return last
  }

  /// Shows every code that may lie within a radius; `body` gives the radius to go on with.
  func scan(_ query: UInt64, radius: Int, body: (_ code: UInt64, _ distance: Int) -> Int) {
    var radius = radius
    var blockCount = Self.firstBlockCount
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 1 << Self.chunkBits) { positions in
      for chunk in chunks {
        chunk.withUnsafeBufferPointer { codes in
          guard let base = codes.baseAddress, let positionsBase = positions.baseAddress else {
            return
          }
          var begin = 0
          while begin < codes.count {
            let length = min(blockCount, codes.count - begin)
            let found = sfmedir_codes_within(
              base + begin, length, query, UInt32(radius), positionsBase)
            for position in positions[..<found] {
              let code = codes[begin + Int(position)]
              let distance = (code ^ query).nonzeroBitCount
              if distance <= radius { radius = body(code, distance) }
            }
            begin += length
            blockCount = min(2 * blockCount, 1 << Self.chunkBits)
          }
        }
      }
    }
  }
}
