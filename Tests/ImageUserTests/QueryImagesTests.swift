import Base
import ImagePipeline
import ImageTestSupport
import Messages
import RPC
import Testing

@Suite struct QueryImagesTests {
  private func fixtureWithImages(_ count: Int = 4) async throws -> UserFixture {
    let fixture = try UserFixture()
    for index in 0..<count {
      try await fixture.store(TestImages.png(index), name: "\(index).png")
    }
    return fixture
  }

  private func originals(_ count: Int) -> Set<[UInt8]> {
    Set((0..<count).map { TestImages.png($0) })
  }

  @Test func resultsComeInOrderWithTheirOriginals() async throws {
    let fixture = try await fixtureWithImages(8)
    let answers = try await fixture.query(TestImages.png(3), count: 6)
    #expect(answers.map(\.result.rank) == [1, 2, 3, 4, 5, 6])
    let distances = answers.map(\.result.distance)
    #expect(distances == distances.sorted())
    #expect(distances[0] == 0)
    for answer in answers {
      #expect(answer.result.imageStatus == 0)
      #expect(answer.result.problem == "")
      #expect(answer.result.tags?.fileDigest == sha256(answer.file))
    }
    #expect(Set(answers.map(\.file)).isSubset(of: originals(8)))
    #expect(Set(answers.map(\.result.imageID)).count == 6)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func aTableHasNoBytes() async throws {
    let fixture = try await fixtureWithImages()
    let answers = try await fixture.query(TestImages.jpeg, withImages: false)
    #expect(answers.count == 4)
    #expect(answers.allSatisfy { $0.file.isEmpty && $0.result.fileBytes == 0 })
    #expect(answers.allSatisfy { $0.result.tags?.fileName.hasSuffix(".png") == true })
    await fixture.stop()
  }

  @Test func anEmptyStoreHasNoResults() async throws {
    let fixture = try UserFixture()
    #expect(try await fixture.query(TestImages.png()).isEmpty)
    await fixture.stop()
  }

  @Test func imagesOfEveryIndexKeyVersionAreFound() async throws {
    let keys = TestImages.keys(indexVersions: 2)
    let fixture = try UserFixture(keys: keys)
    try await fixture.store(TestImages.png(0))
    try await fixture.store(TestImages.png(1), keys: keys)
    let answers = try await fixture.query(TestImages.png(1))
    #expect(Set(answers.map(\.file)) == originals(2))
    let search = try #require(fixture.master.searches.first)
    #expect(search.codes.map(\.indexKeyVersion) == [1, 2])
    await fixture.stop()
  }

  /// The first result is with the caller while the master still works on the second.
  @Test func aSlowResultHoldsUpOnlyThoseAfterIt() async throws {
    let fixture = try await fixtureWithImages()
    let plan = try await fixture.query(TestImages.png(0), withImages: false)
    let slow = try #require(ImageID(plan[1].result.imageID))
    let gate = TestGate()
    fixture.master.stopBulk(of: slow, at: gate)
    let call = try await fixture.open(TestImages.png(0))
    let first = try #require(try await fixture.next(call))
    #expect(first.result.imageID == plan[0].result.imageID)
    #expect(sha256(first.file) == first.result.tags?.fileDigest)
    await gate.reached()
    gate.open()
    var rest: [UserFixture.Answer] = []
    while let answer = try await fixture.next(call) { rest.append(answer) }
    #expect(rest.map(\.result.imageID) == plan.dropFirst().map(\.result.imageID))
    #expect(rest.allSatisfy { !$0.file.isEmpty })
    await fixture.stop()
  }

  @Test func whatFailsIsListedAndTheOthersGoOn() async throws {
    let fixture = try await fixtureWithImages(6)
    let plan = try await fixture.query(TestImages.png(0), withImages: false)
    let ids = try plan.map { try #require(ImageID($0.result.imageID)) }
    fixture.master.failImage(
      ids[0], with: RPCError(.unavailable, "only 2 of 3 slaves", reason: "NotEnoughShadows"))
    fixture.master.alter(ids[2]) { $0.sealed[200] ^= 1 }
    fixture.master.alter(ids[3]) { $0.record.wrappedDataKey[30] ^= 1 }
    let answers = try await fixture.query(TestImages.png(0))
    #expect(answers.map(\.result.imageID) == ids.map(\.bytes))
    #expect(answers.map(\.result.rank) == [1, 2, 3, 4, 5, 6])
    let statuses = answers.map(\.result.imageStatus)
    #expect(
      statuses == [
        StatusCode.unavailable.rawValue, 0, StatusCode.dataLoss.rawValue,
        StatusCode.dataLoss.rawValue, 0, 0,
      ])
    #expect(answers[0].result.problem == "only 2 of 3 slaves (NotEnoughShadows)")
    #expect(answers[0].result.tags != nil)
    #expect(answers[2].result.problem.contains("SealBroken"))
    #expect(answers[2].result.tags != nil)
    #expect(answers[3].result.tags == nil)
    for (answer, status) in zip(answers, statuses) { #expect(answer.file.isEmpty == (status != 0)) }
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func whatTheMasterSentBeforeItFailedArrives() async throws {
    let fixture = try await fixtureWithImages()
    let gate = TestGate()
    fixture.master.failSearch(after: 2, with: RPCError(.unavailable, "killed"), at: gate)
    let call = try await fixture.open(TestImages.png(0))
    #expect(try await fixture.next(call)?.result.rank == 1)
    #expect(try await fixture.next(call)?.result.rank == 2)
    gate.open()
    let error = await refusalOf { _ = try await fixture.next(call) }
    #expect(error == RPCError(.unavailable, "killed"))
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func aTooLargeResultIsSkipped() async throws {
    let fixture = try UserFixture { $0.maximumImageBytes = 8000 }
    try await fixture.store(TestImages.png(0))
    try await fixture.store(TestImages.dicom(side: 128))
    try await fixture.store(TestImages.png(1))
    #expect(TestImages.png(0).count < 8000)
    let answers = try await fixture.query(TestImages.png(0))
    #expect(answers.count == 3)
    let statuses = answers.map(\.result.imageStatus)
    #expect(statuses.filter { $0 == 0 }.count == 2)
    #expect(statuses.contains(StatusCode.resourceExhausted.rawValue))
    #expect(Set(answers.map(\.file)) == originals(2).union([[]]))
    await fixture.stop()
  }

  @Test func requestsAreChecked() async throws {
    let fixture = try await fixtureWithImages(1)
    for count: UInt32 in [0, 1001] {
      let error = await refusalOf { _ = try await fixture.query(TestImages.png(), count: count) }
      #expect(error?.code == .invalidArgument)
    }
    let text = await refusalOf { _ = try await fixture.query(Array("no picture".utf8)) }
    #expect((text?.code, text?.reason) == (.invalidArgument, "UndecodableImage"))
    let large = await refusalOf {
      _ = try await fixture.query(Array(repeating: 0, count: (4 << 20) + 1))
    }
    #expect((large?.code, large?.reason) == (.resourceExhausted, "ImageTooLarge"))
    #expect(fixture.master.searches.isEmpty)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func theDeadlineEndsItEverywhere() async throws {
    let fixture = try await fixtureWithImages()
    fixture.master.stop(MasterCloudMethods.searchImages, at: TestGate())
    let error = await refusalOf {
      let call = try await fixture.open(TestImages.png(0), timeout: .seconds(2))
      _ = try await fixture.next(call)
    }
    #expect(error?.code == .deadlineExceeded)
    #expect(await fixture.isIdle(), "\(fixture.user.load), \(fixture.master.runningCalls)")
    await fixture.stop()
  }

  @Test func aCallerWhoGivesUpStopsTheSearch() async throws {
    let fixture = try await fixtureWithImages()
    let plan = try await fixture.query(TestImages.png(0), withImages: false)
    let gate = TestGate()
    fixture.master.stopBulk(of: try #require(ImageID(plan[1].result.imageID)), at: gate)
    let call = try await fixture.open(TestImages.png(0))
    _ = try await fixture.next(call)
    await gate.reached()
    call.cancel()
    #expect(await fixture.isIdle(), "\(fixture.user.load), \(fixture.master.runningCalls)")
    await fixture.stop()
  }
}
