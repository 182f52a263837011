import Base

/// Hides the remainder from whoever has fewer than r shadows: AES-256-CTR under K_R.
///
/// K_R = HKDF-SHA256(salt: image id, key: SHA-256(H), info: "SFMedIR/bai1/Rd"), where H are the
/// projections' words on and above the diagonal, 32-bit little-endian, of the first 64 blocks.
struct RemainderMask: Sendable {
  private let key: SecretBytes

  /// From SHA-256 of H.
  init(projectionDigest: [UInt8], imageID: ImageID) {
    var derived = HKDF.derive(
      salt: imageID.bytes, inputKeyMaterial: projectionDigest, info: "SFMedIR/bai1/Rd",
      byteCount: 32)
    key = SecretBytes(derived)
    zero(&derived)
  }

  /// Masks or unmasks the bytes that start at `offset`, a multiple of 16, in the whole remainder.
  func apply(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
    precondition(offset % 16 == 0, "offset \(offset)")
    key.withBytes {
      AES256CTR.apply(inPlace: bytes, key: $0, counter: counterBlock(UInt64(offset / 16)))
    }
  }
}
