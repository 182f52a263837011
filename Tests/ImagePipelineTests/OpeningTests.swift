import Base
import Enrollment
import ImageCipher
import ImagePipeline
import ImageTestSupport
import Messages
import RPC
import Testing

@Suite struct OpeningTests {
  let sealed: SealedImage
  let other: SealedImage
  let keys = TestImages.keys(imageVersions: 2)
  var opener: ImageOpener { ImageOpener(keys: keys) }

  init() throws {
    let sealer = ImageSealer(owner: "mo-1", model: try TestImages.model(), keys: keys)
    sealed = try sealer.seal(PlainImage(bytes: TestImages.png(), path: "a.png", tags: []))
    other = try sealer.seal(PlainImage(bytes: TestImages.png(1), path: "b.png", tags: []))
  }

  private func refusal(_ change: (inout ImageRecord) -> Void) -> PipelineError? {
    var record = sealed.record
    change(&record)
    do throws(PipelineError) {
      _ = try opener.open(record)
      return nil
    } catch {
      return error
    }
  }

  @Test func imagesFromBeforeARotationOpen() throws {
    let old = try ImageSealer(
      owner: "mo-1", model: TestImages.model(), keys: TestImages.keys(imageVersions: 1)
    ).seal(PlainImage(bytes: TestImages.png16(), path: "a.png", tags: []))
    #expect(old.record.imageKeyVersion == 1)
    #expect(sealed.record.imageKeyVersion == 2)
    #expect(try opener.file(from: old.bytes, of: opener.open(old.record)) == TestImages.png16())
  }

  @Test func aWrongKeyIsNamed() {
    let stranger = ImageOpener(keys: TestImages.keys(seed: 9, imageVersions: 2))
    #expect(throws: PipelineError.sealBroken("the data key")) {
      try stranger.open(sealed.record)
    }
    let late = ImageOpener(keys: TestImages.keys(imageVersions: 1))
    #expect(throws: PipelineError.keyMissing(kind: .image, version: 2)) {
      try late.open(sealed.record)
    }
    let answer = PipelineError.sealBroken("the data key").rpcError
    #expect((answer.code, answer.reason) == (.dataLoss, "SealBroken"))
  }

  @Test func aMasterCannotTamperWithRecords() throws {
    #expect(refusal { _ in } == nil)
    #expect(refusal { $0.wrappedDataKey[40] ^= 1 } == .sealBroken("the data key"))
    #expect(
      refusal { $0.wrappedDataKey = other.record.wrappedDataKey } == .sealBroken("the data key"))
    #expect(refusal { $0.sealedTags = other.record.sealedTags } == .sealBroken("the tags"))
    #expect(refusal { $0.sealedTags[20] ^= 1 } == .sealBroken("the tags"))
    // Everything of another image under this id, or under another owner's name.
    #expect(refusal { $0.imageID = other.record.imageID } == .sealBroken("the data key"))
    guard case .foreignRecord = refusal({ $0.owner = "mo-2" }) else {
      Issue.record("another owner's name was believed")
      return
    }
    for change: (inout ImageRecord) -> Void in [
      { $0.imageID = [1, 2, 3] }, { $0.wrappedDataKey = [] }, { $0.wrappedDataKey[0] = 9 },
      { $0.sealedTags = [] }, { $0.sealedTags[0] = 9 },
    ] {
      guard case .malformedRecord = refusal(change) else {
        Issue.record("\(String(describing: refusal(change))) where the record is malformed")
        continue
      }
    }
  }

  @Test func anAlteredImageIsNeverAFile() throws {
    let record = try opener.open(sealed.record)
    for position in [0, 30, 47, 48, 500, sealed.bytes.count - 1] {
      var bytes = sealed.bytes
      bytes[position] ^= 0x10
      let error = #expect(throws: PipelineError.self) { try opener.file(from: bytes, of: record) }
      #expect(error?.rpcError.code == .dataLoss, "byte \(position)")
    }
    var bytes = sealed.bytes
    bytes[100] ^= 1
    #expect(throws: PipelineError.sealBroken("the encrypted image")) {
      try opener.file(from: bytes, of: record)
    }
    #expect(throws: PipelineError.sealBroken("the encrypted image")) {
      try opener.file(from: other.bytes, of: record)
    }
    let error = #expect(throws: PipelineError.self) { try opener.file(from: [], of: record) }
    guard case .malformedRecord = error else {
      Issue.record("an empty container is \(String(describing: error))")
      return
    }
  }

  /// An owner whose tags are made by hand: what seals alone cannot promise.
  private func crafted(
    digest: [UInt8], file: [UInt8], _ change: (inout ImageTags) -> Void = { _ in }
  ) throws -> (record: ImageRecord, bytes: [UInt8]) {
    let dataKey = TestImages.key(77)
    let id = try ImageNaming(keys: keys).imageID(owner: "mo-1", fileDigest: digest)
    var tags = ImageTags()
    tags.fileDigest = digest
    change(&tags)
    var record = ImageRecord()
    record.imageID = id.bytes
    record.owner = "mo-1"
    record.wrappedDataKey = DataKeyWrap.wrap(
      dataKey, under: keys.key(.image, version: 2)!, keyVersion: 2, imageID: id,
      entropy: SystemEntropy())
    record.sealedTags = SealedTags.seal(
      tags.encoded(), dataKey: dataKey, entropy: SystemEntropy())
    let bytes = QMS1.encrypt(
      plaintext: file, key: dataKey, width: 0, height: 0, channels: 0, bitsPerSample: 0,
      entropy: SystemEntropy())
    return (record, bytes)
  }

  @Test func theDigestOfTheOriginalIsChecked() throws {
    let lie = try crafted(digest: sha256([1]), file: [2])
    let record = try opener.open(lie.record)
    #expect(throws: PipelineError.digestMismatch) {
      try opener.file(from: lie.bytes, of: record)
    }
  }

  @Test(arguments: ["../../etc/passwd", "..", "a\u{1b}[2J", String(repeating: "x", count: 256)])
  func aHostileFileNameIsNotHandedOn(name: String) throws {
    let hostile = try crafted(digest: sha256([1]), file: [1]) { $0.fileName = name }
    let error = #expect(throws: PipelineError.self) { try opener.open(hostile.record) }
    guard case .malformedRecord = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    let harmless = try crafted(digest: sha256([1]), file: [1]) { $0.fileName = "ok.png" }
    #expect(try opener.open(harmless.record).tags.fileName == "ok.png")
  }
}
