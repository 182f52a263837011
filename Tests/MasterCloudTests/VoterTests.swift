import Base
import Consensus
import Foundation
import Logging
import Messages
import RPC
import Raft
import Replication
import TestSupport
import Testing

@testable import MasterCloud

/// Voters with real journals, states and links, in one process.
@Suite(.timeLimit(.minutes(2))) struct VoterTests {
  /// What all voters of one test share.
  private struct Cluster {
    let authority: TestAuthority
    let group = EventLoopGroup(count: 2)
    let members: [Member]
    var configuration = RaftConfiguration()

    init() throws {
      authority = try TestAuthority()
      let port = UInt16.random(in: 1...60_000)
      members = [
        Member(id: "mcs-1", role: .data, address: "mcs-1.\(authority.cluster):\(port)"),
        Member(id: "mcs-2", role: .data, address: "mcs-2.\(authority.cluster):\(port)"),
        Member(id: "witness-1", role: .witness, address: "witness-1.\(authority.cluster):\(port)"),
      ]
      // A log of a few entries, and a machine that may be busy with other tests.
      configuration.retainedLogBytes = 2000
      configuration.compactionStep = 32
      configuration.heartbeatTicks = 50
      configuration.electionTicks = 500
      configuration.electionSpreadTicks = 250
    }

    func identity(_ member: Member) throws -> Identity {
      try authority.identity(member.role == .witness ? .witness : .master, member.id.name)
    }
  }

  /// A master without slaves, or a witness, as far as the log is concerned.
  private final class Voter<Machine: ReplicatedStateMachine>: Sendable {
    let node: ConsensusNode<Machine>
    private let server: Server

    init(
      _ member: Member, _ machine: Machine, state: LogBase?, in directory: TemporaryDirectory,
      _ cluster: Cluster
    ) async throws {
      let folder = directory.path(member.id.name)
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true)
      if !ConsensusFolder.exists(in: folder) {
        try await ConsensusFolder.create(
          in: folder, cluster: cluster.authority.cluster, node: member.id.name,
          members: cluster.members)
      }
      let identity = try cluster.identity(member)
      let logger = MasterServiceTests.quietLogger
      node = try await ConsensusNode(
        node: member.id.name, cluster: cluster.authority.cluster, directory: folder,
        role: member.role, members: cluster.members, configuration: cluster.configuration,
        machine: machine, state: state,
        dialer: TestServers.network.dialer(as: identity, group: cluster.group, logger: logger),
        logger: logger, onLeadership: { _ in }, onHalt: { Issue.record("halted: \($0)") })
      var router = Router()
      ConsensusService(driver: node.driver, directory: folder).register(on: &router)
      server = try TestServers.serve(
        router, as: identity, at: Address(member.address), cluster.group, logger)
      node.start()
    }

    func stop() async {
      await server.shutdown(graceMilliseconds: 0)
      await node.driver.stop()
    }
  }

  private static func commit(_ number: Int) -> [LogCommand] {
    let image = TestImage(seed: UInt64(number), bytes: 10, code: UInt64(number) & 0xffff)
    var begin = BeginUpload()
    (begin.imageID, begin.epoch, begin.owner) = (image.record.imageID, 1, "mo-1")
    var commit = CommitUpload()
    (commit.record, commit.epoch) = (image.record, 1)
    commit.record?.owner = "mo-1"
    var (first, second) = (LogCommand(), LogCommand())
    first.beginUpload = begin
    second.commitUpload = commit
    return [first, second]
  }

  /// Asks again while nobody leads.
  private static func propose(_ command: LogCommand, to log: ConsensusLog) async throws {
    while true {
      do throws(RPCError) {
        _ = try await log.propose(command)
        return
      } catch {
        guard error.code == .unavailable else { throw error }
      }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// A master that was away while the log moved on without it gets the whole state over the network, and goes on from there.
  @Test func aMasterThatWasAwayIsSentTheState() async throws {
    let directory = try TemporaryDirectory("voters")
    let cluster = try Cluster()
    func state(_ name: String) throws -> ClusterState {
      try ClusterState(path: directory.path("\(name).sqlite"))
    }
    let one = try state("one")
    let first = try await Voter(
      cluster.members[0], one, state: try await one.base(), in: directory, cluster)
    let witness = try await Voter(
      cluster.members[2], NoStateMachine(), state: nil, in: directory, cluster)
    let log = ConsensusLog(driver: first.node.driver)
    for number in 0..<150 {
      for command in Self.commit(number) { try await Self.propose(command, to: log) }
    }
    // Its log begins behind what the other one would have to be told.
    let base = await first.node.driver.status()
    #expect(base.applied > 300)
    #expect(base.logSizeBytes < 100_000)

    let two = try state("two")
    let second = try await Voter(
      cluster.members[1], two, state: try await two.base(), in: directory, cluster)
    for number in 150..<200 {
      for command in Self.commit(number) { try await Self.propose(command, to: log) }
    }
    func untilTheSecondFollows() async throws {
      let applied = try await one.appliedIndex()
      while try await two.appliedIndex() < applied { try await Task.sleep(for: .milliseconds(5)) }
    }
    try await untilTheSecondFollows()
    // No entry told it of who votes, nor of the first images: what it applied itself begins behind them.
    #expect(await two.marks().first?.index ?? .max > 256)
    #expect(try await two.base().membership == Membership(cluster.members))
    #expect(try await two.counts().images == 200)
    var code = MaskedCode()
    (code.modelVersion, code.indexKeyVersion, code.bits, code.code) = ("model-a", 1, 16, 7)
    #expect(try await two.search([code], count: 1).first?.distance == 0)
    // And it goes on from there as the others do.
    for number in 200..<240 {
      for command in Self.commit(number) { try await Self.propose(command, to: log) }
    }
    try await untilTheSecondFollows()
    let mark = try #require(await two.marks().last)
    #expect(await one.marks().contains(mark))
    for name in ["snapshot.incoming", "snapshot.outgoing"] {
      for member in ["mcs-1", "mcs-2"] {
        #expect(!FileManager.default.fileExists(atPath: directory.path("\(member)/\(name)")))
      }
    }
    // Reads there are as young as was asked for, or refused.
    try await ConsensusLog(driver: second.node.driver).readBarrier(noOlderThan: 60_000)
    await first.stop()
    await second.stop()
    await witness.stop()
  }

  /// A crash in the middle of a first start leaves a node that can still be made; a node that is made is never made anew.
  @Test func aNodeIsMadeWholeOrNotAtAll() async throws {
    let directory = try TemporaryDirectory("voters")
    let cluster = try Cluster()
    let folder = directory.path("mcs-1")
    try FileManager.default.createDirectory(
      atPath: "\(folder)/raft.new", withIntermediateDirectories: true)
    for name in ["00000001.segment", "store.lock"] {
      try Data("half".utf8).write(to: URL(fileURLWithPath: "\(folder)/raft.new/\(name)"))
    }
    #expect(!ConsensusFolder.exists(in: folder))
    func make() async throws {
      try await ConsensusFolder.create(
        in: folder, cluster: cluster.authority.cluster, node: "mcs-1", members: cluster.members)
    }
    try await make()
    #expect(ConsensusFolder.exists(in: folder))
    #expect(!FileManager.default.fileExists(atPath: "\(folder)/raft.new"))
    await #expect(throws: JournalDamage.self) { try await make() }
    let state = try ClusterState(path: directory.path("state.sqlite"))
    let voter = try await Voter(
      cluster.members[0], state, state: try await state.base(), in: directory, cluster)
    #expect(await voter.node.driver.status().membership == Membership(cluster.members))
    await voter.stop()
  }

  /// A follower answers from a state of some age, for as long as the age allows and no longer.
  @Test func aFollowerAnswersWithinTheAge() async throws {
    let directory = try TemporaryDirectory("voters")
    let cluster = try Cluster()
    var states: [ClusterState] = []
    var voters: [Voter<ClusterState>] = []
    for member in cluster.members.prefix(2) {
      let state = try ClusterState(path: directory.path("\(member.id.name).sqlite"))
      states.append(state)
      voters.append(
        try await Voter(member, state, state: try await state.base(), in: directory, cluster))
    }
    let witness = try await Voter(
      cluster.members[2], NoStateMachine(), state: nil, in: directory, cluster)
    var leader: Int?
    while leader == nil {
      for (number, voter) in voters.enumerated()
      where await voter.node.driver.status().leadership.role == .leader { leader = number }
      try await Task.sleep(for: .milliseconds(5))
    }
    let leading = try #require(leader)
    let follower = ConsensusLog(driver: voters[1 - leading].node.driver)
    for command in Self.commit(1) {
      try await Self.propose(command, to: ConsensusLog(driver: voters[leading].node.driver))
    }
    // As of now only the leader knows; a moment ago, the follower too.
    #expect(await rpcError { () throws(RPCError) in try await follower.readBarrier() } != nil)
    while await rpcError({ () throws(RPCError) in
      try await follower.readBarrier(noOlderThan: 1000)
    }) != nil { try await Task.sleep(for: .milliseconds(5)) }
    while try await states[1 - leading].counts().images == 0 {
      try await Task.sleep(for: .milliseconds(5))
    }
    // With nobody left to hear from, its age grows.
    await voters[leading].stop()
    await witness.stop()
    while await rpcError({ () throws(RPCError) in
      try await follower.readBarrier(noOlderThan: 100)
    }) == nil { try await Task.sleep(for: .milliseconds(5)) }
    let refusal = await rpcError { () throws(RPCError) in
      try await follower.readBarrier(noOlderThan: 100)
    }
    #expect(refusal?.reason == "TooStale")
    try await follower.readBarrier(noOlderThan: 3_600_000)
    #expect(try await states[1 - leading].counts().images == 1)
    await voters[1 - leading].stop()
  }
}
