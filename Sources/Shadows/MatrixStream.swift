import Base
import CKernels
import COpenSSL

/// Where the bytes of the random matrices come from, in order.
package protocol MatrixByteSource: Sendable {
  mutating func fill(_ buffer: UnsafeMutableRawBufferPointer)
}

/// The key stream of AES-256-CTR under 32 fresh bytes of entropy.
///
/// The kernel's generator gives a few hundred MB/s and the matrices need as many bytes as the
/// secret has: one key per split costs one call to the kernel instead. Under the assumption that
/// AES-256 is a pseudorandom permutation, which the mask of the remainder needs as well, the
/// stream cannot be told from random bytes.
package struct CounterModeBytes: MatrixByteSource {
  private let key: SecretBytes
  private var nextBlock: UInt64 = 0

  package init(entropy: some Entropy) {
    key = SecretBytes(randomCount: 32, entropy: entropy)
  }

  package mutating func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    buffer.initializeMemory(as: UInt8.self, repeating: 0)
    key.withBytes {
      AES256CTR.apply(inPlace: buffer, key: $0, counter: counterBlock(nextBlock))
    }
    // A part of a 16-byte block that was not asked for is dropped, never used twice.
    nextBlock += UInt64((buffer.count + 15) / 16)
  }
}

/// The 16-byte big-endian counter block of a position in a key stream.
func counterBlock(_ block: UInt64) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 8)
  bytes.reserveCapacity(16)
  bytes.append(bigEndian: block)
  return bytes
}

/// Random matrices for up to sixteen blocks at a time, in the order of the byte source.
///
/// Block after block takes its elements from the stream, and a block that is drawn again takes the
/// ones right after those it refused. Lanes are filled ahead of knowing which will be refused, so
/// what lies behind a refused lane is read once more.
struct MatrixStream<Source: MatrixByteSource> {
  private var source: Source
  private let buffer: UnsafeMutableRawBufferPointer
  private var position: Int
  /// Bytes of the buffer up to the end of each lane of the last draw, counted from `position`.
  private var consumed = [Int](repeating: 0, count: Int(FIELD65537_LANES))

  /// Sixteen lanes of rank 8 take 12 KiB on average.
  private static var bufferBytes: Int { 64 * 1024 }

  /// Holds what must be given back with ``release()``.
  init(source: Source) {
    self.source = source
    buffer = .allocate(byteCount: Self.bufferBytes, alignment: 64)
    position = buffer.count
  }

  func release() {
    sfm_zero(buffer.baseAddress, buffer.count)
    buffer.deallocate()
  }

  /// Bytes for other uses than matrices, ahead of the ones buffered here.
  mutating func fillDirectly(_ target: UnsafeMutableRawBufferPointer) { source.fill(target) }

  /// Fills up to `limit` lanes and returns how many, at least one.
  mutating func draw(
    into lanes: UnsafeMutablePointer<field65537_lanes>, rank: Int, limit: Int
  ) -> Int {
    var drawn = attempt(lanes, rank, limit)
    if drawn < limit {
      refill()
      drawn = attempt(lanes, rank, limit)
    }
    precondition(drawn > 0, "\(buffer.count) random bytes hold no \(rank * 16) field elements")
    return drawn
  }

  /// Moves on behind the first `lanes` lanes of the last draw.
  mutating func consume(lanes: Int) {
    position += consumed[lanes - 1]
  }

  private mutating func attempt(
    _ lanes: UnsafeMutablePointer<field65537_lanes>, _ rank: Int, _ limit: Int
  ) -> Int {
    guard position < buffer.count else { return 0 }
    let bytes = buffer.baseAddress!.advanced(by: position).assumingMemoryBound(to: UInt8.self)
    return field65537_draw(lanes, rank, limit, bytes, buffer.count - position, &consumed)
  }

  private mutating func refill() {
    let kept = buffer.count - position
    buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[position...]))
    source.fill(UnsafeMutableRawBufferPointer(rebasing: buffer[kept...]))
    position = 0
  }
}
