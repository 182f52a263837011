import Base
import Foundation
import Logging
import Raft
import Replication
import TestSupport
import Testing

@testable import Consensus

/// The driver alone: one voter on a real journal, a state machine that does as it is told.
@Suite(.timeLimit(.minutes(1))) struct DriverTests {
  /// Answers each command with its length; waits where it is told to, and fails where it is told to.
  actor Counter: ReplicatedStateMachine {
    struct Broken: Error {}
    private var applied: Index = 0
    private var isBroken = false
    private(set) var commands: [[UInt8]] = []

    func apply(_ entries: [Entry], first: Index) throws -> [Int?] {
      if isBroken { throw Broken() }
      #expect(first == applied + 1)
      applied += UInt64(entries.count)
      return entries.map { entry in
        guard case .command(let bytes) = entry.payload else { return nil }
        commands.append(bytes)
        return bytes.count
      }
    }

    func breakDown() { isBroken = true }
    func settle() {}
    func checkpoint() -> Index { applied }
    func writeSnapshot(to path: String) throws -> LogBase { throw Broken() }
    func install(_ path: String, base: LogBase) throws { throw Broken() }
  }

  final class Nobody: PeerTransport {
    func send(_ messages: [Message], to node: NodeID, _ member: Member?) {}
    func sendSnapshot(
      _ path: String, base: LogBase, term: Term, to node: Member,
      done: @escaping @Sendable (Index?) -> Void
    ) { done(nil) }
    func close() {}
  }

  /// Remembers what was said.
  final class Listener: PeerTransport {
    let said = Locked<[Message]>([])
    func send(_ messages: [Message], to node: NodeID, _ member: Member?) {
      said.withLock { $0 += messages }
    }
    func sendSnapshot(
      _ path: String, base: LogBase, term: Term, to node: Member,
      done: @escaping @Sendable (Index?) -> Void
    ) { done(nil) }
    func close() {}
  }

  private struct Alone {
    let directory: TemporaryDirectory
    let machine = Counter()
    let driver: ReplicaDriver<Counter>
    let halts = Locked<[String]>([])

    init(members: [String] = ["a"]) throws {
      directory = try TemporaryDirectory("driver")
      let membership = Membership(members.map { Member(id: NodeID($0), role: .data) })
      let (journal, stored) = try Journal.create(
        directory: directory.path("raft"), disk: SystemDisk(), cluster: "test", node: "a",
        membership: membership)
      var configuration = RaftConfiguration()
      configuration.electionTicks = 100
      let raft = Raft(
        id: "a", configuration: configuration, base: stored.base, applied: 0,
        now: BootClock().monotonicNanoseconds() / 1_000_000)
      driver = ReplicaDriver(
        replica: Replica(raft), journal: journal, machine: machine, directory: directory.path,
        logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
        onHalt: { [halts] reason in halts.withLock { $0.append(reason) } })
    }

    func lead() async {
      driver.start(Nobody())
      while (try? await driver.read()) == nil { await Task.yield() }
    }
  }

  private func failure<Value>(
    _ body: () async throws(ConsensusFailure) -> Value
  ) async -> ConsensusFailure? {
    do throws(ConsensusFailure) {
      _ = try await body()
      return nil
    } catch { return error }
  }

  @Test func proposalsAreAppliedInOrderAndAnswered() async throws {
    let alone = try Alone()
    await alone.lead()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for length in 1...200 {
        group.addTask {
          let answer = try await alone.driver.propose([UInt8](repeating: 1, count: length))
          #expect(answer == length)
        }
      }
      try await group.waitForAll()
    }
    #expect(await alone.machine.commands.count == 200)
    try await alone.driver.read()
    #expect(await alone.driver.status().applied == 201)
    await alone.driver.stop()
  }

  /// Nobody waits for a node that has stopped, nor for one that never leads.
  @Test func whoAsksAStoppedNodeIsTold() async throws {
    let alone = try Alone()
    await alone.lead()
    await alone.driver.stop()
    let stopped = ConsensusFailure.halted("the node has stopped")
    #expect(
      await failure { () throws(ConsensusFailure) in try await alone.driver.read() } == stopped)
    #expect(
      await failure { () throws(ConsensusFailure) in try await alone.driver.propose([1]) }
        == stopped)
    #expect(
      await failure { () throws(ConsensusFailure) in
        try await alone.driver.replace("b", by: Member(id: "c", role: .data))
      } == stopped)
    #expect(await alone.driver.status().applied == 1)
    let path = alone.directory.path("arrived")
    try Data([1]).write(to: URL(fileURLWithPath: path))
    let installed = await alone.driver.snapshotArrived(
      from: "b", term: 1, base: LogBase(position: Position(term: 1, index: 9)), path: path)
    #expect(installed == nil)
    #expect(!FileManager.default.fileExists(atPath: path))
    await alone.driver.stop()
  }

  @Test func aNodeWithoutAQuorumRefuses() async throws {
    let alone = try Alone(members: ["a", "b", "c"])
    alone.driver.start(Nobody())
    #expect(
      await failure { () throws(ConsensusFailure) in try await alone.driver.propose([1]) }
        == .notLeader(leader: nil, term: 0))
    #expect(
      await failure { () throws(ConsensusFailure) in
        try await alone.driver.read(noOlderThan: 60_000)
      }
        == .tooStale)
    await alone.driver.stop()
  }

  /// A follower that knows how far the others are, and has not got so far, waits for its leader, and not for ever.
  @Test func whatOnlyALeaderCanGiveIsNotAwaitedWithoutOne() async throws {
    let alone = try Alone(members: ["a", "b", "c"])
    let listener = Listener()
    alone.driver.start(listener)
    func hear(_ round: UInt64, answered: UInt64) {
      let heartbeat = Message.Heartbeat(
        commit: 5, matched: 0, round: round, answered: answered, retained: 0)
      alone.driver.receive([Message(from: "b", to: "a", term: 1, body: .heartbeat(heartbeat))])
    }
    func stamp(of round: UInt64) async -> UInt64 {
      while true {
        for message in listener.said.withLock({ $0 }) {
          if case .heartbeatAnswer(let answer) = message.body, answer.round == round {
            return answer.stamp
          }
        }
        await Task.yield()
      }
    }
    hear(1, answered: 0)
    hear(2, answered: await stamp(of: 1))
    _ = await stamp(of: 2)
    #expect(
      await failure { () throws(ConsensusFailure) in
        try await alone.driver.read(noOlderThan: 60_000)
      } == .tooStale)
    #expect(await alone.driver.status().leadership.leader == nil)
    await alone.driver.stop()
  }

  /// A state machine that cannot write ends the node's part; those who wait are told, and so is the daemon.
  @Test func aBrokenStateMachineHaltsTheNode() async throws {
    let alone = try Alone()
    await alone.lead()
    await alone.machine.breakDown()
    let outcome = await failure { () throws(ConsensusFailure) in try await alone.driver.propose([1])
    }
    guard case .halted(let reason)? = outcome else {
      Issue.record("\(String(describing: outcome))")
      return
    }
    #expect(alone.halts.withLock { $0 } == [reason])
    #expect(await alone.driver.status().haltReason == reason)
    #expect(
      await failure { () throws(ConsensusFailure) in try await alone.driver.read() }
        == .halted(reason))
    await alone.driver.stop()
  }
}
