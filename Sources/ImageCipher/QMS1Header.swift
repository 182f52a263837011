import Base

extension QMS1 {
  /// The open part of a container (docs/formats/qms1.md).
  ///
  /// What is read from bytes is a claim until ``QMS1/decrypt(_:key:cores:)`` has checked the seal,
  /// which covers the header too. The picture's dimensions are descriptive: nothing is computed
  /// from them.
  public struct Header: Equatable, Sendable {
    public static let byteCount = 48
    public static let version: UInt8 = 1
    /// Bit 0: the payload went through the chaos layer before it was sealed.
    public static let flags: UInt8 = 1
    static let magic = [UInt8]("QMS1".utf8)
    static let nonceOffset = 24
    static let nonceBytes = 24

    /// Pixels; 0 where unknown.
    public let width: UInt32
    /// Pixels; 0 where unknown.
    public let height: UInt32
    /// Samples a pixel; 0 where unknown.
    public let channels: UInt8
    /// 8 or 16; 0 where unknown.
    public let bitsPerSample: UInt8
    /// Length of the secret file.
    public let plaintextBytes: UInt64
    /// 24 bytes, never the same for two containers.
    public internal(set) var nonce: [UInt8]

    /// The payload is filled up with zeroes to whole blocks.
    var paddedBytes: Int {
      let count = Int(plaintextBytes)
      return count + (blockBytes - count % blockBytes) % blockBytes
    }

    /// The first 24 bytes: all but the nonce, which is computed from them.
    var bytesWithoutNonce: [UInt8] {
      var bytes = Header.magic
      bytes.reserveCapacity(Header.byteCount)
      bytes += [Header.version, Header.flags, channels, bitsPerSample]
      bytes.append(bigEndian: width)
      bytes.append(bigEndian: height)
      bytes.append(bigEndian: plaintextBytes)
      return bytes
    }

    var bytes: [UInt8] { bytesWithoutNonce + nonce }
  }
}

extension QMS1.Header {
  init(describing plaintextBytes: Int, as picture: QMS1.Picture) {
    width = picture.width
    height = picture.height
    channels = picture.channels
    bitsPerSample = picture.bitsPerSample
    self.plaintextBytes = UInt64(plaintextBytes)
    nonce = []
  }

  /// Reads the header of a whole container and checks that the lengths agree, so that nothing is
  /// allocated on the word of a header alone.
  public init(of container: [UInt8]) throws(ImageCipherError) {
    let magic = Self.magic
    guard container.starts(with: magic.prefix(container.count)) else { throw .notAContainer }
    guard container.count > magic.count else {
      throw .truncated(containerBytes: container.count)
    }
    guard container[4] == Self.version else { throw .unknownVersion(container[4]) }
    guard container.count >= Self.byteCount + QMS1.tagBytes,
      let width = UInt32(bigEndian: container, at: 8),
      let height = UInt32(bigEndian: container, at: 12),
      let plaintextBytes = UInt64(bigEndian: container, at: 16)
    else { throw .truncated(containerBytes: container.count) }
    guard container[5] == Self.flags else { throw .unknownFlags(container[5]) }
    self.width = width
    self.height = height
    channels = container[6]
    bitsPerSample = container[7]
    self.plaintextBytes = plaintextBytes
    nonce = Array(container[Self.nonceOffset..<Self.byteCount])
    guard plaintextBytes <= UInt64(QMS1.maximumPlaintextBytes),
      container.count == Self.byteCount + paddedBytes + QMS1.tagBytes
    else {
      throw .lengthMismatch(
        declaredPlaintextBytes: plaintextBytes, containerBytes: container.count)
    }
  }
}
