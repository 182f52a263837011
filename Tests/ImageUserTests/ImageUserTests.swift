import Base
import Enrollment
import ImagePipeline
import ImageTestSupport
import ImageUser
import Messages
import RPC
import Testing

/// A user's server in front of a fake master that holds sealed images.
final class UserFixture: Sendable {
  let network: TestNetwork
  let user: ImageUser
  let server: Server
  let client: Channel
  let masterChannel: Channel
  var master: FakeMaster { network.master }
  let options = CallOptions(timeout: .seconds(60))

  init(
    keys: KeyRing = TestImages.keys(), change: (inout ImageUserLimits) -> Void = { _ in }
  ) throws {
    network = try TestNetwork()
    var limits = ImageUserLimits()
    limits.maximumImageBytes = 4 << 20
    change(&limits)
    masterChannel = try network.masterChannel(as: .imageOwner, "mo-1")
    let user = ImageUser(
      identity: try network.identity(.imageUser, "mu-1"),
      certificateExpiresAtMilliseconds: { 42 }, model: try TestImages.model(),
      keys: TestImages.source(keys),
      master: ServiceClient(
        over: [try network.masterChannel(as: .imageUser, "mu-1")],
        configuration: ServiceClient.mastersConfiguration(ConnectionLimits())),
      limits: limits, logger: network.logger)
    self.user = user
    (server, client) = try network.serve(.imageUser, "mu-1") { user.register(in: &$0) }
  }

  func stop() async { await network.stop([server]) }

  /// Stores as an owner would.
  @discardableResult
  func store(
    _ bytes: [UInt8], name: String = "a.png", keys: KeyRing = TestImages.keys()
  ) async throws -> ImageID {
    let sealer = ImageSealer(owner: "mo-1", model: try TestImages.model(), keys: keys)
    let sealed = try sealer.seal(PlainImage(bytes: bytes, path: name, tags: []))
    let call = try await masterChannel.open(MasterCloudMethods.putImage, options)
    var header = PutImageHeader()
    header.record = sealed.record
    try await call.send(header)
    try await call.send(inPieces: sealed.bytes)
    try await call.finishSending()
    _ = try await call.receiveOnly()
    return try #require(ImageID(sealed.record.imageID))
  }

  func open(
    _ query: [UInt8], count: UInt32 = 10, withImages: Bool = true,
    timeout: Duration = .seconds(60)
  ) async throws -> ClientCall<QueryImagesHeader, QueryResult> {
    let call = try await client.open(
      ImageUserMethods.queryImages, CallOptions(timeout: timeout))
    var header = QueryImagesHeader()
    header.count = count
    header.withImages = withImages
    header.fileBytes = UInt64(query.count)
    try await call.send(header)
    try await call.send(inPieces: query)
    try await call.finishSending()
    return call
  }

  typealias Answer = (result: QueryResult, file: [UInt8])

  func next(_ call: ClientCall<QueryImagesHeader, QueryResult>) async throws -> Answer? {
    guard let result = try await call.receiveMessage() else { return nil }
    return (result, try await call.receiveBulk(count: result.fileBytes, maximum: 1 << 30))
  }

  func query(
    _ query: [UInt8], count: UInt32 = 10, withImages: Bool = true
  ) async throws -> [Answer] {
    let call = try await open(query, count: count, withImages: withImages)
    var answers: [Answer] = []
    while let answer = try await next(call) { answers.append(answer) }
    return answers
  }

  func get(_ id: [UInt8]) async throws -> (header: GetImageHeader, file: [UInt8]) {
    let call = try await client.open(ImageUserMethods.getImage, options)
    var request = GetImageRequest()
    request.imageID = id
    try await call.sendLast(request)
    let header = try #require(try await call.receiveMessage())
    let file = try await call.receiveBulk(count: header.fileBytes, maximum: 1 << 30)
    #expect(try await call.receiveMessage() == nil)
    return (header, file)
  }

  func refusalOfGet(_ id: [UInt8]) async -> RPCError? {
    await refusalOf { _ = try await self.get(id) }
  }

  func isIdle() async -> Bool {
    await eventually { self.user.load == (0, 0, 0) && self.master.runningCalls == 0 }
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

@Suite struct GetImageTests {
  @Test(arguments: TestImages.kinds) func theOriginalComesBack(
    kind: (name: String, bytes: [UInt8])
  ) async throws {
    let fixture = try UserFixture()
    let id = try await fixture.store(kind.bytes, name: kind.name)
    let (header, file) = try await fixture.get(id.bytes)
    #expect(file == kind.bytes)
    #expect(header.imageID == id.bytes)
    #expect(header.owner == "mo-1")
    #expect(header.tags?.fileName == kind.name)
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func alteredImagesAreDataLoss() async throws {
    let fixture = try UserFixture()
    let id = try await fixture.store(TestImages.png())
    fixture.master.alter(id) { $0.sealed[100] ^= 1 }
    let error = await fixture.refusalOfGet(id.bytes)
    #expect((error?.code, error?.reason) == (.dataLoss, "SealBroken"))
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func anotherImageUnderTheIDIsNoticed() async throws {
    let fixture = try UserFixture()
    let first = try await fixture.store(TestImages.png(0))
    let second = try await fixture.store(TestImages.png(1))
    let other = try #require(fixture.master.images()[second])
    fixture.master.alter(first) { $0 = other }
    let swapped = await fixture.refusalOfGet(first.bytes)
    #expect((swapped?.code, swapped?.reason) == (.dataLoss, "ForeignRecord"))
    fixture.master.alter(first) { $0.record.imageID = first.bytes }
    let renamed = await fixture.refusalOfGet(first.bytes)
    #expect((renamed?.code, renamed?.reason) == (.dataLoss, "SealBroken"))
    await fixture.stop()
  }

  @Test func keysDecideWhatOpens() async throws {
    let stranger = try UserFixture(keys: TestImages.keys(seed: 5))
    let id = try await stranger.store(TestImages.png())
    let wrong = await stranger.refusalOfGet(id.bytes)
    #expect((wrong?.code, wrong?.reason) == (.dataLoss, "SealBroken"))
    let late = try await stranger.store(
      TestImages.png(1), keys: TestImages.keys(seed: 5, imageVersions: 2))
    let missing = await stranger.refusalOfGet(late.bytes)
    #expect((missing?.code, missing?.reason) == (.failedPrecondition, "KeyMissing"))
    await stranger.stop()
  }

  @Test func oldAndNewKeyVersionsOpen() async throws {
    let fixture = try UserFixture(keys: TestImages.keys(imageVersions: 2))
    let old = try await fixture.store(TestImages.png(0))
    let new = try await fixture.store(TestImages.png(1), keys: TestImages.keys(imageVersions: 2))
    #expect(try await fixture.get(old.bytes).file == TestImages.png(0))
    #expect(try await fixture.get(new.bytes).file == TestImages.png(1))
    #expect(fixture.master.images()[new]?.record.imageKeyVersion == 2)
    await fixture.stop()
  }

  @Test func requestsAreChecked() async throws {
    let fixture = try UserFixture { $0.maximumImageBytes = 100 }
    #expect(await fixture.refusalOfGet([1, 2])?.code == .invalidArgument)
    let absent = await fixture.refusalOfGet(Array(repeating: 9, count: 16))
    #expect((absent?.code, absent?.reason) == (.notFound, "NoSuchImage"))
    let large = try await fixture.store(TestImages.png())
    let error = await fixture.refusalOfGet(large.bytes)
    #expect((error?.code, error?.reason) == (.resourceExhausted, "ImageTooLarge"))
    #expect(await fixture.isIdle())
    await fixture.stop()
  }

  @Test func aMasterThatWasAwayForAMomentIsAskedAgain() async throws {
    let fixture = try UserFixture()
    let id = try await fixture.store(TestImages.png())
    let away = RPCError(.unavailable, "not yet")
    fixture.master.fail(MasterCloudMethods.fetchImage, with: [away, away])
    #expect(try await fixture.get(id.bytes).file == TestImages.png())
    fixture.master.fail(
      MasterCloudMethods.fetchImage, with: Array(repeating: away, count: 100))
    #expect(await fixture.refusalOfGet(id.bytes) == away)
    await fixture.stop()
  }

  @Test func listingAndStatus() async throws {
    let fixture = try UserFixture()
    let id = try await fixture.store(TestImages.png(), name: "x.png")
    let list = try await fixture.client.unary(
      ImageUserMethods.listImages, ListOwnImagesRequest(), fixture.options)
    #expect(list.images.map(\.imageID) == [id.bytes])
    #expect(list.images.first?.tags?.fileName == "x.png")
    let master = try await fixture.client.unary(
      ImageUserMethods.masterStatus, Empty(), fixture.options)
    #expect((master.node, master.images) == ("mcs-1", 1))
    let own = try await fixture.client.unary(
      ImageUserMethods.userStatus, Empty(), fixture.options)
    #expect((own.node, own.role, own.problem) == ("mu-1", "mu", ""))
    await fixture.stop()
  }
}
