import COpenSSL

/// An incremental SHA-256 (FIPS 180-4).
public struct SHA256Hasher: ~Copyable {
  private var context: OpaquePointer?

  public init() {
    guard let context = sfm_sha256_new() else { fatalError("OpenSSL has no SHA-256") }
    self.context = context
  }

  deinit { sfm_sha256_free(context) }

  public mutating func update(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { update($0) }
  }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let context else { preconditionFailure("update after finalize") }
    let done = sfm_sha256_update(context, bytes.baseAddress, bytes.count)
    precondition(done == 1, "SHA-256 update failed")
  }

  /// The 32-byte digest of everything given so far.
  public consuming func finalize() -> [UInt8] {
    guard let context = self.context.take() else { preconditionFailure("finalized twice") }
    return [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
      let done = sfm_sha256_final(context, buffer.baseAddress!)
      precondition(done == 1, "SHA-256 failed")
      count = 32
    }
  }
}

/// SHA-256 of a byte string in one call.
public func sha256(_ bytes: [UInt8]) -> [UInt8] {
  var hasher = SHA256Hasher()
  hasher.update(bytes)
  return hasher.finalize()
}

/// HMAC-SHA256 (RFC 2104) of the parts in order, as if they were one string; 32 bytes.
public func hmacSHA256(key: [UInt8], parts: [[UInt8]]) -> [UInt8] {
  guard let context = key.withUnsafeBytes({ sfm_hmac_new($0.baseAddress, $0.count) }) else {
    fatalError("OpenSSL has no HMAC-SHA256")
  }
  for part in parts {
    let done = part.withUnsafeBytes { sfm_hmac_update(context, $0.baseAddress, $0.count) }
    precondition(done == 1, "HMAC update failed")
  }
  return [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
    let done = sfm_hmac_final(context, buffer.baseAddress!)
    precondition(done == 1, "HMAC failed")
    count = 32
  }
}

/// HKDF with SHA-256 (RFC 5869).
public enum HKDF {
  /// The 32-byte pseudorandom key.
  public static func extract(salt: [UInt8], inputKeyMaterial: [UInt8]) -> [UInt8] {
    hmacSHA256(key: salt, parts: [inputKeyMaterial])
  }

  /// `byteCount` bytes of key material, at most 255 blocks of 32 bytes.
  public static func expand(
    pseudorandomKey: [UInt8], info: [UInt8], byteCount: Int
  ) -> [UInt8] {
    precondition(byteCount <= 255 * 32, "HKDF gives at most 8160 bytes, asked for \(byteCount)")
    var output: [UInt8] = []
    output.reserveCapacity(byteCount + 32)
    var block: [UInt8] = []
    var counter: UInt8 = 1
    while output.count < byteCount {
      block = hmacSHA256(key: pseudorandomKey, parts: [block, info, [counter]])
      output += block
      counter &+= 1
    }
    output.removeLast(output.count - byteCount)
    return output
  }

  /// Extract and expand in one call, with the label as text.
  public static func derive(
    salt: [UInt8], inputKeyMaterial: [UInt8], info: String, byteCount: Int
  ) -> [UInt8] {
    expand(
      pseudorandomKey: extract(salt: salt, inputKeyMaterial: inputKeyMaterial),
      info: Array(info.utf8), byteCount: byteCount)
  }
}
