import Base
import Glibc

/// The image cipher of the QMedShield family: a chaotic permutation and diffusion of the file
/// inside AES-256-GCM (docs/formats/qms1.md).
///
/// Confidentiality and integrity rest on AES-256-GCM with a key of the image's own. The chaos
/// layer is a bijection keyed by an independent HKDF output, so it can neither help nor hurt.
public enum QMS1 {
  public static let keyBytes = 32
  public static let tagBytes = AES256GCM.tagBytes
  /// AES-GCM seals at most 2^36 - 32 bytes under one nonce (NIST SP 800-38D); whole blocks of it.
  public static let maximumPlaintextBytes = (1 << 36) - blockBytes
  static let blockBytes = 64
  static let randomBytes = 32

  /// How many processors this process may use at once.
  public static var availableCores: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// What the header says about the picture in the file.
  struct Picture {
    let width: UInt32
    let height: UInt32
    let channels: UInt8
    let bitsPerSample: UInt8
  }

  /// Bytes that a container of a file of this length has.
  public static func containerBytes(plaintextBytes: Int) -> Int {
    let blocks = (plaintextBytes + blockBytes - 1) / blockBytes
    return Header.byteCount + blocks * blockBytes + tagBytes
  }

  /// Encrypts a file, byte for byte, into a sealed container.
  ///
  /// The nonce is hedged: a keyed hash of 32 fresh random bytes, the header and the file, so it
  /// stays different for different files even where the generator fails. The calling thread works
  /// too and returns when all is done.
  ///
  /// - Parameters:
  ///   - plaintext: the file, of any length up to ``maximumPlaintextBytes``, also empty.
  ///   - key: the image's own data key, 32 bytes.
  ///   - width: pixels, like the three next a description only; 0 where unknown.
  ///   - height: pixels.
  ///   - channels: samples a pixel.
  ///   - bitsPerSample: 8 or 16.
  ///   - entropy: where the 32 random bytes come from.
  ///   - cores: how many threads may work at once on files of several 64 KiB segments.
  public static func encrypt(
    plaintext: [UInt8], key: SecretBytes, width: UInt32, height: UInt32, channels: UInt8,
    bitsPerSample: UInt8, entropy: some Entropy, cores: Int = availableCores
  ) -> [UInt8] {
    check(key)
    var header = Header(
      describing: plaintext.count,
      as: Picture(
        width: width, height: height, channels: channels, bitsPerSample: bitsPerSample))
    header.nonce = hedgedNonce(
      key: key, random: entropy.bytes(randomBytes), header: header.bytesWithoutNonce,
      plaintext: plaintext)
    return seal(plaintext, under: header, key: key, cores: cores)
  }

  /// Encrypts under a nonce of the caller's: for test vectors and measurements alone, since two
  /// files under one key and nonce lose all secrecy.
  package static func encrypt(
    plaintext: [UInt8], key: SecretBytes, width: UInt32, height: UInt32, channels: UInt8,
    bitsPerSample: UInt8, nonce: [UInt8], cores: Int = availableCores
  ) -> [UInt8] {
    check(key)
    precondition(
      nonce.count == Header.nonceBytes, "a nonce has 24 bytes, not \(nonce.count)")
    var header = Header(
      describing: plaintext.count,
      as: Picture(
        width: width, height: height, channels: channels, bitsPerSample: bitsPerSample))
    header.nonce = nonce
    return seal(plaintext, under: header, key: key, cores: cores)
  }

  /// Opens a container and returns the file.
  ///
  /// - Throws: what is wrong with the container, or ``ImageCipherError/sealBroken`` where it was
  ///   altered or the key is another's; nothing of the file is seen then.
  public static func decrypt(
    _ container: [UInt8], key: SecretBytes, cores: Int = availableCores
  ) throws(ImageCipherError) -> [UInt8] {
    check(key)
    let header = try Header(of: container)
    let keys = ImageKeys(dataKey: key, nonce: header.nonce)
    let tag = Array(container.suffix(tagBytes))
    var sealFits = true
    // The buffer holds the padded payload; the file is its beginning.
    let plaintext = [UInt8](unsafeUninitializedCapacity: header.paddedBytes) { buffer, count in
      let payload = UnsafeMutableRawBufferPointer(
        rebasing: UnsafeMutableRawBufferPointer(buffer)[..<header.paddedBytes])
      container.withUnsafeBytes { sealed in
        payload.copyMemory(
          from: UnsafeRawBufferPointer(
            rebasing: sealed[Header.byteCount..<Header.byteCount + header.paddedBytes]))
        do throws(AuthenticationFailure) {
          try keys.open(
            inPlace: payload, tag: tag,
            header: UnsafeRawBufferPointer(rebasing: sealed[..<Header.byteCount]))
        } catch {
          sealFits = false
        }
      }
      guard sealFits else {
        count = 0
        return
      }
      ChaosLayer(key: keys.chaosKey).apply(.decrypting, to: payload, cores: cores)
      count = Int(header.plaintextBytes)
    }
    guard sealFits else { throw .sealBroken }
    return plaintext
  }

  /// One buffer is allocated, and everything happens in it.
  private static func seal(
    _ plaintext: [UInt8], under header: Header, key: SecretBytes, cores: Int
  ) -> [UInt8] {
    precondition(
      plaintext.count <= maximumPlaintextBytes,
      "\(plaintext.count) bytes are more than the \(maximumPlaintextBytes) that one seal covers")
    let keys = ImageKeys(dataKey: key, nonce: header.nonce)
    let padded = header.paddedBytes
    let total = Header.byteCount + padded + tagBytes
    return [UInt8](unsafeUninitializedCapacity: total) { buffer, count in
      let container = UnsafeMutableRawBufferPointer(buffer)
      let payload = UnsafeMutableRawBufferPointer(
        rebasing: container[Header.byteCount..<Header.byteCount + padded])
      container.copyBytes(from: header.bytes)
      payload.copyBytes(from: plaintext)
      UnsafeMutableRawBufferPointer(rebasing: payload[plaintext.count...])
        .initializeMemory(as: UInt8.self, repeating: 0)
      ChaosLayer(key: keys.chaosKey).apply(.encrypting, to: payload, cores: cores)
      let tag = keys.seal(
        inPlace: payload,
        header: UnsafeRawBufferPointer(rebasing: container[..<Header.byteCount]))
      UnsafeMutableRawBufferPointer(rebasing: container[(Header.byteCount + padded)...])
        .copyBytes(from: tag)
      count = total
    }
  }

  private static func check(_ key: SecretBytes) {
    precondition(key.count == keyBytes, "a data key has \(keyBytes) bytes, not \(key.count)")
  }
}
