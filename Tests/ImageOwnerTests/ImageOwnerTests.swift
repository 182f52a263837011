import Base
import Enrollment
import ImageCipher
import ImageOwner
import ImagePipeline
import ImageTestSupport
import Imaging
import Messages
import RPC
import Testing

/// An owner's server in front of a fake master, and what a command line does with it.
final class OwnerFixture: Sendable {
  let network: TestNetwork
  let owner: ImageOwner
  let server: Server
  let client: Channel
  var master: FakeMaster { network.master }

  init(
    keys: KeyRing = TestImages.keys(), change: (inout ImageOwnerLimits) -> Void = { _ in }
  ) throws {
    network = try TestNetwork()
    var limits = ImageOwnerLimits()
    limits.maximumImageBytes = 4 << 20
    change(&limits)
    let owner = ImageOwner(
      identity: try network.identity(.imageOwner, "mo-1"),
      certificateExpiresAtMilliseconds: { 42 }, model: try TestImages.model(),
      keys: TestImages.source(keys),
      master: ServiceClient(
        over: [try network.masterChannel(as: .imageOwner, "mo-1")],
        configuration: ServiceClient.mastersConfiguration(ConnectionLimits())),
      limits: limits, logger: network.logger)
    self.owner = owner
    (server, client) = try network.serve(.imageOwner, "mo-1") { owner.register(in: &$0) }
  }

  func stop() async { await network.stop([server]) }

  func open(
    _ bytes: [UInt8], name: String = "a.png", tags: [TagEntry] = [],
    timeout: Duration = .seconds(60)
  ) async throws -> ClientCall<StoreImageHeader, StoreImageReply> {
    let call = try await client.open(
      ImageOwnerMethods.storeImage, CallOptions(timeout: timeout))
    var header = StoreImageHeader()
    header.fileName = name
    header.fileBytes = UInt64(bytes.count)
    header.tags = tags
    try await call.send(header)
    try await call.send(inPieces: bytes)
    try await call.finishSending()
    return call
  }

  func store(
    _ bytes: [UInt8], name: String = "a.png", tags: [TagEntry] = [],
    timeout: Duration = .seconds(60)
  ) async throws -> StoreImageReply {
    try await open(bytes, name: name, tags: tags, timeout: timeout).receiveOnly()
  }

  func refusal(_ bytes: [UInt8], timeout: Duration = .seconds(60)) async -> RPCError? {
    await refusalOf { _ = try await self.store(bytes, timeout: timeout) }
  }

  /// Nothing is left of any call: no work, no memory, no call at the master.
  func isIdle() async -> Bool {
    await eventually { self.owner.load == (0, 0, 0) && self.master.runningCalls == 0 }
  }
}

func refusalOf(_ body: () async throws -> Void) async -> RPCError? {
  do {
    try await body()
    return nil
  } catch {
    return error as? RPCError
  }
}

@Suite struct StoreImageTests {
  @Test(arguments: TestImages.kinds) func theMasterGetsAnImageThatOpens(
    kind: (name: String, bytes: [UInt8])
  ) async throws {
    let fixture = try OwnerFixture()
    let reply = try await fixture.store(kind.bytes, name: "/data/\(kind.name)")
    #expect(!reply.existed)
    let id = try #require(ImageID(reply.imageID))
    let stored = try #require(fixture.master.images()[id])
    #expect(reply.sealedBytes == UInt64(stored.sealed.count))
    #expect(reply.shadowBytes == UInt64(2 * stored.sealed.count))
    #expect(reply.tags?.fileName == kind.name)
    let opener = ImageOpener(keys: TestImages.keys())
    let record = try opener.open(stored.record)
    #expect(record.owner == "mo-1")
    #expect(try opener.file(from: stored.sealed, of: record) == kind.bytes)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func theSameFileAgainCostsOneQuestion() async throws {
    let fixture = try OwnerFixture()
    let first = try await fixture.store(TestImages.png())
    let second = try await fixture.store(TestImages.png(), name: "copy.png")
    #expect(second.existed)
    #expect(second.imageID == first.imageID)
    #expect(fixture.master.calls(MasterCloudMethods.putImage) == 1)
    #expect(fixture.master.images().count == 1)
    await fixture.stop()
  }

  /// Another upload of the same file may win between the question and the upload.
  @Test func aMasterThatHasItAnswersBeforeItReads() async throws {
    let fixture = try OwnerFixture()
    // Larger than the window of a call, so that the early answer meets bytes that wait.
    let file = TestImages.dicom(side: 1400)
    #expect(file.count > ConnectionLimits().streamWindowBytes)
    let first = try await fixture.store(file)
    fixture.master.denyImages()
    let second = try await fixture.store(file)
    #expect(second.existed)
    #expect(second.imageID == first.imageID)
    #expect(fixture.master.calls(MasterCloudMethods.putImage) == 2)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test(arguments: [
    [], Array("a text that somebody called a.png".utf8), Array(TestImages.png().dropLast(30)),
    Array(TestImages.dicom().prefix(2000)),
  ]) func whatCannotBeDecodedStoresNothing(bytes: [UInt8]) async throws {
    let fixture = try OwnerFixture()
    let error = await fixture.refusal(bytes)
    #expect((error?.code, error?.reason) == (.invalidArgument, "UndecodableImage"))
    #expect(fixture.master.calls(MasterCloudMethods.putImage) == 0)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func unusableTagsAreRefused() async throws {
    let fixture = try OwnerFixture()
    var tag = TagEntry()
    tag.key = "k"
    tag.value = String(repeating: "v", count: 2000)
    let error = await refusalOf { [tag] in
      _ = try await fixture.store(TestImages.png(), tags: [tag])
    }
    #expect((error?.code, error?.reason) == (.invalidArgument, "UnusableTags"))
    #expect(fixture.master.calls(MasterCloudMethods.putImage) == 0)
    await fixture.stop()
  }

  @Test func aTooLargeFileIsRefusedOnItsAnnouncement() async throws {
    let fixture = try OwnerFixture { $0.maximumImageBytes = 10_000 }
    let call = try await fixture.client.open(
      ImageOwnerMethods.storeImage, CallOptions(timeout: .seconds(60)))
    var header = StoreImageHeader()
    header.fileBytes = 10_001
    try await call.send(header)
    // No byte of the file has been sent, and none will be.
    let error = await refusalOf { _ = try await call.receiveOnly() }
    #expect((error?.code, error?.reason) == (.resourceExhausted, "ImageTooLarge"))
    #expect(fixture.owner.load == (0, 0, 0))
    #expect(fixture.master.calls(MasterCloudMethods.hasImages) == 0)
    await fixture.stop()
  }

  @Test func aFileThatIsNotAsAnnouncedIsRefused() async throws {
    let fixture = try OwnerFixture()
    for (announced, sent) in [(100, 50), (50, 100)] {
      let call = try await fixture.client.open(
        ImageOwnerMethods.storeImage, CallOptions(timeout: .seconds(60)))
      var header = StoreImageHeader()
      header.fileBytes = UInt64(announced)
      try await call.send(header)
      let error = await refusalOf {
        try await call.send(bulk: Array(repeating: 7, count: sent))
        try await call.finishSending()
        _ = try await call.receiveOnly()
      }
      #expect(error?.code == .invalidArgument)
    }
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func aRotatedKeyIsUsedForNewImages() async throws {
    let fixture = try OwnerFixture(keys: TestImages.keys(imageVersions: 3, indexVersions: 2))
    _ = try await fixture.store(TestImages.png())
    let record = try #require(fixture.master.images().values.first).record
    #expect(record.imageKeyVersion == 3)
    #expect(try DataKeyWrap.keyVersion(of: record.wrappedDataKey) == 3)
    #expect(record.codes.map(\.indexKeyVersion) == [2])
    await fixture.stop()
  }

  @Test func theMasterLearnsNothing() async throws {
    let fixture = try OwnerFixture()
    let file = TestImages.dicom(side: 128)
    var tag = TagEntry()
    tag.key = "patient"
    tag.value = "Erika Mustermann"
    _ = try await fixture.store(file, name: "mustermann-erika.dcm", tags: [tag])
    let received = try #require(fixture.master.received().first)
    let bytes = received.record.encoded() + received.sealed
    for secret in ["mustermann", "Mustermann", "patient", "PHANTOM", "synthetic"] {
      #expect(bytes.firstRange(of: Array(secret.utf8)) == nil, "\(secret)")
    }
    for start in stride(from: 1000, to: file.count - 16, by: 512) {
      let run = Array(file[start..<start + 16])
      if Set(run).count > 4 { #expect(bytes.firstRange(of: run) == nil, "pixels at \(start)") }
    }
    let model = try TestImages.model()
    let plain = model.code(of: try ImageDecoder.decode(file).image).bits
    #expect(received.record.codes.allSatisfy { $0.code != plain })
    await fixture.stop()
  }
}

@Suite struct FaultTests {
  @Test func aMasterThatComesBackGetsTheImage() async throws {
    let fixture = try OwnerFixture()
    let away = RPCError(.unavailable, "not yet")
    fixture.master.fail(MasterCloudMethods.putImage, with: [away, away])
    fixture.master.fail(MasterCloudMethods.hasImages, with: [away, away])
    let reply = try await fixture.store(TestImages.png())
    #expect(!reply.existed)
    #expect(fixture.master.calls(MasterCloudMethods.putImage) == 3)
    let received = fixture.master.received()
    #expect(Set(received.map(\.sealed)).count == 1, "the very same bytes each time")
    await fixture.stop()
  }

  @Test func theMastersRefusalReachesTheCaller() async throws {
    let fixture = try OwnerFixture()
    let full = RPCError(.failedPrecondition, "no slaves", reason: "NotEnoughSlaves")
    fixture.master.fail(MasterCloudMethods.putImage, with: [full])
    #expect(await fixture.refusal(TestImages.png()) == full)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func aSilentMasterEndsAtTheDeadline() async throws {
    let fixture = try OwnerFixture()
    fixture.master.stop(MasterCloudMethods.putImage, at: TestGate())
    let error = await fixture.refusal(TestImages.png(), timeout: .seconds(2))
    #expect(error?.code == .deadlineExceeded)
    #expect(fixture.master.images().isEmpty)
    #expect(await fixture.isIdle(), "\(fixture.owner.load), \(fixture.master.runningCalls)")
    await fixture.stop()
  }

  @Test func aCallerWhoGivesUpStopsTheUpload() async throws {
    let fixture = try OwnerFixture()
    let gate = TestGate()
    fixture.master.stop(MasterCloudMethods.putImage, at: gate)
    let call = try await fixture.open(TestImages.png())
    await gate.reached()
    call.cancel()
    let error = await refusalOf { _ = try await call.receiveOnly() }
    #expect(error?.code == .cancelled)
    #expect(await fixture.isIdle(), "\(fixture.owner.load), \(fixture.master.runningCalls)")
    #expect(fixture.master.images().isEmpty)
    await fixture.stop()
  }

  @Test func uploadsBeyondTheQueueAreRefused() async throws {
    let fixture = try OwnerFixture {
      $0.workers = 1
      $0.queueLimit = 1
    }
    let gate = TestGate()
    fixture.master.stop(MasterCloudMethods.hasImages, at: gate)
    // One worker means four images in work; the fifth waits.
    let uploads = (0..<5).map { index in
      Task { try await fixture.store(TestImages.png(index)) }
    }
    #expect(await eventually { fixture.owner.load.images == 4 && fixture.owner.load.waiting == 1 })
    let error = await fixture.refusal(TestImages.png(9))
    #expect((error?.code, error?.reason) == (.resourceExhausted, "QueueFull"))
    gate.open()
    for upload in uploads { _ = try await upload.value }
    #expect(fixture.master.images().count == 5)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func strangersMayNotStore() async throws {
    let fixture = try OwnerFixture()
    let address = fixture.server.address
    let user = try fixture.network.channel(to: address, of: .imageOwner, as: .imageUser, "mu-1")
    let error = await refusalOf {
      _ = try await user.unary(
        ImageOwnerMethods.ownerStatus, Empty(), CallOptions(timeout: .seconds(60)))
    }
    #expect(error?.code == .permissionDenied)
    await fixture.stop()
  }
}
