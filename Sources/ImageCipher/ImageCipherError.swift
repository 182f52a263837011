/// Why bytes are not an image container that this key opens.
public enum ImageCipherError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The bytes do not begin with "QMS1".
  case notAContainer
  /// A container written by a version of the format that this program does not know.
  case unknownVersion(UInt8)
  /// A container whose flags ask for something that this program does not know.
  case unknownFlags(UInt8)
  /// Fewer bytes than a header and a tag need.
  case truncated(containerBytes: Int)
  /// The length that the header tells does not fit the container's own.
  case lengthMismatch(declaredPlaintextBytes: UInt64, containerBytes: Int)
  /// The seal does not fit: the container was altered, or the key is another image's.
  case sealBroken

  public var description: String {
    switch self {
    case .notAContainer:
      "not an encrypted image: the bytes do not begin with \"QMS1\""
    case .unknownVersion(let version):
      "the encrypted image has format version \(version), this program knows version "
        + "\(QMS1.Header.version) only"
    case .unknownFlags(let flags):
      "the encrypted image has flags \(flags), this program knows flags \(QMS1.Header.flags) only"
    case .truncated(let count):
      "the encrypted image is cut short: \(count) bytes, the shortest has "
        + "\(QMS1.Header.byteCount + QMS1.tagBytes)"
    case .lengthMismatch(let declared, let count):
      "the encrypted image has \(count) bytes, which does not fit the \(declared) bytes that its "
        + "header promises"
    case .sealBroken:
      "the encrypted image's seal does not fit: altered data or a wrong key"
    }
  }
}
