import Base
import Enrollment
import ImageCipher
import Messages

/// A record whose seals fit: its owner and tags are what the owner sealed.
public struct OpenedRecord: Sendable {
  public let imageID: ImageID
  public let owner: String
  public let tags: ImageTags
  public let sealedBytes: UInt64
  public let storedAtMilliseconds: UInt64
  let dataKey: SecretBytes
}

/// Opens what the masters give back; nothing in a record is believed before its seal was checked.
public struct ImageOpener: Sendable {
  private let keys: KeyRing

  public init(keys: KeyRing) { self.keys = keys }

  /// The tags of an image; small, so it may run on an event loop.
  ///
  /// The wrapped key is bound to the id, the tags to the key, and the id to owner and file, so a
  /// master can neither swap records nor ascribe an image to another owner.
  public func open(_ record: ImageRecord) throws(PipelineError) -> OpenedRecord {
    guard let imageID = ImageID(record.imageID) else {
      throw .malformedRecord("an image id of \(record.imageID.count) bytes")
    }
    let dataKey = try dataKey(of: record, imageID)
    let tags = try tags(of: record, dataKey)
    let expected = try ImageNaming(keys: keys).imageID(
      owner: record.owner, fileDigest: tags.fileDigest)
    guard expected == imageID else {
      throw .foreignRecord("\(imageID) is not an image of '\(record.owner)'")
    }
    return OpenedRecord(
      imageID: imageID, owner: record.owner, tags: tags, sealedBytes: record.sealedBytes,
      storedAtMilliseconds: record.storedAtMilliseconds, dataKey: dataKey)
  }

  /// The original file, byte for byte; arithmetic over all of it, so keep it off an event loop.
  public func file(
    from sealed: [UInt8], of record: OpenedRecord
  ) throws(PipelineError) -> [UInt8] {
    let file: [UInt8]
    do throws(ImageCipherError) {
      file = try QMS1.decrypt(sealed, key: record.dataKey)
    } catch .sealBroken {
      throw .sealBroken("the encrypted image")
    } catch {
      throw .malformedRecord("\(error)")
    }
    guard sha256(file) == record.tags.fileDigest else { throw .digestMismatch }
    return file
  }

  /// Bytes of the encrypted form of the largest file that is taken.
  public static func maximumSealedBytes(maximumImageBytes: Int) -> Int {
    QMS1.containerBytes(plaintextBytes: maximumImageBytes)
  }

  private func dataKey(
    of record: ImageRecord, _ imageID: ImageID
  ) throws(PipelineError) -> SecretBytes {
    // The version in the record is the master's word; the one in the wrapped key is sealed.
    let version = try Self.opening("the data key") { () throws(SealedRecordError) in
      try DataKeyWrap.keyVersion(of: record.wrappedDataKey)
    }
    guard let key = keys.key(.image, version: version) else {
      throw .keyMissing(kind: .image, version: version)
    }
    return try Self.opening("the data key") { () throws(SealedRecordError) in
      try DataKeyWrap.unwrap(record.wrappedDataKey, under: key, imageID: imageID)
    }
  }

  private func tags(
    of record: ImageRecord, _ dataKey: SecretBytes
  ) throws(PipelineError) -> ImageTags {
    let bytes = try Self.opening("the tags") { () throws(SealedRecordError) in
      try SealedTags.open(record.sealedTags, dataKey: dataKey)
    }
    let tags: ImageTags
    do throws(WireError) {
      tags = try ImageTags(decoding: bytes)
    } catch {
      throw .malformedRecord("its tags: \(error)")
    }
    guard tags.fileDigest.count == 32 else {
      throw .malformedRecord("its tags hold a digest of \(tags.fileDigest.count) bytes")
    }
    do throws(PipelineError) {
      try TagLimits.checkFileName(tags.fileName)
      try TagLimits.check(tags.tags)
    } catch {
      throw .malformedRecord("its tags: \(error)")
    }
    return tags
  }

  private static func opening<Opened>(
    _ what: String, _ body: () throws(SealedRecordError) -> Opened
  ) throws(PipelineError) -> Opened {
    do throws(SealedRecordError) {
      return try body()
    } catch .sealBroken {
      throw .sealBroken(what)
    } catch {
      throw .malformedRecord("\(what): \(error)")
    }
  }
}
