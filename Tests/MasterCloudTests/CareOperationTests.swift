import Base
import Messages
import RPC
import Shadows
import SlaveCloud
import TestSupport
import Testing

@testable import MasterCloud

/// What operators decide about slaves, and where shadows find room.
extension CareTests {
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
