import Base
import Consensus
import Messages
import RPC
import Replication

/// The one way to change the masters' state: a command is durable with enough voters before it is applied.
protocol ReplicatedLog: Sendable {
  /// Returns once the command is committed and applied here, with what applying it answered.
  ///
  /// Throws UNAVAILABLE where the outcome is not known; commands are made so that proposing again is safe.
  func propose(_ command: LogCommand) async throws(RPCError) -> LogOutcome
  /// Returns once everything committed before the call is applied here, so that a read after it is not stale.
  func readBarrier() async throws(RPCError)
  /// Returns once what was committed so many milliseconds ago is applied here, on whichever master this is.
  func readBarrier(noOlderThan milliseconds: UInt64) async throws(RPCError)
  func close() async
}

extension ReplicatedLog {
  private static var greatestAgeMilliseconds: UInt64 { 86_400_000 }

  /// - Parameter maximumAgeMilliseconds: as requests carry it: 0 for the state of now, which only the leader knows.
  func readBarrier(maximumAgeMilliseconds: UInt64) async throws(RPCError) {
    if maximumAgeMilliseconds == 0 { return try await readBarrier() }
    guard maximumAgeMilliseconds <= Self.greatestAgeMilliseconds else {
      throw RPCError(.invalidArgument, "an age is a day at most")
    }
    try await readBarrier(noOlderThan: maximumAgeMilliseconds)
  }

  /// Proposes the command of which `set` fills in the field, with the time of now.
  ///
  /// - Returns: what applying it answered, a refusal too: that is the caller's to check.
  func propose(_ set: (inout LogCommand) -> Void) async throws(RPCError) -> LogOutcome {
    var command = LogCommand()
    command.proposedAtMilliseconds = SystemClock().wallMilliseconds()
    set(&command)
    return try await propose(command)
  }
}

/// The masters' common log, as one of them sees it.
struct ConsensusLog: ReplicatedLog {
  let driver: ReplicaDriver<ClusterState>

  func propose(_ command: LogCommand) async throws(RPCError) -> LogOutcome {
    let bytes = command.encoded()
    guard bytes.count <= Self.maximumCommandBytes else {
      throw RPCError(.invalidArgument, "a change of \(bytes.count) bytes")
    }
    do throws(ConsensusFailure) { return try await driver.propose(bytes) } catch {
      throw error.rpcError
    }
  }

  func readBarrier() async throws(RPCError) {
    do throws(ConsensusFailure) { try await driver.read() } catch { throw error.rpcError }
  }

  func readBarrier(noOlderThan milliseconds: UInt64) async throws(RPCError) {
    do throws(ConsensusFailure) { try await driver.read(noOlderThan: milliseconds) } catch {
      throw error.rpcError
    }
  }

  func close() async { await driver.stop() }

  /// A command has to fit one frame, with what stands around it.
  private static let maximumCommandBytes = 640 << 10
}
