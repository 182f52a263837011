import Base
import Consensus
import Logging
import RPC
import Raft

/// The witness: a voter of the masters' log that keeps the log and nothing else, and serves nobody.
public final class WitnessService: Sendable {
  private let lock: any DiskLock
  private let voter: ConsensusNode<NoStateMachine>
  private let consensus: ConsensusService<NoStateMachine>

  /// Opens the log under `directory`, made by ``ConsensusFolder/create(in:cluster:node:members:)``.
  ///
  /// - Parameters:
  ///   - peers: the way to the masters.
  ///   - onHalt: the witness takes no part any more and has to be started anew.
  public init(
    node: String, cluster: String, directory: String, members: [Member],
    configuration: RaftConfiguration, peers: Dialer, logger: Logger,
    onHalt: @escaping @Sendable (String) -> Void = { _ in }
  ) async throws {
    guard let lock = try SystemDisk().lock(directory + "/master.lock") else {
      throw RPCError(.unavailable, "another witness uses \(directory)", reason: "InUse")
    }
    self.lock = lock
    voter = try await ConsensusNode(
      node: node, cluster: cluster, directory: directory, role: .witness, members: members,
      configuration: configuration, machine: NoStateMachine(), state: nil, dialer: peers,
      logger: logger, onLeadership: { _ in }, onHalt: onHalt)
    consensus = ConsensusService(driver: voter.driver, directory: directory)
  }

  public func start() async { voter.start() }

  public func register(on router: inout Router) { consensus.register(on: &router) }

  /// After the server has drained.
  public func stop() async {
    await voter.driver.stop()
    lock.release()
  }
}
