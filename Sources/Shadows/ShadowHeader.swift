import Base

/// The sharing scheme that made a shadow; its mark is the first four bytes.
public enum ShadowFormat: Sendable, Equatable, CaseIterable {
  /// Bai's projection scheme with a masked, erasure-coded remainder.
  case bai1
  /// Krawczyk's scheme: AES-256-CTR, erasure-coded, under a shared key.
  case krawczyk1

  /// Four bytes of ASCII.
  public var mark: [UInt8] {
    switch self {
    case .bai1: Array("BAI1".utf8)
    case .krawczyk1: Array("KRW1".utf8)
    }
  }

  /// Rows and columns of a block of 16-bit words; 0 where the scheme has no blocks.
  public var blockOrder: UInt8 {
    switch self {
    case .bai1: 16
    case .krawczyk1: 0
    }
  }
}

/// What stands before the body of a shadow, 36 bytes.
///
/// It tells the index and the image, which a slave must not learn: a master takes it off before
/// it sends a shadow away and puts it back, made from its own records, when the body returns.
public struct ShadowHeader: Equatable, Sendable {
  public static let byteCount = 36
  /// The only version there is.
  public static let version: UInt8 = 1

  public let format: ShadowFormat
  /// 1 to 255.
  public let index: Int
  /// Counts the sharings of one image, so that shadows of different ones never mix.
  public let epoch: UInt32
  public let imageID: ImageID
  /// Length of the secret, not of the shadow.
  public let secretByteCount: Int

  /// Throws `indexOutOfRange` and `secretTooLarge`; the length must not be negative.
  public init(
    format: ShadowFormat = .bai1, index: Int, epoch: UInt32, imageID: ImageID, secretByteCount: Int
  ) throws(ShadowError) {
    precondition(secretByteCount >= 0, "a secret of \(secretByteCount) bytes")
    guard (1...255).contains(index) else { throw .indexOutOfRange(index) }
    try checkSecretSize(secretByteCount)
    self.format = format
    self.index = index
    self.epoch = epoch
    self.imageID = imageID
    self.secretByteCount = secretByteCount
  }

  /// Reads the header at the start of `bytes`; whatever follows is not looked at.
  public init(parsing bytes: [UInt8]) throws(ShadowError) {
    guard bytes.count >= Self.byteCount else {
      throw .malformedShadow(.truncatedHeader(byteCount: bytes.count))
    }
    let mark = Array(bytes[0..<4])
    guard let format = ShadowFormat.allCases.first(where: { $0.mark == mark }) else {
      throw .malformedShadow(.unknownFormat)
    }
    guard bytes[4] == Self.version else { throw .malformedShadow(.unsupportedVersion(bytes[4])) }
    guard bytes[5] == format.blockOrder else {
      throw .malformedShadow(.unsupportedBlockOrder(bytes[5]))
    }
    guard bytes[6] != 0 else { throw .malformedShadow(.indexZero) }
    guard bytes[7] == 0 else { throw .malformedShadow(.reservedByteInUse(bytes[7])) }
    guard let epoch = UInt32(bigEndian: bytes, at: 8), let imageID = ImageID(Array(bytes[12..<28])),
      let length = UInt64(bigEndian: bytes, at: 28)
    else { preconditionFailure("36 bytes hold a header") }
    guard let secretByteCount = Int(exactly: length) else {
      throw .secretTooLarge(byteCount: length, maximum: BaiScheme.maximumSecretBytes)
    }
    try self.init(
      format: format, index: Int(bytes[6]), epoch: epoch, imageID: imageID,
      secretByteCount: secretByteCount)
  }

  public var bytes: [UInt8] {
    var bytes = format.mark
    bytes.reserveCapacity(Self.byteCount)
    bytes += [Self.version, format.blockOrder, UInt8(index), 0]
    bytes.append(bigEndian: epoch)
    bytes += imageID.bytes
    bytes.append(bigEndian: UInt64(secretByteCount))
    return bytes
  }

  /// The header of another shadow of the same sharing.
  func with(index: Int) throws(ShadowError) -> ShadowHeader {
    try ShadowHeader(
      format: format, index: index, epoch: epoch, imageID: imageID, secretByteCount: secretByteCount
    )
  }

  /// Whether both can be used together: everything but the index is alike.
  func belongsWith(_ other: ShadowHeader) -> Bool {
    format == other.format && epoch == other.epoch && imageID == other.imageID
      && secretByteCount == other.secretByteCount
  }
}
