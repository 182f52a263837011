import Base

/// Shamir's sharing of a key, byte by byte over GF(2^8): any r of the values f(1), f(2), ... of a random
/// polynomial of degree r - 1 give f(0), and r - 1 of them say nothing about it.
///
/// Source: A. Shamir, How to share a secret, Communications of the ACM 22 (1979).
enum KeySharing {
  /// The shares of indices 1 to `shadowCount`, each as long as the key.
  static func split(
    _ key: [UInt8], threshold: Int, shadowCount: Int, entropy: some Entropy
  ) -> [[UInt8]] {
    var coefficients = entropy.bytes((threshold - 1) * key.count)
    defer { zero(&coefficients) }
    return (1...shadowCount).map { index in
      let x = UInt8(index)
      return key.indices.map { position in
        // Horner's rule, from the highest power down to the key itself.
        var value: UInt8 = 0
        for power in (0..<threshold - 1).reversed() {
          value = ByteField.multiply(value, x) ^ coefficients[power * key.count + position]
        }
        return ByteField.multiply(value, x) ^ key[position]
      }
    }
  }

  /// f(x) from r values: the key for x = 0, a lost share for its index.
  ///
  /// `indices` are different and 1 to 255; `shares` are as long as each other.
  static func value(at x: UInt8, indices: [Int], shares: [[UInt8]]) -> [UInt8] {
    let nodes = indices.map { UInt8($0) }
    var sum = [UInt8](repeating: 0, count: shares[0].count)
    for (node, share) in zip(nodes, shares) {
      var numerator: UInt8 = 1
      var denominator: UInt8 = 1
      for other in nodes where other != node {
        numerator = ByteField.multiply(numerator, x ^ other)
        denominator = ByteField.multiply(denominator, node ^ other)
      }
      let coefficient = ByteField.multiply(numerator, ByteField.inverse(denominator))
      for position in sum.indices {
        sum[position] ^= ByteField.multiply(coefficient, share[position])
      }
    }
    return sum
  }
}
