/// Why an index cannot take a code.
public enum HammingIndexError: Error, Sendable, Equatable {
  /// The code has bits set beyond the index's length.
  case codeTooLong(code: UInt64, bitCount: Int)
}

extension HammingIndexError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .codeTooLong(let code, let bitCount):
      return "The code \(String(code, radix: 16)) has more than the \(bitCount) bits of the index."
    }
  }
}
