import Base
import Foundation
import Messages
import RPC
import Shadows
import TestSupport
import Testing

@testable import MasterCloud

/// Care within its limits, through crashes and whatever chance brings.
extension CareTests {
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

    func readBarrier(noOlderThan milliseconds: UInt64) async throws(RPCError) {
      try await inner.readBarrier(noOlderThan: milliseconds)
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
