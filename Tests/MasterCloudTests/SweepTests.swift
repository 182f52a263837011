import Base
import Messages
import RPC
import Shadows
import TestSupport
import Testing

@testable import MasterCloud

/// A log that stops being there after some commands, as if the master had been killed.
private actor DyingLog: ReplicatedLog {
  private let inner: any ReplicatedLog
  private var remaining: Int

  init(_ inner: any ReplicatedLog, commands: Int) {
    self.inner = inner
    remaining = commands
  }

  func propose(_ command: LogCommand) async throws(RPCError) -> LogOutcome {
    guard remaining > 0 else { throw RPCError(.unavailable, "killed") }
    remaining -= 1
    return try await inner.propose(command)
  }

  func readBarrier(noOlderThan milliseconds: UInt64) async throws(RPCError) {
    try await inner.readBarrier(noOlderThan: milliseconds)
  }
  func readBarrier() async throws(RPCError) {}
  func close() async {}
}

@Suite(.timeLimit(.minutes(2))) struct SweepTests {
  /// Dies after the shadows are written and before the placement commits.
  @Test func shadowsOfAnUploadThatDiedBeforeItsCommitAreSweptUp() async throws {
    let authority = try TestAuthority()
    let group = EventLoopGroup(count: 2)
    let logger = MasterServiceTests.quietLogger
    let slaves = try (1...4).map { try TestSlave("scs-\($0)", authority, group, logger) }
    let directory = try TemporaryDirectory("master")
    let harnessKeys = try await MasterHarness(
      authority: authority, directory: try TemporaryDirectory("other"), reusing: slaves)
    var configuration = MasterConfiguration(slaves: slaves.map(\.address))
    configuration.fixedSharing = Sharing(threshold: 2, shadowCount: 4)
    let state = try ClusterState(path: directory.path("state.sqlite"))
    let log = try await LoneVoter.open(directory: directory.path, state: state, cluster: "test")
    let directoryOfSlaves = SlaveDirectory(
      slaves.map(\.address), cluster: authority.cluster,
      dialer: TestServers.network.dialer(
        as: try authority.identity(.master, "mcs-1"), group: group, logger: logger),
      repairAfter: .seconds(600), bad: BadShadows(), logger: logger)
    await directoryOfSlaves.poll()
    let image = TestImage(seed: 5, bytes: 8000)
    let uploads = UploadPipeline(
      configuration: configuration, state: state, log: DyingLog(log, commands: 1),
      slaves: directoryOfSlaves, keys: harnessKeys.keys, active: ActiveSet(), logger: logger)
    let context = CallContext(
      method: "test", caller: try authority.identity(.imageOwner, "mo-1"),
      deadlineNanoseconds: SystemClock().monotonicNanoseconds() + 60_000_000_000)
    await #expect(throws: RPCError(.unavailable, "killed")) {
      try await uploads.store(
        image.record, id: ImageID(image.record.imageID)!, sealed: image.sealed, within: context)
    }
    #expect(try await harnessKeys.shadowsOnSlaves() == 4)
    #expect(try await state.pendingUploads().count == 1)
    await log.close()
    await harnessKeys.stop()

    // The next master of this folder finds the intent and clears up.
    let master = try await MasterHarness(
      authority: authority, directory: directory, reusing: slaves)
    try await eventually { try await master.shadowsOnSlaves() == 0 }
    let status = try await master.status()
    #expect(status.images == 0)
    #expect(status.pendingUploads == 0)
    // And the owner's repetition succeeds.
    let owner = try master.channel(.imageOwner, "mo-1")
    #expect(try await !image.put(on: owner).existed)
    await master.stopAll()
  }

  @Test func theSweepLeavesRunningUploadsAlone() async throws {
    let directory = try TemporaryDirectory("master")
    let state = try ClusterState(path: directory.path("state.sqlite"))
    let log = try await LoneVoter.open(directory: directory.path, state: state, cluster: "test")
    var begin = BeginUpload()
    begin.imageID = [UInt8](repeating: 3, count: 16)
    begin.epoch = 1
    var command = LogCommand()
    command.beginUpload = begin
    _ = try await log.propose(command)
    let active = ActiveSet<PendingUpload>()
    let upload = PendingUpload(imageID: begin.imageID, epoch: 1)
    active.insert(upload)
    let sweeper = Sweeper(
      state: state, log: log,
      slaves: SlaveDirectory(
        [], cluster: "test",
        dialer: TestServers.network.dialer(
          as: nil, group: EventLoopGroup(count: 1), logger: MasterServiceTests.quietLogger),
        repairAfter: .seconds(600), bad: BadShadows(), logger: MasterServiceTests.quietLogger),
      active: active, activeMoves: ActiveSet(), logger: MasterServiceTests.quietLogger)
    try await sweeper.sweep()
    #expect(try await state.pendingUploads() == [upload])
    active.remove(upload)
    try await sweeper.sweep()
    #expect(try await state.pendingUploads().isEmpty)
    await log.close()
  }

  @Test func theSweepLeavesMovesThatAreUnderWayAlone() async throws {
    let harness = try await MasterHarness(
      slaves: 4, sharing: Sharing(threshold: 2, shadowCount: 3), background: false)
    let image = TestImage(seed: 6, bytes: 3000)
    _ = try await image.put(on: try harness.channel(.imageOwner, "mo-1"))
    let stored = try #require(try await harness.master.state.image(image.record.imageID))
    let placement = stored.placements[0]
    let target = try #require(
      harness.slaves.map(\.node).first { node in
        !stored.placements.contains { $0.slave == node }
      })
    let name = [UInt8](repeating: 4, count: 16)
    var begin = BeginMove()
    (begin.imageID, begin.epoch, begin.index) = (
      image.record.imageID, stored.epoch, placement.index
    )
    (begin.oldName, begin.slave, begin.name) = (placement.name, target, name)
    var command = LogCommand()
    command.beginMove = begin
    #expect(try await harness.master.log.propose(command).status == 0)
    let move = PendingMove(
      imageID: image.record.imageID, epoch: stored.epoch, index: placement.index, slave: target,
      name: name)
    let active = ActiveSet<PendingMove>()
    active.insert(move)
    let sweeper = Sweeper(
      state: harness.master.state, log: harness.master.log, slaves: harness.master.slaves,
      active: ActiveSet(), activeMoves: active, logger: harness.logger)
    try await sweeper.sweep()
    #expect(try await harness.master.state.pendingMoves() == [move])
    active.remove(move)
    try await sweeper.sweep()
    #expect(try await harness.master.state.pendingMoves().isEmpty)
    #expect(try await harness.master.state.image(image.record.imageID) == stored)
    await harness.stopAll()
  }
}
