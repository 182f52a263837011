import Base
import ImageOwner
import ImagePipeline
import ImageTestSupport
import Messages
import RPC
import Testing

@Suite struct OwnerQuestionTests {
  private let options = CallOptions(timeout: .seconds(60))

  @Test func checkingTellsWhatIsStored() async throws {
    let fixture = try OwnerFixture()
    let stored = try await fixture.store(TestImages.png())
    var request = CheckImagesRequest()
    // More than one question to the master holds.
    request.fileDigests = (0..<1500).map { sha256(Array("\($0)".utf8)) }
    request.fileDigests[1200] = sha256(TestImages.png())
    let before = fixture.master.calls(MasterCloudMethods.hasImages)
    let reply = try await fixture.client.unary(
      ImageOwnerMethods.checkImages, request, options)
    #expect(fixture.master.calls(MasterCloudMethods.hasImages) == before + 2)
    #expect(reply.stored.count == 1500)
    #expect(reply.stored.firstIndex(of: true) == 1200)
    #expect(reply.stored.count { $0 } == 1)
    #expect(reply.imageIDs[1200] == stored.imageID)
    request.fileDigests = [[1, 2]]
    let error = await refusalOf { [request] in
      _ = try await fixture.client.unary(ImageOwnerMethods.checkImages, request, options)
    }
    #expect(error?.code == .invalidArgument)
    await fixture.stop()
  }

  @Test func removingRemoves() async throws {
    let fixture = try OwnerFixture()
    var request = RemoveImageRequest()
    request.imageID = try await fixture.store(TestImages.png()).imageID
    let first = try await fixture.client.unary(ImageOwnerMethods.removeImage, request, options)
    #expect(first.existed)
    #expect(fixture.master.images().isEmpty)
    let second = try await fixture.client.unary(ImageOwnerMethods.removeImage, request, options)
    #expect(!second.existed)
    request.imageID = [1]
    let error = await refusalOf { [request] in
      _ = try await fixture.client.unary(ImageOwnerMethods.removeImage, request, options)
    }
    #expect(error?.code == .invalidArgument)
    await fixture.stop()
  }

  @Test func listingGoesPageByPageAndShowsWhatIsBroken() async throws {
    let fixture = try OwnerFixture()
    var ids: [ImageID] = []
    for index in 0..<5 {
      let reply = try await fixture.store(TestImages.png(index), name: "\(index).png")
      ids.append(try #require(ImageID(reply.imageID)))
    }
    ids.sort()
    fixture.master.alter(ids[1]) { $0.record.sealedTags[30] ^= 1 }
    // Another owner's image, in the middle of the first page.
    fixture.master.alter(ids[2]) { $0.record.owner = "mo-2" }
    var request = ListOwnImagesRequest()
    request.limit = 2
    var listed: [OwnImage] = []
    var pages = 0
    while true {
      let reply = try await fixture.client.unary(
        ImageOwnerMethods.listOwnImages, request, options)
      #expect(reply.images.count <= 2)
      listed += reply.images
      pages += 1
      guard reply.more, let last = reply.images.last else { break }
      request.after = last.imageID
    }
    #expect(pages == 2)
    #expect(listed.map(\.imageID) == [0, 1, 3, 4].map { ids[$0].bytes })
    #expect(listed[1].tags == nil)
    #expect(listed[1].problem.contains("seal"))
    for image in [listed[0], listed[2], listed[3]] {
      #expect(image.problem == "")
      #expect(image.tags?.fileName.hasSuffix(".png") == true)
      #expect(image.owner == "mo-1")
      #expect(image.storedAtMilliseconds == 1_700_000_000_000)
    }
    await fixture.stop()
  }

  /// Tags may hold 60 KiB an image: a page of many must still fit one message.
  @Test func aPageFitsAMessage() async throws {
    let fixture = try OwnerFixture()
    var tag = TagEntry()
    tag.key = "k"
    tag.value = String(repeating: "v", count: 1000)
    for index in 0..<12 {
      _ = try await fixture.store(
        TestImages.png(index), tags: Array(repeating: tag, count: 60))
    }
    var request = ListOwnImagesRequest()
    var count = 0
    while true {
      let reply = try await fixture.client.unary(
        ImageOwnerMethods.listOwnImages, request, options)
      count += reply.images.count
      guard reply.more, let last = reply.images.last else { break }
      #expect(reply.images.count < 12)
      request.after = last.imageID
    }
    #expect(count == 12)
    await fixture.stop()
  }

  @Test func statusTellsOfTheMasterAlsoWhenItIsAway() async throws {
    let fixture = try OwnerFixture(keys: TestImages.keys(imageVersions: 2))
    let reply = try await fixture.client.unary(
      ImageOwnerMethods.ownerStatus, Empty(), options)
    #expect((reply.node, reply.role) == ("mo-1", "mo"))
    #expect(reply.modelVersion == sha256(TestImages.modelFile).hex)
    #expect((reply.imageKeyVersion, reply.indexKeyVersion) == (2, 1))
    #expect(reply.certificateExpiresMilliseconds == 42)
    #expect(reply.master == "mcs-1, of \(fixture.network.masterAddress)")
    #expect(reply.problem == "")
    fixture.master.fail(
      MasterCloudMethods.clusterStatus, with: [RPCError(.unavailable, "asleep")])
    let problem = try await fixture.client.unary(
      ImageOwnerMethods.ownerStatus, Empty(), options)
    #expect(problem.master == "")
    #expect(problem.problem.contains("asleep"))
    await fixture.stop()
  }

  /// The answer to a deletion may be lost with its leader: the next one must know it for the same.
  @Test func aDeletionThatIsRepeatedNamesItself() async throws {
    let fixture = try OwnerFixture(keys: TestImages.keys(imageVersions: 2))
    fixture.master.fail(
      MasterCloudMethods.deleteImage,
      with: [RPCError(.unavailable, "whether it was done is not known", reason: "OutcomeUnknown")])
    var request = RemoveImageRequest()
    request.imageID = [UInt8](repeating: 1, count: 16)
    for _ in 0..<2 {
      _ = try await fixture.client.unary(ImageOwnerMethods.removeImage, request, options)
    }
    let deletions = fixture.master.deletions
    #expect(deletions.count == 3)
    #expect(deletions.allSatisfy { $0.client.count == 16 && $0.client == deletions[0].client })
    #expect(deletions[0].sequence == deletions[1].sequence)
    #expect(deletions[1].sequence != deletions[2].sequence)
    await fixture.stop()
  }
}
