import COpenSSL

/// A sealed text that was altered, or opened with the wrong key.
public struct AuthenticationFailure: Error, Equatable, Sendable, CustomStringConvertible {
  public init() {}
  public var description: String { "the seal does not fit: altered data or a wrong key" }
}

/// AES-256-GCM (NIST SP 800-38D) with 12-byte nonces and 16-byte tags.
///
/// The caller guarantees that a (key, nonce) pair is used once only.
public enum AES256GCM {
  public static let keyBytes = 32
  public static let nonceBytes = 12
  public static let tagBytes = 16

  /// Encrypts `buffer[range]` in place and returns the tag.
  public static func seal(
    inPlace buffer: UnsafeMutableRawBufferPointer, key: [UInt8], nonce: [UInt8],
    authenticating additional: UnsafeRawBufferPointer
  ) -> [UInt8] {
    check(key, nonce)
    return [UInt8](unsafeUninitializedCapacity: tagBytes) { tag, count in
      let done = sfm_aes256gcm_seal(
        key, nonce, additional.baseAddress, additional.count, buffer.baseAddress, buffer.count,
        buffer.baseAddress, tag.baseAddress!)
      precondition(done == 1, "AES-256-GCM failed to seal \(buffer.count) bytes")
      count = tagBytes
    }
  }

  /// Decrypts in place; on failure the buffer is zeroed and nothing of the text is seen.
  public static func open(
    inPlace buffer: UnsafeMutableRawBufferPointer, tag: [UInt8], key: [UInt8], nonce: [UInt8],
    authenticating additional: UnsafeRawBufferPointer
  ) throws(AuthenticationFailure) {
    check(key, nonce)
    precondition(tag.count == tagBytes, "a tag has 16 bytes, not \(tag.count)")
    let done = sfm_aes256gcm_open(
      key, nonce, additional.baseAddress, additional.count, buffer.baseAddress, buffer.count,
      buffer.baseAddress, tag)
    if done != 1 { throw AuthenticationFailure() }
  }

  /// Cipher text followed by the tag.
  public static func seal(
    _ text: [UInt8], key: [UInt8], nonce: [UInt8], authenticating additional: [UInt8]
  ) -> [UInt8] {
    var sealed = text
    let tag = sealed.withUnsafeMutableBytes { buffer in
      additional.withUnsafeBytes {
        seal(inPlace: buffer, key: key, nonce: nonce, authenticating: $0)
      }
    }
    return sealed + tag
  }

  /// The inverse of ``seal(_:key:nonce:authenticating:)``; anything shorter than a tag fails too.
  public static func open(
    _ sealed: [UInt8], key: [UInt8], nonce: [UInt8], authenticating additional: [UInt8]
  ) throws(AuthenticationFailure) -> [UInt8] {
    guard sealed.count >= tagBytes else { throw AuthenticationFailure() }
    var text = Array(sealed.dropLast(tagBytes))
    let tag = Array(sealed.suffix(tagBytes))
    let outcome = text.withUnsafeMutableBytes { buffer in
      additional.withUnsafeBytes { aad in
        Result { () throws(AuthenticationFailure) in
          try open(inPlace: buffer, tag: tag, key: key, nonce: nonce, authenticating: aad)
        }
      }
    }
    try outcome.get()
    return text
  }

  private static func check(_ key: [UInt8], _ nonce: [UInt8]) {
    precondition(key.count == keyBytes, "an AES-256 key has 32 bytes, not \(key.count)")
    precondition(nonce.count == nonceBytes, "a GCM nonce has 12 bytes, not \(nonce.count)")
  }
}

/// AES-256 in counter mode (NIST SP 800-38A); its own inverse.
public enum AES256CTR {
  /// XORs the key stream starting at the 16-byte counter block into the buffer.
  public static func apply(
    inPlace buffer: UnsafeMutableRawBufferPointer, key: [UInt8], counter: [UInt8]
  ) {
    apply(UnsafeRawBufferPointer(buffer), into: buffer, key: key, counter: counter)
  }

  /// The same from one buffer into another, which is at least as long and may be the same.
  public static func apply(
    _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer, key: [UInt8],
    counter: [UInt8]
  ) {
    precondition(
      key.count == 32 && counter.count == 16, "key \(key.count), counter \(counter.count)")
    precondition(output.count >= input.count, "\(input.count) bytes into \(output.count)")
    let done = sfm_aes256ctr(key, counter, input.baseAddress, input.count, output.baseAddress)
    precondition(done == 1, "AES-256-CTR failed on \(input.count) bytes")
  }
}

/// Compares secrets in time that depends on the length alone.
public func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
  left.count == right.count && sfm_equal(left, right, left.count) == 1
}

/// Overwrites a secret; to be called before its array goes out of scope.
///
/// An array that shares its storage is copied first by Swift, so secrets are kept in
/// ``SecretBytes`` and handed out only for the length of a closure.
public func zero(_ bytes: inout [UInt8]) {
  bytes.withUnsafeMutableBytes { sfm_zero($0.baseAddress, $0.count) }
}
