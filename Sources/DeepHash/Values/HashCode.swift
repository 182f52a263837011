/// A binary hash code of up to 64 bits.
///
/// Bit k of ``bits`` is 1 where output k of the network is not negative, so sign(0) counts as +1; bits
/// from ``length`` upwards are 0.
public struct HashCode: Hashable, Sendable {
  /// Longest code that fits one word.
  public static let maximumLength = 64

  /// The code, output k of the network in bit k.
  public let bits: UInt64
  /// Number of bits that count, l.
  public let length: Int

  /// Makes a code from its bits; those from `length` upwards must be 0.
  public init(bits: UInt64, length: Int) {
    precondition((1...Self.maximumLength).contains(length), "a code of \(length) bits")
    precondition(
      length == Self.maximumLength || bits >> UInt64(length) == 0,
      "\(String(bits, radix: 16)) has bits beyond \(length)")
    self.bits = bits
    self.length = length
  }

  /// Takes the signs of a network's l outputs.
  public init(outputs: some Collection<Float>) {
    var bits: UInt64 = 0
    for (index, output) in outputs.enumerated() where output >= 0 {
      bits |= 1 << UInt64(index)
    }
    self.init(bits: bits, length: outputs.count)
  }

  /// Number of positions in which two codes of the same length differ.
  public func hammingDistance(to other: HashCode) -> Int {
    precondition(length == other.length, "codes of \(length) and \(other.length) bits")
    return (bits ^ other.bits).nonzeroBitCount
  }
}

extension HashCode: CustomStringConvertible {
  /// The bits as 0 and 1, output 0 first.
  public var description: String {
    String((0..<length).map { bits >> UInt64($0) & 1 == 1 ? "1" : "0" })
  }
}
