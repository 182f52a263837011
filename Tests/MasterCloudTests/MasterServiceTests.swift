import Base
import Enrollment
import Logging
import Messages
import RPC
import Shadows
import TestSupport
import Testing

@testable import MasterCloud

@Suite(.timeLimit(.minutes(3))) struct MasterServiceTests {
  @Test func whatWasStoredComesBack() async throws {
    let harness = try await MasterHarness()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let user = try harness.channel(.imageUser, "mu-1")
    for (seed, bytes) in [(1, 1), (2, 511), (3, 512), (4, 70_000), (5, 1_500_000)] {
      let image = TestImage(seed: UInt64(seed), bytes: bytes)
      let reply = try await image.put(on: owner)
      #expect(!reply.existed)
      #expect((3...5).contains(reply.shadows))
      let (record, sealed) = try await fetch(image.record.imageID, on: user)
      #expect(sealed == image.sealed)
      #expect(record.owner == "mo-1")
      #expect(record.wrappedDataKey == image.record.wrappedDataKey)
      #expect(record.storedAtMilliseconds > 0)
    }
    let status = try await harness.status()
    #expect(status.images == 5)
    #expect(try await harness.shadowsOnSlaves() == status.shadows)
    await harness.stopAll()
  }

  @Test func storingTwiceStoresOnce() async throws {
    let harness = try await MasterHarness()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let image = TestImage(seed: 1, bytes: 10_000)
    // At the same time, and once more after.
    let replies = try await withThrowingTaskGroup(of: PutImageReply?.self) { group in
      for _ in 0..<4 {
        group.addTask {
          do {
            return try await image.put(on: owner)
          } catch {
            // Epochs collide; the caller is told to repeat.
            #expect((error as? RPCError)?.code == .aborted)
            return nil
          }
        }
      }
      return try await group.reduce(into: [PutImageReply?]()) { $0.append($1) }
    }
    #expect(replies.compactMap { $0 }.filter { !$0.existed }.count == 1)
    #expect(try await image.put(on: owner).existed)
    #expect(try await harness.status().images == 1)
    // What the losers wrote is surplus and goes.
    try await eventually {
      let status = try await harness.status()
      let onSlaves = try await harness.shadowsOnSlaves()
      return onSlaves == status.shadows
    }
    await harness.stopAll()
  }

  @Test func anIDBelongsToTheOwnerWhoStoredIt() async throws {
    let harness = try await MasterHarness()
    let image = TestImage(seed: 1, bytes: 1000)
    _ = try await image.put(on: try harness.channel(.imageOwner, "mo-1"))
    let other = try harness.channel(.imageOwner, "mo-2")
    // Not "stored already": the other owner's file is nowhere.
    let error = await rpcError { () async throws(RPCError) in try await image.put(on: other) }
    #expect(error?.code == .alreadyExists)
    #expect(error?.reason == "IDTaken")
    var request = HasImagesRequest()
    request.imageIDs = [image.record.imageID]
    let reply = try await other.unary(
      MasterCloudMethods.hasImages, request, CallOptions(timeout: .seconds(30)))
    #expect(reply.stored == [false])
    await harness.stopAll()
  }

  @Test func aSlaveThatDiesDuringAnUploadIsReplaced() async throws {
    let harness = try await MasterHarness(
      slaves: 5, sharing: Sharing(threshold: 2, shadowCount: 4))
    let owner = try harness.channel(.imageOwner, "mo-1")
    // The master still believes in these when the uploads begin.
    await harness.slaves[1].kill()
    for seed in 1...8 {
      let image = TestImage(seed: UInt64(seed), bytes: 30_000)
      #expect(try await image.put(on: owner).shadows == 4)
      let user = try harness.channel(.imageUser, "mu-1")
      #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    }
    await harness.stopAll()
  }

  /// What was deleted long ago must not be had from a master that was away for long.
  @Test func anAgeIsADayAtMost() async throws {
    let harness = try await MasterHarness(slaves: 3)
    let user = try harness.channel(.imageUser, "mu-1")
    let image = TestImage(seed: 1, bytes: 1000)
    _ = try await image.put(on: try harness.channel(.imageOwner, "mo-1"))
    let found = try await fetch(image.record.imageID, on: user, maximumAge: 86_400_000)
    #expect(found.bytes == image.sealed)
    let refusal = await rpcError { () async throws(RPCError) in
      try await fetch(image.record.imageID, on: user, maximumAge: 86_400_001)
    }
    #expect(refusal?.code == .invalidArgument)
    await harness.stopAll()
  }

  @Test func tooFewSlavesIsAClearError() async throws {
    let harness = try await MasterHarness(
      slaves: 4, sharing: Sharing(threshold: 3, shadowCount: 4))
    await harness.slaves[0].kill()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let error = await rpcError { () async throws(RPCError) in
      try await TestImage(seed: 1, bytes: 1000).put(on: owner)
    }
    #expect(error?.code == .unavailable)
    #expect(error?.reason == "NotEnoughSlaves")
    #expect(try await harness.status().images == 0)
    await harness.stopAll()
  }

  @Test func readersSurviveLostSlavesUpToTheTolerance() async throws {
    let harness = try await MasterHarness(
      slaves: 5, sharing: Sharing(threshold: 3, shadowCount: 5))
    let owner = try harness.channel(.imageOwner, "mo-1")
    let user = try harness.channel(.imageUser, "mu-1")
    let image = TestImage(seed: 1, bytes: 200_000)
    _ = try await image.put(on: owner)
    for lost in 0..<2 {
      await harness.slaves[lost].kill()
      #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    }
    await harness.slaves[2].kill()
    let error = await rpcError { () async throws(RPCError) in
      try await fetch(image.record.imageID, on: user)
    }
    #expect(error?.reason == "NotEnoughShadows")
    // The slaves may come back: not a loss.
    #expect(error?.code == .unavailable)
    await harness.stopAll()
  }

  @Test func aSlaveThatNeverAnswersIsHedged() async throws {
    let authority = try TestAuthority()
    let group = EventLoopGroup(count: 1)
    var logger = MasterServiceTests.quietLogger
    logger.logLevel = .critical
    let slow = try SlowSlave("scs-9", authority, group, logger)
    let harness = try await MasterHarness(
      slaves: 3, extra: [slow], sharing: Sharing(threshold: 3, shadowCount: 4),
      authority: authority)
    let owner = try harness.channel(.imageOwner, "mo-1")
    let user = try harness.channel(.imageUser, "mu-1")
    let image = TestImage(seed: 1, bytes: 50_000)
    _ = try await image.put(on: owner)
    // Three of four are asked; until the silent one has been among them, chance decides.
    while slow.asked.withLock({ $0 }) == 0 {
      #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    }
    await harness.stopAll()
    await slow.server.shutdown(graceMilliseconds: 0)
  }

  static var quietLogger: Logger {
    var logger = Logger(label: "quiet")
    logger.logLevel = .critical
    return logger
  }

  @Test func aRepeatedDeletionIsAnsweredAsTheFirst() async throws {
    let harness = try await MasterHarness()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let image = TestImage(seed: 1, bytes: 2000)
    _ = try await image.put(on: owner)
    var request = DeleteImageRequest()
    request.imageID = image.record.imageID
    (request.client, request.sequence) = ([UInt8](repeating: 3, count: 16), 1)
    let options = CallOptions(timeout: .seconds(30))
    for _ in 0..<2 {
      #expect(try await owner.unary(MasterCloudMethods.deleteImage, request, options).existed)
    }
    request.sequence = 2
    #expect(try await !owner.unary(MasterCloudMethods.deleteImage, request, options).existed)
    request.client = [1, 2, 3]
    let error = await rpcError { [request] () async throws(RPCError) in
      try await owner.unary(MasterCloudMethods.deleteImage, request, options)
    }
    #expect(error?.code == .invalidArgument)
    await harness.stopAll()
  }

  @Test func aDeletedImageIsGoneAndItsShadowsAreCollected() async throws {
    let harness = try await MasterHarness()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let stranger = try harness.channel(.imageOwner, "mo-2")
    let user = try harness.channel(.imageUser, "mu-1")
    let image = TestImage(seed: 1, bytes: 5000, code: 0xbeef)
    _ = try await image.put(on: owner)
    var request = DeleteImageRequest()
    request.imageID = image.record.imageID
    let options = CallOptions(timeout: .seconds(30))
    let refused = await rpcError { () async throws(RPCError) in
      try await stranger.unary(MasterCloudMethods.deleteImage, request, options)
    }
    #expect(refused?.code == .permissionDenied)
    #expect(
      try await owner.unary(MasterCloudMethods.deleteImage, request, options).existed)
    #expect(
      try await !owner.unary(MasterCloudMethods.deleteImage, request, options).existed)
    let missing = await rpcError { () async throws(RPCError) in
      try await fetch(image.record.imageID, on: user)
    }
    #expect(missing?.code == .notFound)
    #expect(try await Self.search(0xbeef, 5, on: user).isEmpty)
    try await eventually { try await harness.shadowsOnSlaves() == 0 }
    // The same image may come again.
    #expect(try await !image.put(on: owner).existed)
    #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    await harness.stopAll()
  }

  static func search(
    _ code: UInt64, _ count: UInt32, withImages: Bool = false, on user: Channel
  ) async throws(RPCError) -> [(result: SearchResult, bytes: [UInt8])] {
    var masked = MaskedCode()
    masked.modelVersion = "model-a"
    masked.indexKeyVersion = 1
    masked.bits = 16
    masked.code = code
    var request = SearchImagesRequest()
    request.codes = [masked]
    request.count = count
    request.withImages = withImages
    let call = try await user.open(
      MasterCloudMethods.searchImages, CallOptions(timeout: .seconds(60)))
    try await call.sendLast(request)
    var results: [(SearchResult, [UInt8])] = []
    while let result = try await call.receiveMessage() {
      var bytes: [UInt8] = []
      if withImages && result.imageStatus == 0 {
        bytes = try await call.receiveBulk(
          count: result.record?.sealedBytes ?? 0, maximum: 1 << 26)
      }
      results.append((result, bytes))
    }
    return results
  }

  @Test func searchRanksByDistanceThenIDAndStreamsTheImages() async throws {
    let harness = try await MasterHarness()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let user = try harness.channel(.imageUser, "mu-1")
    let codes: [UInt64] = [0x0000, 0x0001, 0x0003, 0x0001, 0xffff, 0x8000]
    var images: [TestImage] = []
    for (index, code) in codes.enumerated() {
      images.append(TestImage(seed: UInt64(index + 10), bytes: 20_000, code: code))
      _ = try await images[index].put(on: owner)
    }
    let expected = images.sorted {
      let (left, right) = ($0.record.codes[0].code, $1.record.codes[0].code)
      return (left.nonzeroBitCount, ImageID($0.record.imageID)!)
        < (right.nonzeroBitCount, ImageID($1.record.imageID)!)
    }
    let results = try await Self.search(0, 5, withImages: true, on: user)
    #expect(results.map(\.result.record?.imageID) == expected.prefix(5).map(\.record.imageID))
    #expect(results.map(\.result.distance) == [0, 1, 1, 1, 2])
    #expect(results.map(\.result.rank) == [1, 2, 3, 4, 5])
    #expect(results.map(\.bytes) == expected.prefix(5).map(\.sealed))
    // Another model's codes are not comparable.
    await harness.stopAll()
  }

  @Test func theStateSurvivesARestart() async throws {
    let harness = try await MasterHarness()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let images = (1...4).map { TestImage(seed: UInt64($0), bytes: 9000, code: UInt64($0)) }
    for image in images { _ = try await image.put(on: owner) }
    await harness.stop()
    let again = try await MasterHarness(
      authority: harness.authority, directory: harness.directory, reusing: harness.slaves,
      keys: harness.keys)
    let user = try again.channel(.imageUser, "mu-1")
    for image in images {
      #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    }
    #expect(try await Self.search(1, 10, on: user).count == 4)
    await again.stopAll()
  }

  /// The scheme may be changed at any restart: each image comes back as it was split.
  @Test func bothSchemesLiveInOneCluster() async throws {
    let sharing = Sharing(threshold: 3, shadowCount: 5)
    var harness = try await MasterHarness(sharing: sharing, scheme: "krawczyk")
    let images = (1...4).map { TestImage(seed: UInt64(800 + $0), bytes: 50_000 * $0) }
    var stored: [UInt64] = []
    for (number, image) in images.enumerated() {
      if number == 2 {
        await harness.stop()
        harness = try await MasterHarness(
          sharing: sharing, authority: harness.authority, directory: harness.directory,
          reusing: harness.slaves, keys: harness.keys, scheme: "bai")
      }
      stored.append(try await image.put(on: harness.channel(.imageOwner, "mo-1")).shadowBytes)
    }
    // What each stores says how it was split: n 5/3 and five key shares; n (5/3 + 5/16).
    #expect(stored[0] == 5 * (32 + 16 * 1042))
    #expect(stored[3] > 200_000 * 19 / 10)
    // Two slaves are gone, so that shards have to be computed.
    for slave in harness.slaves.prefix(2) { await slave.kill() }
    for image in images {
      let fetched = try await fetch(
        image.record.imageID, on: harness.channel(.imageUser, "mu-1"))
      #expect(fetched.bytes == image.sealed)
    }
    await harness.stopAll()
  }

  @Test func aWrongThresholdKeyOpensNothing() async throws {
    let harness = try await MasterHarness()
    let image = TestImage(seed: 1, bytes: 4000)
    _ = try await image.put(on: try harness.channel(.imageOwner, "mo-1"))
    await harness.stop()
    let wrong = KeyRing(keys: [
      (kind: .threshold, version: 1, key: SecretBytes([UInt8](repeating: 8, count: 32)))
    ])
    let again = try await MasterHarness(
      authority: harness.authority, directory: harness.directory, reusing: harness.slaves,
      keys: wrong)
    let user = try again.channel(.imageUser, "mu-1")
    let error = await rpcError { () async throws(RPCError) in
      try await fetch(image.record.imageID, on: user)
    }
    #expect(error?.code == .dataLoss)
    #expect(error?.reason == "ThresholdUnreadable")
    await again.stopAll()
  }

  @Test func recordsOutsideTheirBoundsAreRefused() async throws {
    let harness = try await MasterHarness()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let changes: [@Sendable (inout TestImage) -> Void] = [
      { $0.record.imageID = [1, 2, 3] },
      { $0.record.codes = [] },
      { $0.record.codes[0].bits = 17 },
      { $0.record.codes[0].code = 1 << 16 },
      { $0.record.wrappedDataKey = [] },
      { $0.record.sealedTags = [UInt8](repeating: 0, count: 70_000) },
      { $0.record.sealedDigest = [] },
      { $0.record.sealedDigest[0] ^= 1 },
      { $0.record.sealedBytes = 5 << 20 },
      { $0.record.sealedBytes += 1 },
    ]
    for (index, change) in changes.enumerated() {
      var image = TestImage(seed: 3, bytes: 1000)
      change(&image)
      let error = await rpcError { [image] () async throws(RPCError) in
        try await image.put(on: owner)
      }
      #expect(
        error?.code == .invalidArgument || error?.code == .resourceExhausted, "change \(index)")
    }
    #expect(try await harness.status().images == 0)
    #expect(try await harness.shadowsOnSlaves() == 0)
    await harness.stopAll()
  }
}
