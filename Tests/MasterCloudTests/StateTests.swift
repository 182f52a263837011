import Base
import Messages
import RPC
import TestSupport
import Testing

@testable import MasterCloud

@Suite(.timeLimit(.minutes(2))) struct StateTests {
  /// Commands as uploads, deletions and sweeps would make them, and some that make no sense.
  private static func commands(_ entropy: SeededEntropy, count: Int) -> [LogCommand] {
    (0..<count).map { index in
      let id = [UInt8](repeating: UInt8(entropy.uniform(below: 6)), count: 16)
      let epoch = UInt32(1 + entropy.uniform(below: 5))
      var placement = ShadowPlacement()
      placement.index = 1
      placement.slave = "scs-\(entropy.uniform(below: 3))"
      placement.name = id.prefix(12) + [UInt8(epoch), 0, 0, 0]
      placement.digest = [UInt8](repeating: 1, count: 32)
      var command = LogCommand()
      command.proposedAtMilliseconds = UInt64(index)
      switch entropy.uniform(below: 5) {
      case 0:
        var begin = BeginUpload()
        (begin.imageID, begin.epoch, begin.placements) = (id, epoch, [placement])
        command.beginUpload = begin
      case 1:
        var commit = CommitUpload()
        var record = TestImage(seed: UInt64(id[0]), bytes: 10, code: UInt64(id[0])).record
        record.imageID = id
        record.owner = "mo-\(entropy.uniform(below: 2))"
        (commit.record, commit.epoch, commit.placements) = (record, epoch, [placement])
        command.commitUpload = commit
      case 2:
        var abort = AbortUpload()
        (abort.imageID, abort.epoch) = (id, epoch)
        command.abortUpload = abort
      case 3:
        var delete = DeleteImage()
        (delete.imageID, delete.owner) = (id, "mo-\(entropy.uniform(below: 2))")
        command.deleteImage = delete
      default:
        var collected = ShadowsCollected()
        (collected.slave, collected.names) = (placement.slave, [placement.name])
        command.shadowsCollected = collected
      }
      return command
    }
  }

  private static func contents(_ state: ClusterState) async throws -> [String] {
    var lines: [String] = []
    for record in try await state.records(after: [], limit: 100, owner: nil) {
      let image = try #require(try await state.image(record.imageID))
      lines.append("\(image.record.imageID.hex) \(image.epoch) \(image.placements.count)")
      #expect(!image.placements.isEmpty)
    }
    for slave in 0..<3 {
      for name in try await state.garbage(on: "scs-\(slave)", limit: 1000) {
        lines.append("garbage \(slave) \(name.hex)")
      }
    }
    lines.append("\(try await state.pendingUploads().map(\.imageID.hex).sorted())")
    return lines
  }

  /// Batches must not matter, nor whether a replica was restarted in between.
  @Test func replicasThatApplyTheSameCommandsAgree() async throws {
    let entropy = SeededEntropy.announced()
    for _ in 0..<10 {
      let commands = Self.commands(entropy, count: 120)
      let directory = try TemporaryDirectory("state")
      let one = try ClusterState(path: directory.path("one.sqlite"))
      _ = try await one.apply(commands, first: 1)
      var two = try ClusterState(path: directory.path("two.sqlite"))
      var index = 0
      while index < commands.count {
        let count = min(commands.count - index, 1 + Int(entropy.uniform(below: 20)))
        _ = try await two.apply(Array(commands[index..<index + count]), first: UInt64(index + 1))
        index += count
        if entropy.uniform(below: 4) == 0 {
          two = try ClusterState(path: directory.path("two.sqlite"))
        }
      }
      #expect(try await Self.contents(one) == Self.contents(two))
      // The index over the state is the state's own: rebuilt or kept up, searches agree.
      let rebuilt = try ClusterState(path: directory.path("one.sqlite"))
      for code in 0..<6 {
        var masked = MaskedCode()
        (masked.modelVersion, masked.indexKeyVersion, masked.bits) = ("model-a", 1, 16)
        masked.code = UInt64(code)
        let kept = try await one.search([masked], count: 20).map(\.record.imageID)
        let fresh = try await rebuilt.search([masked], count: 20).map(\.record.imageID)
        #expect(kept == fresh)
        #expect(Set(kept).count == kept.count)
      }
    }
  }

  /// A shadow is never both needed and garbage.
  @Test func nothingNeededBecomesGarbage() async throws {
    let entropy = SeededEntropy.announced()
    let directory = try TemporaryDirectory("state")
    let state = try ClusterState(path: directory.path("state.sqlite"))
    for (offset, command) in Self.commands(entropy, count: 400).enumerated() {
      _ = try await state.apply([command], first: UInt64(offset + 1))
      var garbage: Set<[UInt8]> = []
      for slave in 0..<3 {
        garbage.formUnion(try await state.garbage(on: "scs-\(slave)", limit: 1000))
      }
      for record in try await state.records(after: [], limit: 100, owner: nil) {
        let image = try #require(try await state.image(record.imageID))
        for placement in image.placements { #expect(!garbage.contains(placement.name)) }
      }
    }
  }

  @Test func theLogReplaysWhatTheStateMissed() async throws {
    let directory = try TemporaryDirectory("log")
    let commands = Self.commands(SeededEntropy(seed: 4), count: 60)
    let reference = try ClusterState(path: directory.path("reference.sqlite"))
    _ = try await reference.apply(commands, first: 1)
    do {
      let state = try ClusterState(path: directory.path("first.sqlite"))
      let log = try await SingleVoterLog.open(
        directory: directory.path("log"), state: state, logger: MasterServiceTests.quietLogger)
      for command in commands { _ = try await log.propose(command) }
      await log.close()
    }
    // The state is lost altogether: the log alone brings it back.
    let state = try ClusterState(path: directory.path("second.sqlite"))
    let log = try await SingleVoterLog.open(
      directory: directory.path("log"), state: state, logger: MasterServiceTests.quietLogger)
    #expect(try await state.appliedIndex() == 60)
    #expect(try await Self.contents(state) == Self.contents(reference))
    await log.close()
  }

  @Test func proposalsAtTheSameTimeAreAllAppliedOnce() async throws {
    let directory = try TemporaryDirectory("log")
    let state = try ClusterState(path: directory.path("state.sqlite"))
    let log = try await SingleVoterLog.open(
      directory: directory.path("log"), state: state, logger: MasterServiceTests.quietLogger)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<300 {
        group.addTask {
          var begin = BeginUpload()
          begin.imageID = []
          begin.imageID.append(bigEndian: UInt64(index))
          begin.imageID.append(bigEndian: UInt64(0))
          begin.epoch = 1
          var command = LogCommand()
          command.beginUpload = begin
          let outcome = try await log.propose(command)
          #expect(outcome.status == 0)
        }
      }
      try await group.waitForAll()
    }
    #expect(try await state.pendingUploads().count == 300)
    #expect(try await state.appliedIndex() == 300)
    await log.close()
  }

  @Test func brokenLogRecordsAreErrors() throws {
    let bytes = LogBatch.encode(Self.commands(SeededEntropy(seed: 1), count: 5))
    #expect(try LogBatch.decode(bytes).count == 5)
    for end in 0..<bytes.count {
      #expect(throws: (any Error).self) { try LogBatch.decode(Array(bytes.prefix(end))) }
    }
    #expect(throws: (any Error).self) { try LogBatch.decode(bytes + [0]) }
  }
}
