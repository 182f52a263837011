import Base

/// The three keys of one container, derived from the data key and the nonce.
package struct ImageKeys {
  /// AES-256-GCM key (32 bytes) followed by its nonce (12 bytes).
  private let sealing: SecretBytes
  /// Root of every segment's seeds, 32 bytes.
  package let chaosKey: SecretBytes

  package init(dataKey: SecretBytes, nonce: [UInt8]) {
    var root = dataKey.withBytes { HKDF.extract(salt: nonce, inputKeyMaterial: $0) }
    defer { zero(&root) }
    sealing = Self.expand(root, "SFMedIR/QMS1/aead", AES256GCM.keyBytes + AES256GCM.nonceBytes)
    chaosKey = Self.expand(root, "SFMedIR/QMS1/chaos", 32)
  }

  /// Lends the sealing key and its nonce.
  package func withSealingKey<Result, Failure: Error>(
    _ body: (_ key: [UInt8], _ nonce: [UInt8]) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try sealing.withBytes { (bytes) throws(Failure) in
      var key = Array(bytes.prefix(AES256GCM.keyBytes))
      defer { zero(&key) }
      return try body(key, Array(bytes.suffix(AES256GCM.nonceBytes)))
    }
  }

  func seal(
    inPlace payload: UnsafeMutableRawBufferPointer, header: UnsafeRawBufferPointer
  ) -> [UInt8] {
    withSealingKey { key, nonce in
      AES256GCM.seal(inPlace: payload, key: key, nonce: nonce, authenticating: header)
    }
  }

  func open(
    inPlace payload: UnsafeMutableRawBufferPointer, tag: [UInt8], header: UnsafeRawBufferPointer
  ) throws(AuthenticationFailure) {
    try withSealingKey { (key, nonce) throws(AuthenticationFailure) in
      try AES256GCM.open(
        inPlace: payload, tag: tag, key: key, nonce: nonce, authenticating: header)
    }
  }

  private static func expand(_ root: [UInt8], _ label: String, _ byteCount: Int) -> SecretBytes {
    var bytes = HKDF.expand(
      pseudorandomKey: root, info: Array(label.utf8), byteCount: byteCount)
    defer { zero(&bytes) }
    return SecretBytes(bytes)
  }
}

extension QMS1 {
  /// 24 bytes of HMAC-SHA256 over (random, length of the header, header, plaintext), under a key
  /// derived from the data key: secret-dependent where the generator fails, random where it does
  /// not, and different for any two files.
  package static func hedgedNonce(
    key: SecretBytes, random: [UInt8], header: [UInt8], plaintext: [UInt8]
  ) -> [UInt8] {
    var nonceKey = key.withBytes {
      HKDF.derive(salt: [], inputKeyMaterial: $0, info: "SFMedIR/QMS1/nonce", byteCount: 32)
    }
    defer { zero(&nonceKey) }
    var headerLength: [UInt8] = []
    headerLength.append(bigEndian: UInt64(header.count))
    let code = hmacSHA256(key: nonceKey, parts: [random, headerLength, header, plaintext])
    return Array(code.prefix(Header.nonceBytes))
  }
}
