import Base
import Glibc

/// Reproducible "random" bytes for tests (splitmix64); never for anything that has to be secret.
///
/// Failures are repeated with `SFMEDIR_SEED=<the printed seed> swift test --filter <the test>`.
public final class SeededEntropy: Entropy {
  public let seed: UInt64
  private let state: Locked<SplitMix64>

  public init(seed: UInt64) {
    self.seed = seed
    state = Locked(SplitMix64(seed: seed))
  }

  /// Takes the seed from SFMEDIR_SEED, else a fresh one, and prints it.
  public static func announced(_ test: String = #function) -> SeededEntropy {
    var seed: UInt64 = 0
    if let text = getenv("SFMEDIR_SEED"), let given = UInt64(String(cString: text)) {
      seed = given
    } else {
      seed = UInt64.random(in: 0...UInt64.max)
    }
    print("\(test): SFMEDIR_SEED=\(seed)")
    return SeededEntropy(seed: seed)
  }

  public func next() -> UInt64 { state.withLock { $0.next() } }

  public func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    var offset = 0
    while offset < buffer.count {
      withUnsafeBytes(of: next().littleEndian) { word in
        let count = min(word.count, buffer.count - offset)
        buffer[offset..<offset + count].copyBytes(from: word.prefix(count))
        offset += count
      }
    }
  }
}

/// The same for the standard library's `shuffled(using:)`, `random(in:using:)` and their kin.
public struct SeededGenerator: RandomNumberGenerator {
  private let entropy: SeededEntropy

  public init(_ entropy: SeededEntropy) { self.entropy = entropy }

  public mutating func next() -> UInt64 { entropy.next() }
}
