import CSystem

/// CRC32C (Castagnoli, RFC 3720 appendix B.4). It finds every flipped byte and every burst of up to 32 bits;
/// it is no defence against somebody who writes the disk on purpose.
enum Checksum {
  static func crc32c(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
    sfm_crc32c(crc, bytes.baseAddress, bytes.count)
  }

  static func crc32c(_ bytes: [UInt8], continuing crc: UInt32 = 0) -> UInt32 {
    bytes.withUnsafeBytes { crc32c($0, continuing: crc) }
  }
}
