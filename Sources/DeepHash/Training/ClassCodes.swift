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
    let all = counts.reduce(0, +)
    guard let bits = sums.first?.count else { return [] }
    let totals = (0..<bits).map { bit in sums.reduce(0) { $0 + $1[bit] } }
    return sums.indices.map { index in
      let (inside, outside) = (counts[index], all - counts[index])
      return (0..<bits).map { bit in
        let (sum, rest) = (sums[index][bit], totals[bit] - sums[index][bit])
        let difference =
          inside == 0 ? -totals[bit] : outside == 0 ? sum : sum * outside - rest * inside
        return difference >= 0 ? 1 : -1
      }
    }
  }

  /// Codes as far apart as codes of as many classes can be: [class][l], +1 or -1.
  ///
  /// Rows of a Hadamard matrix without its constant column, repeated to the length: of m - 1 bits, m the next power of
  /// two, any two differ in m / 2 (Plotkin's bound). Columns are taken in order, so that a few of a repetition still differ.
  public static func equidistant(classes: Int, bits: Int) -> [[Float]] {
    var order = 2
    while order < classes { order *= 2 }
    return (0..<classes).map { row in
      (0..<bits).map { bit in
        ((row & (bit % (order - 1) + 1)).nonzeroBitCount & 1) == 0 ? 1 : -1
      }
    }
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
