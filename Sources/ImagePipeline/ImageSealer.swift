import Base
import Enrollment
import ImageCipher
import Imaging
import Messages

/// A file on its owner's side, before anything is computed from it.
public struct PlainImage: Sendable {
  public let bytes: [UInt8]
  /// SHA-256 of `bytes`.
  public let digest: [UInt8]
  /// Its name without folders; may be empty.
  public let fileName: String
  public let tags: [TagEntry]

  /// Throws ``PipelineError/unusableTags(_:)``; `path` may be a whole path, of which the last component stays.
  public init(
    bytes: [UInt8], path: String, tags: [TagEntry]
  ) throws(PipelineError) {
    fileName = try TagLimits.fileName(ofPath: path)
    try TagLimits.check(tags)
    self.tags = tags
    self.bytes = bytes
    digest = sha256(bytes)
  }
}

/// What leaves the owner: the record for the masters and the encrypted image.
public struct SealedImage: Sendable {
  public let record: ImageRecord
  public let bytes: [UInt8]
  /// The tags in the clear, for the owner's own answer.
  public let tags: ImageTags
}

/// Turns files into what the masters and slaves may see.
public struct ImageSealer: Sendable {
  private let owner: String
  private let codes: CodeMaker
  private let keys: KeyRing
  private let entropy: any Entropy

  /// Above this size one image is encrypted by all cores, below it images run beside each other.
  private static let parallelBytes = 8 << 20

  /// - Parameter owner: the owner's node name.
  public init(
    owner: String, model: HashModel, keys: KeyRing, entropy: any Entropy = SystemEntropy()
  ) {
    self.owner = owner
    self.keys = keys
    self.entropy = entropy
    codes = CodeMaker(model: model, keys: keys)
  }

  /// The id that the file will have.
  public func imageID(fileDigest: [UInt8]) throws(PipelineError) -> ImageID {
    try ImageNaming(keys: keys).imageID(owner: owner, fileDigest: fileDigest)
  }

  /// Decodes, hashes, masks, encrypts and seals; all of it arithmetic, so keep it off an event loop.
  public func seal(_ file: PlainImage) throws(PipelineError) -> SealedImage {
    let imageID = try imageID(fileDigest: file.digest)
    guard let current = keys.current(.image) else { throw .keyMissing(kind: .image, version: 0) }
    let picture = try ImageDecoder.picture(of: file.bytes)
    let code = try codes.currentCode(of: picture.image)
    let tags = Self.tags(of: file, picture)
    let dataKey = SecretBytes(randomCount: QMS1.keyBytes, entropy: entropy)
    let sealed = QMS1.encrypt(
      plaintext: file.bytes, key: dataKey, width: UInt32(picture.image.width),
      height: UInt32(picture.image.height), channels: 1,
      bitsPerSample: UInt8(picture.image.bitsPerSample), entropy: entropy,
      cores: file.bytes.count > Self.parallelBytes ? QMS1.availableCores : 1)
    var record = ImageRecord()
    record.imageID = imageID.bytes
    record.owner = owner
    record.codes = [code]
    record.wrappedDataKey = DataKeyWrap.wrap(
      dataKey, under: current.key, keyVersion: current.version, imageID: imageID,
      entropy: entropy)
    record.imageKeyVersion = current.version
    record.sealedTags = SealedTags.seal(tags.encoded(), dataKey: dataKey, entropy: entropy)
    record.sealedBytes = UInt64(sealed.count)
    record.sealedDigest = sha256(sealed)
    return SealedImage(record: record, bytes: sealed, tags: tags)
  }

  private static func tags(of file: PlainImage, _ picture: DecodedImage) -> ImageTags {
    var tags = ImageTags()
    tags.fileName = file.fileName
    tags.format = picture.format.rawValue
    tags.width = UInt32(picture.image.width)
    tags.height = UInt32(picture.image.height)
    tags.frames = UInt32(clamping: picture.frameCount)
    tags.fileBytes = UInt64(file.bytes.count)
    tags.fileDigest = file.digest
    tags.tags = file.tags
    return tags
  }
}
