import Base
import Enrollment
import ImageCipher
import ImagePipeline
import ImageTestSupport
import Imaging
import Messages
import Testing

@Suite struct SealingTests {
  let model = try! TestImages.model()

  func seal(
    _ bytes: [UInt8], path: String = "a.png", tags: [TagEntry] = [], owner: String = "mo-1",
    keys: KeyRing = TestImages.keys()
  ) throws -> SealedImage {
    try ImageSealer(owner: owner, model: model, keys: keys)
      .seal(try PlainImage(bytes: bytes, path: path, tags: tags))
  }

  @Test(arguments: TestImages.kinds) func theOriginalComesBack(
    kind: (name: String, bytes: [UInt8])
  ) throws {
    var tag = TagEntry()
    tag.key = "study"
    tag.value = "Kopf, axial"
    let sealed = try seal(kind.bytes, path: "/home/anna/\(kind.name)", tags: [tag])
    let opener = ImageOpener(keys: TestImages.keys())
    let record = try opener.open(sealed.record)
    #expect(try opener.file(from: sealed.bytes, of: record) == kind.bytes)
    #expect(record.tags == sealed.tags)
    #expect(record.tags.fileName == kind.name)
    #expect(record.tags.fileBytes == UInt64(kind.bytes.count))
    #expect(record.tags.fileDigest == sha256(kind.bytes))
    #expect(record.tags.tags == [tag])
    #expect(record.tags.frames == 1)
    #expect(sealed.record.sealedDigest == sha256(sealed.bytes))
    #expect(sealed.record.sealedBytes == UInt64(sealed.bytes.count))
  }

  @Test func tagsDescribeThePicture() throws {
    let jpeg = try seal(TestImages.jpeg).tags
    #expect((jpeg.format, jpeg.width, jpeg.height) == ("jpeg", 48, 40))
    let dicom = try seal(TestImages.dicom()).tags
    #expect((dicom.format, dicom.width, dicom.height) == ("dicom", 64, 64))
    let header = try QMS1.Header(of: seal(TestImages.png16()).bytes)
    #expect((header.width, header.height, header.bitsPerSample) == (64, 64, 16))
  }

  /// Computed with Python's hmac and hashlib.
  @Test func imageIDsAreTheSpecifiedFunction() throws {
    let keys = KeyRing(keys: [(.image, 1, SecretBytes(Array(0..<32)))])
    let id = try ImageNaming(keys: keys).imageID(
      owner: "mo-1", fileDigest: sha256(Array("abc".utf8)))
    #expect(id.description == "ac3eeff99390dcda0cf3597ad26325e8")
  }

  @Test func theSameFileHasOneNameAndNeverTheSameBytes() throws {
    let first = try seal(TestImages.png())
    let second = try seal(TestImages.png(), path: "other.png")
    #expect(first.record.imageID == second.record.imageID)
    #expect(first.bytes != second.bytes)
    #expect(first.record.wrappedDataKey != second.record.wrappedDataKey)
    let rotated = try seal(TestImages.png(), keys: TestImages.keys(imageVersions: 3))
    #expect(rotated.record.imageID == first.record.imageID)
    #expect(rotated.record.imageKeyVersion == 3)
    #expect(try seal(TestImages.png(), owner: "mo-2").record.imageID != first.record.imageID)
    let elsewhere = try seal(TestImages.png(), keys: TestImages.keys(seed: 2))
    #expect(elsewhere.record.imageID != first.record.imageID)
  }

  @Test func nothingPlainLeavesTheOwner() throws {
    let file = TestImages.dicom(side: 128)
    let sealed = try seal(file, path: "/patients/mueller.dcm")
    let outside = sealed.record.encoded() + sealed.bytes
    #expect(!outside.contains(Array("mueller".utf8)))
    #expect(!outside.contains(Array("PHANTOM".utf8)))
    #expect(sharedRuns(of: file, in: outside) == 0)
    #expect(sharedRuns(of: file, in: file) > 1000, "the search itself finds what is there")
    let picture = try ImageDecoder.decode(file).image
    let plain = model.code(of: picture)
    #expect(sealed.record.codes.count == 1)
    #expect(sealed.record.codes[0].code != plain.bits)
    #expect(sealed.record.codes[0].bits == 16)
    let mask = CodeMask(
      key: TestImages.keys().key(.index, version: 1)!, keyVersion: 1, modelVersion: model.version,
      codeBits: 16)
    #expect(mask.unmask(sealed.record.codes[0].code) == plain.bits)
  }

  /// How many runs of eight bytes that are no mere filling stand in both.
  private func sharedRuns(of file: [UInt8], in outside: [UInt8]) -> Int {
    func runs(_ bytes: [UInt8]) -> Set<UInt64> {
      var found: Set<UInt64> = []
      for start in 0..<max(0, bytes.count - 7) where Set(bytes[start..<start + 8]).count > 3 {
        found.insert(UInt64(bigEndian: bytes, at: start)!)
      }
      return found
    }
    return runs(file).intersection(runs(outside)).count
  }

  @Test(arguments: [
    [], Array("not a picture, but called one".utf8), Array(TestImages.png().dropLast(40)),
    Array(TestImages.jpeg.prefix(200)), Array(TestImages.dicom().prefix(3000)),
  ]) func whatCannotBeDecodedIsRefused(bytes: [UInt8]) throws {
    let error = #expect(throws: PipelineError.self) { try seal(bytes) }
    #expect(error?.rpcError.code == .invalidArgument)
    #expect(error?.rpcError.reason == "UndecodableImage")
  }

  @Test func missingKeysAreNamed() throws {
    let noIndex = KeyRing(keys: [(.image, 1, TestImages.key(1))])
    #expect(throws: PipelineError.keyMissing(kind: .index, version: 0)) {
      try seal(TestImages.png(), keys: noIndex)
    }
    let noFirst = KeyRing(keys: [(.image, 2, TestImages.key(1)), (.index, 1, TestImages.key(2))])
    #expect(throws: PipelineError.keyMissing(kind: .image, version: 1)) {
      try seal(TestImages.png(), keys: noFirst)
    }
  }

  @Test func searchesAskUnderEveryKeyVersion() throws {
    let picture = try ImageDecoder.decode(TestImages.png()).image
    let before = CodeMaker(model: model, keys: TestImages.keys(indexVersions: 1))
    let after = CodeMaker(model: model, keys: TestImages.keys(indexVersions: 2))
    let codes = try after.codesForSearch(of: picture)
    #expect(codes.map(\.indexKeyVersion) == [1, 2])
    #expect(codes[0] == (try before.currentCode(of: picture)))
    #expect(codes[1] == (try after.currentCode(of: picture)))
    #expect(codes.allSatisfy { $0.modelVersion == model.version && $0.bits == 16 })
  }
}

extension [UInt8] {
  func contains(_ run: [UInt8]) -> Bool {
    guard count >= run.count else { return false }
    return (0...(count - run.count)).contains { self[$0..<$0 + run.count].elementsEqual(run) }
  }
}
