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
  static let repairAtOnce: @Sendable (inout MasterConfiguration) -> Void = {
    $0.care.repairAfter = .zero
    $0.care.bytesPerSecond = 0
    $0.care.shareWhenBusy = 1
  }

  static func harness(
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

  static func put(
    _ count: Int, on harness: MasterHarness, bytes: Int = 3000, seed: UInt64 = 1
  ) async throws -> [TestImage] {
    let owner = try harness.channel(.imageOwner, "mo-1")
    let images = (0..<count).map { TestImage(seed: seed * 1000 + UInt64($0), bytes: bytes + $0) }
    for image in images { _ = try await image.put(on: owner) }
    return images
  }

  /// Every image has all of its shadows, on slaves that are counted on, one each, and comes back as it was.
  static func expectWhole(
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
  static func restart(
    _ slave: TestSlave, verifying: Bool = false, on harness: MasterHarness
  ) async throws {
    try slave.restart(verifying: verifying)
    repeat {
      await harness.master.look()
      await Task.yield()
    } while !harness.master.slaves.isReachable(slave.node)
  }

  static func explain(
    _ image: TestImage, on harness: MasterHarness, verify: Bool = false
  ) async throws -> ExplainImageReply {
    var request = ExplainImageRequest()
    request.imageID = image.record.imageID
    request.verify = verify
    return try await harness.channel(.operatorTool, "operator-1").unary(
      MasterCloudMethods.explainImage, request, CallOptions(timeout: .seconds(120)))
  }

  static func set(
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

  static func endangered(
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
    // By a record that may be old, nobody is judged.
    for _ in 0..<10 {
      for image in images {
        let found = try await fetch(image.record.imageID, on: user, maximumAge: 60_000)
        #expect(found.bytes == image.sealed)
      }
    }
    #expect(harness.master.bad.all.isEmpty)
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
}
