import Base
import Foundation
import Messages
import RPC
import Shadows
import SlaveCloud
import TestSupport
import Testing

@testable import MasterCloud

/// Repair, draining and return of slaves, step by step: nothing happens by the clock here.
@Suite(.timeLimit(.minutes(5))) struct CareTests {
  private static let repairAtOnce: @Sendable (inout MasterConfiguration) -> Void = {
    $0.care.repairAfter = .zero
    $0.care.bytesPerSecond = 0
    $0.care.shareWhenBusy = 1
  }

  private static func harness(
    slaves: Int, sharing: Sharing?, scheme: String = "bai",
    _ change: @escaping (inout MasterConfiguration) -> Void = { _ in }
  ) async throws -> MasterHarness {
    try await MasterHarness(
      slaves: slaves, sharing: sharing, scheme: scheme, background: false,
      change: {
        repairAtOnce(&$0)
        change(&$0)
      })
  }

  private static func put(
    _ count: Int, on harness: MasterHarness, bytes: Int = 3000, seed: UInt64 = 1
  ) async throws -> [TestImage] {
    let owner = try harness.channel(.imageOwner, "mo-1")
    let images = (0..<count).map { TestImage(seed: seed * 1000 + UInt64($0), bytes: bytes + $0) }
    for image in images { _ = try await image.put(on: owner) }
    return images
  }

  /// Every image has all of its shadows, on slaves that are counted on, one each, and comes back as it was.
  private static func expectWhole(
    _ images: [TestImage], on harness: MasterHarness, shadows: Int? = nil
  ) async throws {
    let user = try harness.channel(.imageUser, "mu-1")
    for image in images {
      let stored = try #require(try await harness.master.state.image(image.record.imageID))
      let holders = stored.placements.map(\.slave)
      if let shadows { #expect(holders.count == shadows) }
      #expect(Set(holders).count == holders.count, "two shadows of an image on one slave")
      for holder in holders { #expect(harness.master.slaves.standing(of: holder) == .good) }
      #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    }
    for image in images {
      let explained = try await explain(image, on: harness, verify: true)
      #expect(explained.shadows.allSatisfy { $0.state == .good })
      #expect(explained.plan.isEmpty)
    }
  }

  /// Starts a slave again and waits until the master has seen it: its channel tries again after a pause of its own.
  private static func restart(
    _ slave: TestSlave, verifying: Bool = false, on harness: MasterHarness
  ) async throws {
    try slave.restart(verifying: verifying)
    repeat {
      await harness.master.look()
      await Task.yield()
    } while !harness.master.slaves.isReachable(slave.node)
  }

  private static func explain(
    _ image: TestImage, on harness: MasterHarness, verify: Bool = false
  ) async throws -> ExplainImageReply {
    var request = ExplainImageRequest()
    request.imageID = image.record.imageID
    request.verify = verify
    return try await harness.channel(.operatorTool, "operator-1").unary(
      MasterCloudMethods.explainImage, request, CallOptions(timeout: .seconds(120)))
  }

  private static func set(
    _ slave: String, _ condition: SlaveCondition, replacement: String = "",
    on harness: MasterHarness
  ) async throws(RPCError) {
    var request = SetSlaveConditionRequest()
    (request.slave, request.condition, request.replacement) = (slave, condition, replacement)
    let channel: Channel
    do { channel = try harness.channel(.operatorTool, "operator-1") } catch {
      throw RPCError(.internalError, "\(error)")
    }
    _ = try await channel.unary(
      MasterCloudMethods.setSlaveCondition, request, CallOptions(timeout: .seconds(120)))
  }

  private static func endangered(
    on harness: MasterHarness, lostOnly: Bool = false
  ) async throws -> [EndangeredImage] {
    var request = ListEndangeredRequest()
    request.lostOnly = lostOnly
    request.limit = 3
    var images: [EndangeredImage] = []
    while true {
      let reply = try await harness.channel(.operatorTool, "operator-1").unary(
        MasterCloudMethods.listEndangered, request, CallOptions(timeout: .seconds(120)))
      images += reply.images
      guard reply.more else { return images }
      request.after = reply.lookedThrough
    }
  }

  // MARK: repair

  @Test(arguments: ShadowSchemes.names)
  func whatALostSlaveHadIsRebuiltElsewhere(_ scheme: String) async throws {
    let harness = try await Self.harness(
      slaves: 6, sharing: Sharing(threshold: 2, shadowCount: 4), scheme: scheme)
    let images = try await Self.put(12, on: harness)
    let before = try await harness.master.state.shadowCount(on: "scs-1")
    await harness.slaves[0].kill()
    await harness.master.look()
    #expect(try await Self.endangered(on: harness).count == before)
    #expect(try await Self.explain(images[0], on: harness).shadows.count == 4)
    await harness.careRound()
    try await Self.expectWhole(images, on: harness, shadows: 4)
    #expect(try await harness.master.state.shadowCount(on: "scs-1") == 0)
    #expect(try await Self.endangered(on: harness).isEmpty)
    let care = harness.master.care.progress.status
    #expect(care.rebuiltShadows == UInt64(before))
    #expect(care.pendingShadows == 0)
    #expect(care.doneShadows == UInt64(before))
    // A second round finds nothing to do.
    await harness.careRound()
    #expect(harness.master.care.progress.status.rebuiltShadows == UInt64(before))
    // All the losses that (2, 4) survives can be survived again.
    for slave in harness.slaves[1...2] { await slave.kill() }
    await harness.master.look()
    let user = try harness.channel(.imageUser, "mu-1")
    for image in images {
      #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    }
    await harness.stopAll()
  }

  @Test func aSlaveThatIsAwayForAMomentIsWaitedFor() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    { $0.care.repairAfter = .seconds(3600) }
    let images = try await Self.put(4, on: harness)
    await harness.slaves[0].kill()
    await harness.master.look()
    await harness.careRound()
    #expect(harness.master.care.progress.status.rebuiltShadows == 0)
    let endangered = try await Self.endangered(on: harness)
    #expect(endangered.count == (try await harness.master.state.shadowCount(on: "scs-1")))
    #expect(endangered.allSatisfy { $0.good == 2 && $0.shadows == 3 && $0.lossesSurvived == 0 })
    // An operator who knows better does not wait.
    try await Self.set("scs-1", .lost, on: harness)
    await harness.careRound()
    try await Self.expectWhole(images, on: harness, shadows: 3)
    await harness.stopAll()
  }

  @Test func theMostEndangeredComeFirst() async throws {
    let harness = try await Self.harness(
      slaves: 8, sharing: Sharing(threshold: 2, shadowCount: 4))
    let images = try await Self.put(30, on: harness)
    for slave in harness.slaves[0...1] { await slave.kill() }
    await harness.master.look()
    let findings = try await harness.master.survey.run()
    var expected: [ImageID: Int] = [:]
    for image in images {
      let stored = try #require(try await harness.master.state.image(image.record.imageID))
      let lost = stored.placements.filter { ["scs-1", "scs-2"].contains($0.slave) }.count
      if lost > 0 { expected[try #require(ImageID(image.record.imageID))] = 2 - lost }
    }
    #expect(Set(findings.items.map(\.id)) == Set(expected.keys))
    #expect(findings.items.allSatisfy { expected[$0.id] == $0.margin })
    // Popped from the end: margins only grow.
    let order = findings.items.reversed().map(\.margin)
    #expect(order == order.sorted())
    #expect(Set(order).count == 2, "no image lost two shadows: the test shows nothing")
    await harness.stopAll()
  }

  @Test func imagesThatCannotBeRebuiltAreListedUntilTheyCan() async throws {
    let harness = try await Self.harness(slaves: 3, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(7, on: harness)
    for slave in harness.slaves[0...1] { await slave.kill() }
    await harness.master.look()
    await harness.careRound()
    let lost = try await Self.endangered(on: harness, lostOnly: true)
    #expect(Set(lost.map(\.imageID)) == Set(images.map(\.record.imageID)))
    #expect(lost.allSatisfy { $0.missing == 1 && $0.lossesSurvived == 0 })
    var care = harness.master.care.progress.status
    #expect(care.lostImages == 7)
    #expect(care.waitingShadows == 14)
    let explained = try await Self.explain(images[0], on: harness)
    #expect(explained.missing == 1)
    #expect(explained.plan.contains("nothing can be done"))
    // One comes back: every image can be read, and one shadow of each waits for a slave.
    try await Self.restart(harness.slaves[1], on: harness)
    await harness.careRound()
    care = harness.master.care.progress.status
    #expect(care.lostImages == 0)
    #expect(care.waitingShadows == 7)
    #expect(try await Self.endangered(on: harness, lostOnly: true).isEmpty)
    let user = try harness.channel(.imageUser, "mu-1")
    #expect(try await fetch(images[0].record.imageID, on: user).bytes == images[0].sealed)
    #expect(
      try await Self.explain(images[0], on: harness).lastProblem.contains("no slave without"))
    await harness.stopAll()
  }

  // MARK: bad shadows

  /// Flips a byte in the payload of every record of the slave's segments.
  private static func rot(_ slave: TestSlave, bodyBytes: Int) throws {
    let folder = slave.directory.path("segments")
    for file in try FileManager.default.contentsOfDirectory(atPath: folder)
    where file.hasSuffix(".segment") {
      let path = folder + "/" + file
      var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
      for place in stride(from: 200, to: bytes.count, by: bodyBytes) { bytes[place] ^= 1 }
      try Data(bytes).write(to: URL(fileURLWithPath: path))
    }
  }

  @Test func aFetchThatMeetsABadShadowHasItRepaired() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(6, on: harness)
    let slave = harness.slaves[0]
    let held = try await harness.master.state.shadowCount(on: "scs-1")
    #expect(held > 0)
    // Behind the store's back, while it runs.
    try Self.rot(slave, bodyBytes: 1000)
    let user = try harness.channel(.imageUser, "mu-1")
    for _ in 0..<30 where harness.master.bad.count(on: "scs-1") < held {
      for image in images {
        #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
      }
    }
    #expect(harness.master.bad.count(on: "scs-1") == held)
    let status = try await harness.status()
    #expect(status.slaves[0].badShadows == UInt64(held))
    #expect(status.slaves[0].corruptShadows == UInt64(held))
    await harness.careRound()
    try await Self.expectWhole(images, on: harness, shadows: 3)
    #expect(harness.master.bad.all.isEmpty)
    await harness.stopAll()
  }

  @Test func whatASlaveFindsInItsSegmentsIsRebuiltAndSweptThere() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(6, on: harness)
    let slave = harness.slaves[0]
    let held = try await harness.master.state.shadowCount(on: "scs-1")
    await slave.kill()
    try Self.rot(slave, bodyBytes: 1000)
    try await Self.restart(slave, verifying: true, on: harness)
    // Nobody reads: the slave tells, or the comparison of lists does.
    await harness.careRound()
    #expect(harness.master.care.progress.status.rebuiltShadows == UInt64(held))
    try await Self.expectWhole(images, on: harness, shadows: 3)
    try await harness.master.sweeper.sweep()
    await harness.master.look()
    #expect(harness.master.slaves.ownBadShadows(of: "scs-1") == 0)
    await harness.stopAll()
  }

  @Test func aSlaveThatComesBackEmptyIsFoundOut() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(8, on: harness)
    let slave = harness.slaves[0]
    let held = try await harness.master.state.shadowCount(on: "scs-1")
    // The first comparison finds all there.
    await harness.careRound()
    #expect(harness.master.bad.all.isEmpty)
    await slave.kill()
    await harness.master.look()
    try FileManager.default.removeItem(atPath: slave.directory.path("segments"))
    try await Self.restart(slave, on: harness)
    await harness.careRound()
    #expect(harness.master.care.progress.status.rebuiltShadows == UInt64(held))
    try await Self.expectWhole(images, on: harness, shadows: 3)
    await harness.stopAll()
  }

  @Test func shadowsThatNobodyKnowsAreCountedAndLeftAlone() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    _ = try await Self.put(2, on: harness)
    let before = try await harness.shadows(on: harness.slaves[0])
    try await ShadowWriter(slaves: harness.master.slaves).write(
      [1, 2, 3], named: [UInt8](repeating: 9, count: 16), to: "scs-1",
      CallOptions(timeout: .seconds(60)))
    await harness.careRound()
    #expect(try await harness.status().slaves[0].unknownShadows == 1)
    try await harness.master.sweeper.sweep()
    #expect(try await harness.shadows(on: harness.slaves[0]) == before + 1)
    await harness.stopAll()
  }

  // MARK: draining, replacing, returning

  @Test func aDrainedSlaveIsEmptyAndWasOnlyCopiedFrom() async throws {
    let harness = try await Self.harness(slaves: 5, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(10, on: harness)
    let held = try await harness.master.state.shadowCount(on: "scs-2")
    try await Self.set("scs-2", .draining, on: harness)
    #expect(try await harness.status().slaves[1].placedShadows == UInt64(held))
    // It still serves what it has, and gets nothing new.
    let user = try harness.channel(.imageUser, "mu-1")
    #expect(try await fetch(images[0].record.imageID, on: user).bytes == images[0].sealed)
    let more = try await Self.put(5, on: harness, seed: 2)
    #expect(try await harness.master.state.shadowCount(on: "scs-2") == held)
    await harness.careRound()
    try await Self.expectWhole(images + more, on: harness, shadows: 3)
    let care = harness.master.care.progress.status
    #expect(care.copiedShadows == UInt64(held))
    #expect(care.rebuiltShadows == 0)
    try await harness.master.sweeper.sweep()
    #expect(try await harness.shadows(on: harness.slaves[1]) == 0)
    let status = try await harness.status()
    #expect(status.slaves[1].condition == .draining)
    #expect(status.slaves[1].placedShadows == 0)
    // It may come back.
    try await Self.set("scs-2", .active, on: harness)
    #expect(harness.master.slaves.candidates(for: .upload).contains { $0.node == "scs-2" })
    await harness.stopAll()
  }

  @Test func aReplacementGetsWhatTheOtherHad() async throws {
    let harness = try await Self.harness(slaves: 6, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(12, on: harness)
    var had: Set<[UInt8]> = []
    for image in images {
      let stored = try #require(try await harness.master.state.image(image.record.imageID))
      let holders = stored.placements.map(\.slave)
      if holders.contains("scs-1"), !holders.contains("scs-6") { had.insert(image.record.imageID) }
    }
    #expect(!had.isEmpty)
    await harness.slaves[0].kill()
    try await Self.set("scs-1", .lost, replacement: "scs-6", on: harness)
    await harness.master.look()
    await harness.careRound()
    try await Self.expectWhole(images, on: harness, shadows: 3)
    for id in had {
      let stored = try #require(try await harness.master.state.image(id))
      #expect(stored.placements.contains { $0.slave == "scs-6" })
    }
    await harness.stopAll()
  }

  @Test func whatAReturningSlaveHasTooMuchIsCleanedUp() async throws {
    let harness = try await Self.harness(slaves: 5, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(10, on: harness)
    let slave = harness.slaves[0]
    let held = try await harness.shadows(on: slave)
    #expect(held > 0)
    await slave.kill()
    await harness.master.look()
    await harness.careRound()
    try await harness.master.sweeper.sweep()
    try await Self.restart(slave, on: harness)
    #expect(try await harness.shadows(on: slave) == held)
    try await harness.master.sweeper.sweep()
    #expect(try await harness.shadows(on: slave) == 0)
    #expect(try await harness.shadowsOnSlaves() == UInt64(3 * images.count))
    try await Self.expectWhole(images, on: harness, shadows: 3)
    await harness.stopAll()
  }

  @Test func aSlaveIsForgottenOnlyOnceNothingIsThere() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    _ = try await Self.put(4, on: harness)
    let channel = try harness.channel(.operatorTool, "operator-1")
    var request = ForgetSlaveRequest()
    request.slave = "scs-1"
    let options = CallOptions(timeout: .seconds(60))
    func forget() async -> RPCError? {
      await rpcError { () async throws(RPCError) in
        try await channel.unary(MasterCloudMethods.forgetSlave, request, options)
      }
    }
    #expect(await forget()?.reason == "SlaveAnswers")
    await harness.slaves[0].kill()
    await harness.master.look()
    // Away for a moment, for all that is known.
    #expect(await forget()?.reason == "SlaveInUse")
    try await Self.set("scs-1", .lost, on: harness)
    await harness.master.look()
    #expect(await forget()?.reason == "SlaveInUse")
    await harness.careRound()
    #expect(try await !harness.master.state.garbage(on: "scs-1", limit: 10).isEmpty)
    // What cannot be swept is not counted as if it would be.
    #expect(try await harness.status().pendingDeletions == 0)
    #expect(await forget() == nil)
    #expect(try await harness.master.state.garbage(on: "scs-1", limit: 10).isEmpty)
    await harness.stopAll()
  }

  @Test func decisionsAboutUnknownSlavesAreRefused() async throws {
    let harness = try await Self.harness(slaves: 3, sharing: nil)
    for (slave, replacement, code) in [
      ("scs-9", "", StatusCode.notFound), ("scs-1", "scs-9", .notFound),
      ("scs-1", "scs-1", .invalidArgument),
    ] {
      let error = await rpcError { () async throws(RPCError) in
        try await Self.set(slave, .draining, replacement: replacement, on: harness)
      }
      #expect(error?.code == code)
    }
    let error = await rpcError { () async throws(RPCError) in
      try await Self.set("scs-1", SlaveCondition(rawValue: 7), on: harness)
    }
    #expect(error?.code == .invalidArgument)
    await harness.stopAll()
  }

  // MARK: failure domains and room

  @Test func uploadsAndRepairsSpreadOverZones() async throws {
    let authority = try TestAuthority()
    let group = EventLoopGroup(count: 2)
    let logger = MasterServiceTests.quietLogger
    let slaves = try (1...9).map { number in
      try TestSlave(
        "scs-\(number)", authority, group, logger,
        location: SlaveLocation(host: "h-\(number)", zone: "z-\((number - 1) / 3)"))
    }
    let harness = try await MasterHarness(
      sharing: Sharing(threshold: 2, shadowCount: 4), authority: authority, reusing: slaves,
      background: false,
      change: {
        Self.repairAtOnce(&$0)
        $0.surviveLossOf = .zone
      })
    let images = try await Self.put(15, on: harness)
    func expectSpread() async throws {
      for image in images {
        let explained = try await Self.explain(image, on: harness)
        #expect(explained.mostInAZone == 2)
        #expect(explained.mostOnAHost == 1)
      }
    }
    try await expectSpread()
    await slaves[4].kill()
    await harness.master.look()
    await harness.careRound()
    try await Self.expectWhole(images, on: harness, shadows: 4)
    try await expectSpread()
    // A whole zone goes, and nothing is lost.
    for slave in slaves[6...8] { await slave.kill() }
    await harness.master.look()
    let user = try harness.channel(.imageUser, "mu-1")
    for image in images {
      #expect(try await fetch(image.record.imageID, on: user).bytes == image.sealed)
    }
    await harness.stopAll()
  }

  /// Slaves with disks that say how much is free.
  private static func slavesWithDisks(
    _ free: [UInt64], _ authority: TestAuthority, reserve: UInt64
  ) throws -> [(slave: TestSlave, disk: FillableDisk)] {
    let group = EventLoopGroup(count: 2)
    var care = SlaveCloud.CareConfiguration()
    care.reserveBytes = reserve
    return try free.enumerated().map { index, bytes in
      let disk = FillableDisk()
      disk.freeBytes = bytes
      let slave = try TestSlave(
        "scs-\(index + 1)", authority, group, MasterServiceTests.quietLogger, disk: disk,
        care: care)
      return (slave, disk)
    }
  }

  @Test func slavesThatAreNearlyFullGetNothingNewAndRepairsStillFindRoom() async throws {
    let authority = try TestAuthority()
    let reserve: UInt64 = 100 << 20
    let all = try Self.slavesWithDisks(
      [1 << 30, 1 << 30, 1 << 30, reserve, 1 << 30], authority, reserve: reserve)
    let harness = try await MasterHarness(
      sharing: Sharing(threshold: 2, shadowCount: 3), authority: authority,
      reusing: all.map(\.slave), background: false, change: Self.repairAtOnce)
    let images = try await Self.put(6, on: harness)
    #expect(try await harness.shadows(on: all[3].slave) == 0)
    let status = try await harness.status()
    #expect(status.slaves[3].freeBytes <= status.slaves[3].reserveBytes)
    #expect(status.slaves[3].message.contains("nearly full"))
    // Two more fill up: too few are left, and the answer says so.
    for index in [0, 1] { all[index].disk.freeBytes = reserve }
    await harness.master.look()
    let owner = try harness.channel(.imageOwner, "mo-1")
    let error = await rpcError { () async throws(RPCError) in
      try await TestImage(seed: 77, bytes: 100).put(on: owner)
    }
    #expect(error?.reason == "NotEnoughSlaves")
    // A repair may use what new images may not: half of the reserve.
    await all[4].slave.kill()
    await harness.master.look()
    await harness.careRound()
    try await Self.expectWhole(images, on: harness, shadows: 3)
    // Below that nothing is written at all.
    all[3].disk.freeBytes = reserve / 2
    await harness.master.look()
    #expect(!harness.master.slaves.candidates(for: .care).contains { $0.node == "scs-4" })
    let refusal = await rpcError { () async throws(RPCError) in
      try await ShadowWriter(slaves: harness.master.slaves).write(
        [1], named: [UInt8](repeating: 8, count: 16), to: "scs-4",
        CallOptions(timeout: .seconds(60)))
    }
    #expect(refusal?.reason == "DiskNearlyFull")
    await harness.stopAll()
  }

  @Test func anEmptySlaveIsFilledUntilAllAreAlike() async throws {
    let authority = try TestAuthority()
    // Room for about what is stored, so that it counts.
    let all = try Self.slavesWithDisks(
      [400_000, 400_000, 400_000, 1 << 40], authority, reserve: 0)
    let harness = try await MasterHarness(
      sharing: Sharing(threshold: 2, shadowCount: 3), authority: authority,
      reusing: all.map(\.slave), background: false,
      change: {
        Self.repairAtOnce(&$0)
        $0.care.retryAfter = .zero
      })
    // The fourth drains while images come, and then it is as new.
    try await Self.set("scs-4", .draining, on: harness)
    let images = try await Self.put(40, on: harness, bytes: 10_000)
    try await Self.set("scs-4", .active, on: harness)
    all[3].disk.freeBytes = 625_000
    for disk in all[0...2].map(\.disk) { disk.freeBytes = 400_000 }
    for _ in 0..<40 {
      // The disks of these slaves have as much room as their shadows leave.
      await harness.master.look()
      await harness.careRound()
      try await harness.master.sweeper.sweep()
      for (slave, disk) in all {
        let stored = UInt64(try await harness.master.state.shadowCount(on: slave.node)) * 5_700
        disk.freeBytes = 625_000 - min(stored, 600_000)
      }
    }
    let counts = try await [1, 2, 3, 4].asyncMap {
      try await harness.master.state.shadowCount(on: "scs-\($0)")
    }
    #expect(counts.reduce(0, +) == 120)
    #expect(counts[3] >= 15, "\(counts)")
    #expect(counts.allSatisfy { $0 >= 15 && $0 <= 40 }, "\(counts)")
    try await Self.expectWhole(images, on: harness, shadows: 3)
    #expect(try await harness.shadowsOnSlaves() == 120)
    #expect(harness.master.care.progress.status.balancingShadows == 0)
    await harness.stopAll()
  }

  /// Four slaves in one zone and one in another: any four shadows have three in one zone.
  @Test(arguments: [Sharing(threshold: 2, shadowCount: 4), nil])
  func imagesThatWouldNotSurviveAZoneAreRefused(_ sharing: Sharing?) async throws {
    let authority = try TestAuthority()
    let slaves = try (1...5).map { number in
      try TestSlave(
        "scs-\(number)", authority, EventLoopGroup(count: 1), MasterServiceTests.quietLogger,
        location: SlaveLocation(host: "h-\(number)", zone: number < 5 ? "a" : "b"))
    }
    let harness = try await MasterHarness(
      sharing: sharing, authority: authority, reusing: slaves, background: false,
      change: { $0.surviveLossOf = .zone })
    let owner = try harness.channel(.imageOwner, "mo-1")
    let error = await rpcError { () async throws(RPCError) in
      try await TestImage(seed: 99, bytes: 100).put(on: owner)
    }
    #expect(error?.reason == "NotEnoughDomains", "\(String(describing: error))")
    await harness.stopAll()
  }

  // MARK: limits

  @Test func moreBadShadowsThanCanBeKeptInMindAreFoundInTime() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    let images = try await Self.put(12, on: harness)
    let held = try await harness.master.state.shadowCount(on: "scs-1")
    try #require(held > 4)
    await harness.slaves[0].kill()
    await harness.master.look()
    try FileManager.default.removeItem(atPath: harness.slaves[0].directory.path("segments"))
    try await Self.restart(harness.slaves[0], on: harness)
    let bad = BadShadows(maximumNames: 3)
    let audit = SlaveAudit(
      state: harness.master.state, slaves: harness.master.slaves, bad: bad, logger: harness.logger)
    let first = try await audit.run("scs-1")
    #expect(!first.isWhole)
    #expect(bad.count(on: "scs-1") == 3)
    for name in bad.names(on: "scs-1") { bad.remove(name, on: "scs-1") }
    #expect(try await !audit.run("scs-1").isWhole)
    await harness.careRound()
    try await Self.expectWhole(images, on: harness, shadows: 3)
    await harness.stopAll()
  }

  @Test func aSlaveThatLosesMuchGetsNothingMoreUntilItIsActivated() async throws {
    let harness = try await Self.harness(slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3))
    _ = try await Self.put(1, on: harness)
    let slaves = harness.master.slaves
    for number in 0..<SlaveDirectory.toleratedLosses {
      #expect(slaves.candidates(for: .care).contains { $0.node == "scs-1" })
      var name: [UInt8] = []
      name.append(bigEndian: number)
      harness.master.bad.insert(name + name, on: "scs-1")
    }
    #expect(!slaves.candidates(for: .care).contains { $0.node == "scs-1" })
    #expect(try await harness.status().slaves[0].distrusted)
    try await Self.set("scs-1", .active, on: harness)
    #expect(slaves.candidates(for: .care).contains { $0.node == "scs-1" })
    await harness.stopAll()
  }

  /// A slave says what it likes in its lists.
  @Test(arguments: ["endless", "unordered", "short", "many"])
  func hostileListsEndTheComparison(_ kind: String) async throws {
    let authority = try TestAuthority()
    let group = EventLoopGroup(count: 1)
    let logger = MasterServiceTests.quietLogger
    var router = Router()
    router.unary(SlaveCloudMethods.slaveStatus) { _, _ in
      var status = SlaveStatusReply()
      (status.freeBytes, status.storedBytes) = (.max, .max)
      return status
    }
    router.unary(SlaveCloudMethods.listShadows) { request, _ in
      var reply = ListShadowsReply()
      reply.more = true
      switch kind {
      case "endless": break
      case "unordered":
        reply.names = [[UInt8](repeating: 9, count: 16), [UInt8](repeating: 3, count: 16)]
      case "short": reply.names = [[1]]
      default:
        reply.names = (0..<Int(request.limit) + 1).map { number in
          var name: [UInt8] = []
          name.append(bigEndian: UInt64(number))
          name.append(bigEndian: UInt64(0))
          return name
        }
      }
      return reply
    }
    let server = try TestServers.serve(
      router, as: try authority.identity(.slave, "scs-1"), group, logger)
    let harness = try await MasterHarness(
      slaves: 0, authority: authority, reusing: [], background: false,
      change: { $0.slaves = [SlaveAddress(node: "scs-1", address: server.address)] })
    let audit = SlaveAudit(
      state: harness.master.state, slaves: harness.master.slaves, bad: harness.master.bad,
      logger: logger)
    if kind == "endless" {
      #expect(try await audit.run("scs-1") == SlaveAudit.Result())
    } else {
      await #expect(throws: RPCError.self) { try await audit.run("scs-1") }
    }
    await harness.careRound()
    _ = try await harness.status()
    await harness.stopAll()
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func careIsPaidForAndRestsWhileOthersAreServed() async throws {
    let clock = ManualClock()
    var configuration = MasterCloud.CareConfiguration()
    configuration.bytesPerSecond = 1000
    configuration.shareWhenBusy = 0.25
    let pace = CarePace(configuration, foreground: ForegroundGauge(), clock: clock)
    // 500 bytes are half a second; what is written before that is over comes behind it.
    pace.pay(500, at: 1_000_000_000)
    #expect(pace.paidUntil.withLock { $0 } == 1_500_000_000)
    pace.pay(1000, at: 1_200_000_000)
    #expect(pace.paidUntil.withLock { $0 } == 2_500_000_000)
    pace.pay(1000, at: 9_000_000_000)
    #expect(pace.paidUntil.withLock { $0 } == 10_000_000_000)
    // A quarter of the time.
    #expect(pace.rest(after: 1_000_000_000) == 3_000_000_000)
    configuration.shareWhenBusy = 1
    #expect(
      CarePace(configuration, foreground: ForegroundGauge(), clock: clock).rest(after: 5) == 0)
    let gauge = ForegroundGauge()
    #expect(!gauge.now.isBusy)
    try await gauge.run {
      #expect(gauge.now.isBusy)
      #expect(gauge.now.begun == 1)
    }
    #expect(!gauge.now.isBusy)
  }

  @Test func progressHasARateAndTheTimeThatIsLeft() throws {
    let clock = ManualClock()
    let progress = CareProgress(clock: clock)
    progress.begin(images: 4, shadows: 8, bytes: 8000, fewestLossesSurvived: 1, lostImages: 0)
    let id = try #require(ImageID([UInt8](repeating: 1, count: 16)))
    for _ in 0..<3 {
      progress.wrote(bytes: 1000, rebuilt: true)
      progress.finished(id, images: 1, shadows: 1, bytes: 1000, waiting: 0, problem: nil)
      clock.advance(seconds: 1)
    }
    var status = progress.status
    // Two of them within three seconds: the first only says when it began.
    #expect(status.bytesPerSecond == 666)
    #expect(status.pendingBytes == 5000 && status.secondsLeft == 7)
    #expect(status.doneShadows == 3 && status.pendingShadows == 5 && status.pendingImages == 1)
    // Something waits: the next survey goes on with the count, and not from 0.
    progress.finished(id, images: 1, shadows: 5, bytes: 5000, waiting: 5, problem: "no slave")
    progress.begin(images: 1, shadows: 5, bytes: 5000, fewestLossesSurvived: 1, lostImages: 0)
    #expect(progress.status.doneShadows == 3)
    progress.begin(images: 0, shadows: 0, bytes: 0, fewestLossesSurvived: nil, lostImages: 0)
    progress.begin(images: 1, shadows: 1, bytes: 10, fewestLossesSurvived: 0, lostImages: 0)
    status = progress.status
    #expect(status.doneShadows == 0 && status.rebuiltShadows == 3 && status.madeBytes == 3000)
    clock.advance(seconds: 61)
    #expect(progress.status.bytesPerSecond == 0)
  }

  // MARK: crashes and chance

  /// Stops being there after some commands, as if the master had been killed.
  private actor DyingLog: ReplicatedLog {
    private let inner: any ReplicatedLog
    private var remaining: Int
    /// The last command is committed, and its proposer never hears of it.
    private let answersLast: Bool

    init(_ inner: any ReplicatedLog, commands: Int, answersLast: Bool) {
      self.inner = inner
      remaining = commands
      self.answersLast = answersLast
    }

    func propose(_ command: LogCommand) async throws(RPCError) -> LogOutcome {
      guard remaining > 0 else { throw RPCError(.unavailable, "killed") }
      remaining -= 1
      let outcome = try await inner.propose(command)
      if remaining == 0, !answersLast { throw RPCError(.unavailable, "killed") }
      return outcome
    }

    func readBarrier() async throws(RPCError) {}
    func close() async {}
  }

  @Test func whereverAMasterDiesInAMoveTheNextOneFinishes() async throws {
    for commands in 0...4 {
      for answersLast in [true, false] where commands > 0 || answersLast {
        let harness = try await Self.harness(
          slaves: 6, sharing: Sharing(threshold: 2, shadowCount: 4))
        let image = try #require(try await Self.put(1, on: harness).first)
        let id = try #require(ImageID(image.record.imageID))
        let stored = try #require(try await harness.master.state.image(id.bytes))
        let victims = Array(stored.placements.map(\.slave).sorted().prefix(2))
        for victim in victims {
          try await Self.set(victim, .draining, on: harness)
        }
        let master = harness.master
        let mover = ShadowMover(
          state: master.state,
          log: DyingLog(master.log, commands: commands, answersLast: answersLast),
          slaves: master.slaves, keys: master.keys, reader: master.reader, bad: master.bad,
          active: ActiveSet(), spreading: .host, progress: CareProgress())
        let outcome = await mover.restore(id)
        #expect((outcome.problem == nil) == (commands == 4 && answersLast))
        await harness.stop()

        let next = try await MasterHarness(
          sharing: Sharing(threshold: 2, shadowCount: 4), authority: harness.authority,
          directory: harness.directory, reusing: harness.slaves, background: false,
          change: Self.repairAtOnce)
        try await next.master.sweeper.sweep()
        await next.careRound()
        try await next.master.sweeper.sweep()
        try await Self.expectWhole([image], on: next, shadows: 4)
        // Nothing is left lying anywhere.
        #expect(try await next.shadowsOnSlaves() == 4)
        #expect(try await next.master.state.pendingMoves().isEmpty)
        await next.stopAll()
      }
    }
  }

  /// Slaves go, come back, come back empty, are drained and declared lost as chance has it; images come and go.
  @Test func nothingIsLostWhateverSlavesDo() async throws {
    let entropy = SeededEntropy.announced()
    let harness = try await Self.harness(slaves: 7, sharing: Sharing(threshold: 2, shadowCount: 4))
    let owner = try harness.channel(.imageOwner, "mo-1")
    let user = try harness.channel(.imageUser, "mu-1")
    var images: [TestImage] = []
    var down: Set<Int> = []
    for step in 0..<40 {
      let index = Int(entropy.uniform(below: 7))
      let node = "scs-\(index + 1)"
      switch entropy.uniform(below: 7) {
      // One at a time is all that (2, 4) has to survive, as repair follows each loss.
      case 0 where down.isEmpty:
        await harness.slaves[index].kill()
        down.insert(index)
      case 1, 2:
        for index in down {
          if entropy.uniform(below: 3) == 0 {
            try FileManager.default.removeItem(
              atPath: harness.slaves[index].directory.path("segments"))
          }
          try await Self.restart(harness.slaves[index], on: harness)
        }
        down = []
      case 3: try await Self.set(node, .draining, on: harness)
      case 4: try await Self.set(node, .active, on: harness)
      case 5:
        let image = TestImage(seed: UInt64(step) + 500, bytes: 2000)
        // With most slaves drained there may be too few.
        if await rpcError({ () async throws(RPCError) in try await image.put(on: owner) }) == nil {
          images.append(image)
        }
      default:
        if images.count > 3 {
          var request = DeleteImageRequest()
          request.imageID = images.removeFirst().record.imageID
          _ = try await owner.unary(
            MasterCloudMethods.deleteImage, request, CallOptions(timeout: .seconds(60)))
        }
      }
      await harness.master.look()
      await harness.careRound()
      if entropy.uniform(below: 2) == 0 { try await harness.master.sweeper.sweep() }
      for image in images {
        let stored = try #require(try await harness.master.state.image(image.record.imageID))
        #expect(Set(stored.placements.map(\.slave)).count == 4)
        #expect(
          try await fetch(image.record.imageID, on: user).bytes == image.sealed,
          "step \(step)")
      }
    }
    for index in down { try await Self.restart(harness.slaves[index], on: harness) }
    for index in 0..<7 { try await Self.set("scs-\(index + 1)", .active, on: harness) }
    await harness.master.look()
    for _ in 0..<2 {
      await harness.careRound()
      try await harness.master.sweeper.sweep()
    }
    try await Self.expectWhole(images, on: harness, shadows: 4)
    // Not one shadow too many, anywhere.
    for slave in harness.slaves {
      let audit = SlaveAudit(
        state: harness.master.state, slaves: harness.master.slaves, bad: harness.master.bad,
        logger: harness.logger)
      let result = try await audit.run(slave.node)
      #expect(result.missing == 0 && result.unknown == 0, "\(slave.node): \(result)")
      #expect(try await harness.master.state.garbage(on: slave.node, limit: 9).isEmpty)
    }
    #expect(try await harness.master.state.pendingMoves().isEmpty)
    #expect(try await harness.master.state.pendingUploads().isEmpty)
    #expect(try await harness.shadowsOnSlaves() == UInt64(4 * images.count))
    #expect(try await harness.status().shadows == UInt64(4 * images.count))
    await harness.stopAll()
  }
}

extension Array {
  fileprivate func asyncMap<Value>(
    _ transform: (Element) async throws -> Value
  ) async rethrows -> [Value] {
    var values: [Value] = []
    for element in self { values.append(try await transform(element)) }
    return values
  }
}
