import Base
import ImageCipher
import Synchronization

/// Hands out the bytes it was given, again and again.
struct FixedEntropy: Entropy {
  let source: [UInt8]

  func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    for index in buffer.indices { buffer[index] = source[index % source.count] }
  }
}

/// SplitMix64 from a seed that failing tests print.
final class SeededEntropy: Entropy {
  private let state: Mutex<UInt64>

  init(seed: UInt64) { state = Mutex(seed) }

  func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    state.withLock { state in
      for start in stride(from: 0, to: buffer.count, by: 8) {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        word ^= word >> 31
        for index in start..<min(start + 8, buffer.count) {
          buffer[index] = UInt8(truncatingIfNeeded: word)
          word >>= 8
        }
      }
    }
  }

  func below(_ bound: Int) -> Int { Int(uniform(below: UInt64(bound))) }
}

/// The inputs of the published vectors.
enum Vector {
  static let key = SecretBytes(Array(0..<32))
  static let otherKey = SecretBytes(Array(1..<33))
  static let nonce = [UInt8](0x20..<0x38)
  static let everyByte = [UInt8](0...255)
  static let random = [UInt8](0xA0..<0xC0)

  /// Byte i is (i * i + 3 i) mod 256.
  static func parabola(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* $0 &+ 3 &* $0) }
  }

  static var chaosKey: SecretBytes { ImageKeys(dataKey: key, nonce: nonce).chaosKey }
}

extension ChaosLayer {
  /// Pads to whole blocks and returns what leaves the layer.
  func encrypt(_ bytes: [UInt8], cores: Int = 1) -> [UInt8] {
    var payload = bytes + [UInt8](repeating: 0, count: (64 - bytes.count % 64) % 64)
    payload.withUnsafeMutableBytes { apply(.encrypting, to: $0, cores: cores) }
    return payload
  }

  func decrypt(_ bytes: [UInt8], cores: Int = 1) -> [UInt8] {
    var payload = bytes
    payload.withUnsafeMutableBytes { apply(.decrypting, to: $0, cores: cores) }
    return payload
  }
}

/// Encrypts as a 1-channel 8-bit picture of unknown size.
func encrypt(
  _ plaintext: [UInt8], key: SecretBytes = Vector.key, entropy: some Entropy, cores: Int = 1
) -> [UInt8] {
  QMS1.encrypt(
    plaintext: plaintext, key: key, width: 0, height: 0, channels: 1, bitsPerSample: 8,
    entropy: entropy, cores: cores)
}

func failure(_ container: [UInt8], key: SecretBytes = Vector.key) -> ImageCipherError? {
  do throws(ImageCipherError) {
    _ = try QMS1.decrypt(container, key: key)
    return nil
  } catch {
    return error
  }
}
