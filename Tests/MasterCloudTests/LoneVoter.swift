import Base
import Consensus
import Messages
import RPC
import Raft
import TestSupport

@testable import MasterCloud

extension ClusterState {
  /// Commands as entries of one term.
  func apply(_ commands: [LogCommand], first: UInt64) throws -> [LogOutcome] {
    // Tests look at the file, too.
    defer { try? settle() }
    return try apply(commands.map { Entry(term: 1, payload: .command($0.encoded())) }, first: first)
      .map { outcome in
        guard let outcome else { preconditionFailure("a command without an outcome") }
        return outcome
      }
  }
}

/// The log of a master that is alone, without the master.
enum LoneVoter {
  /// Makes the log in the folder where there is none; returns once its voter leads.
  static func open(
    directory: String, state: ClusterState, cluster: String = "test"
  ) async throws -> ConsensusLog {
    let member = Member(id: "mcs-1", role: .data)
    if !ConsensusFolder.exists(in: directory) {
      try await ConsensusFolder.create(
        in: directory, cluster: cluster, node: "mcs-1", members: [member])
    }
    let leadership = LeadershipWatch()
    let voter = try await ConsensusNode(
      node: "mcs-1", cluster: cluster, directory: directory, role: .data, members: [member],
      configuration: RaftConfiguration(), machine: state, state: try await state.base(),
      dialer: Dialer { _, _ in preconditionFailure("a voter that is alone calls somebody") },
      logger: MasterServiceTests.quietLogger, onLeadership: { leadership.set($0) },
      onHalt: { _ in })
    voter.start()
    await leadership.waitUntilLeading()
    let log = ConsensusLog(driver: voter.driver)
    while (try? await log.readBarrier()) == nil { await Task.yield() }
    return log
  }
}
