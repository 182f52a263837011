internal import Base

/// How the codes of the classes come about, towards which training pulls and attacks push.
public enum ClassCodes {
  /// The context-aware code of each class (SAAT's mainstay code; paper, Eq. 1): sign(mean of its codes - mean of all
  /// others), from sums of signs, in integers, so that ties are ties; sign(0) = +1.
  ///
  /// Where a class has everything, the sign of its sum; where it has nothing, the opposite of the sum of all.
  /// - Parameters:
  ///   - sums: of the codes' signs, +1 or -1, for each class: [class][l].
  ///   - counts: images of each class.
  public static func mainstay(sums: [[Int]], counts: [Int]) -> [[Float]] {
    var codes = sums.map { [Float](repeating: 1, count: $0.count) }
    putMainstay(sums: sums, counts: counts, into: &codes)
    return codes
  }

  /// The same where there are codes already.
  static func putMainstay(sums: [[Int]], counts: [Int], into codes: inout [[Float]]) {
    precondition(
      codes.count == sums.count && zip(codes, sums).allSatisfy { $0.count == $1.count },
      "codes of another form")
    let all = counts.reduce(0, +)
    for bit in 0..<(sums.first?.count ?? 0) {
      let total = sums.reduce(0) { $0 + $1[bit] }
      for index in sums.indices {
        let (inside, outside) = (counts[index], all - counts[index])
        let (sum, rest) = (sums[index][bit], total - sums[index][bit])
        let difference =
          inside == 0 ? -total : outside == 0 ? sum : sum * outside - rest * inside
        codes[index][bit] = difference >= 0 ? 1 : -1
      }
    }
  }

  /// Codes far apart from one another: [class][l], +1 or -1. There have to be that many codes of l bits.
  ///
  /// Where the length suffices, rows of a Hadamard matrix without its constant column, repeated to the length: of m - 1 bits, m the next
  /// power of two, any two differ in m / 2, which is the most that is possible (Plotkin's bound). For more classes each code is
  /// the one of many drawn, always the same, that is farthest from those before it.
  public static func equidistant(classes: Int, bits: Int) -> [[Float]] {
    var order = 2
    while order < classes { order *= 2 }
    if order - 1 > bits { return farthest(classes: classes, bits: bits) }
    return (0..<classes).map { row in
      (0..<bits).map { bit in
        ((row & (bit % (order - 1) + 1)).nonzeroBitCount & 1) == 0 ? 1 : -1
      }
    }
  }

  /// Codes of fewer bits are all looked at, of others so many.
  private static let lookedAtBits = 12

  private static func farthest(classes: Int, bits: Int) -> [[Float]] {
    let mask = bits == 64 ? UInt64.max : 1 << UInt64(bits) - 1
    var dice = SplitMix64(seed: UInt64(bits))
    let candidates =
      bits <= lookedAtBits
      ? Array(0...mask) : (0..<1 << lookedAtBits).map { _ in dice.next() & mask }
    var distances = [Int](repeating: .max, count: candidates.count)
    var chosen: [UInt64] = []
    for _ in 0..<classes {
      let best = distances.indices.max { distances[$0] < distances[$1] } ?? 0
      let code = candidates[best]
      chosen.append(code)
      for at in candidates.indices {
        distances[at] = min(distances[at], (candidates[at] ^ code).nonzeroBitCount)
      }
    }
    return chosen.map { code in (0..<bits).map { code >> UInt64($0) & 1 == 1 ? 1 : -1 } }
  }

  /// The smallest number of bits in which two of the codes differ.
  public static func smallestDistance(_ codes: [[Float]]) -> Int {
    var smallest = Int.max
    for (index, code) in codes.enumerated() {
      for other in codes[..<index] {
        smallest = min(smallest, zip(code, other).count { $0 * $1 < 0 })
      }
    }
    return smallest
  }
}
