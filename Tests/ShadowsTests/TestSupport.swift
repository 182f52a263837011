import Base
import Shadows

/// SHAKE-256 (FIPS 202) as an endless stream: the generator of the reference vectors.
struct ShakeStream: MatrixByteSource {
  private var state = [UInt64](repeating: 0, count: 25)
  private var available = 0
  private static let rateBytes = 136

  init(seed: String) { self.init(seed: Array(seed.utf8)) }

  init(seed: [UInt8]) {
    precondition(seed.count < Self.rateBytes, "a seed of one block")
    var block = seed + [0x1F] + [UInt8](repeating: 0, count: Self.rateBytes - seed.count - 1)
    block[Self.rateBytes - 1] ^= 0x80
    for (position, byte) in block.enumerated() {
      state[position / 8] ^= UInt64(byte) << (8 * (position % 8))
    }
    permute()
    available = Self.rateBytes
  }

  mutating func next() -> UInt8 {
    if available == 0 {
      permute()
      available = Self.rateBytes
    }
    let position = Self.rateBytes - available
    available -= 1
    return UInt8(truncatingIfNeeded: state[position / 8] >> (8 * (position % 8)))
  }

  mutating func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    for position in buffer.indices { buffer[position] = next() }
  }

  mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in next() } }

  private mutating func permute() {
    var register: UInt8 = 1
    for _ in 0..<24 {
      theta()
      rhoPiChi()
      for j in 0..<7 {
        if register & 1 == 1 { state[0] ^= 1 << ((1 << UInt64(j)) - 1) }
        register = register & 0x80 == 0 ? register << 1 : register << 1 ^ 0x71
      }
    }
  }

  private mutating func theta() {
    let parity = (0..<5).map { x in (0..<5).reduce(UInt64(0)) { $0 ^ state[x + 5 * $1] } }
    for x in 0..<5 {
      let right = parity[(x + 1) % 5]
      let change = parity[(x + 4) % 5] ^ (right << 1 | right >> 63)
      for y in 0..<5 { state[x + 5 * y] ^= change }
    }
  }

  private mutating func rhoPiChi() {
    var (x, y) = (1, 0)
    var current = state[1]
    for step in 1...24 {
      (x, y) = (y, (2 * x + 3 * y) % 5)
      let shift = UInt64(step * (step + 1) / 2 % 64)
      let rotated = current << shift | current >> ((64 - shift) % 64)
      current = state[x + 5 * y]
      state[x + 5 * y] = rotated
    }
    for y in 0..<5 {
      let row = Array(state[5 * y..<5 * y + 5])
      for x in 0..<5 { state[x + 5 * y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]) }
    }
  }
}

/// Entropy from a seed; for one thread.
final class SeededEntropy: Entropy, @unchecked Sendable {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    for position in buffer.indices { buffer[position] = UInt8(truncatingIfNeeded: next() >> 24) }
  }

  /// SplitMix64.
  func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }

  func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

  func subset(of indices: [Int], count: Int) -> [Int] {
    var rest = indices
    return (0..<count).map { _ in rest.remove(at: below(rest.count)) }
  }
}

/// Given bytes first, another source after them.
struct PrefixedSource<Rest: MatrixByteSource>: MatrixByteSource {
  var prefix: [UInt8]
  var rest: Rest

  mutating func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    let count = min(prefix.count, buffer.count)
    buffer.copyBytes(from: prefix.prefix(count))
    prefix.removeFirst(count)
    rest.fill(UnsafeMutableRawBufferPointer(rebasing: buffer[count...]))
  }
}

func digests(of shadows: [Shadow]) -> [Int: [UInt8]] {
  Dictionary(uniqueKeysWithValues: shadows.map { ($0.index, $0.digest()) })
}

func combinations(_ indices: [Int], _ count: Int) -> [[Int]] {
  if count == 0 { return [[]] }
  return indices.indices.flatMap { first in
    combinations(Array(indices[(first + 1)...]), count - 1).map { [indices[first]] + $0 }
  }
}

let sequentialID = ImageID(Array(0..<16))!
