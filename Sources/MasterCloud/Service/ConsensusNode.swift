import Base
import Consensus
import Glibc
import Logging
import Messages
import RPC
import Raft
import Replication

/// One voter of the masters' log, of a master or of the witness: its journal, its driver, its links to the others.
final class ConsensusNode<Machine: ReplicatedStateMachine>: Sendable {
  let driver: ReplicaDriver<Machine>
  private let links: PeerLinks

  /// Opens the journal under `directory`, which must have been made by ``ConsensusFolder/create``.
  ///
  /// - Parameters:
  ///   - state: where the state machine stands; nil for a witness.
  ///   - dialer: the way to the other voters.
  init(
    node: String, cluster: String, directory: String, role: Member.Role, members: [Member],
    configuration: RaftConfiguration, machine: Machine, state: LogBase?, dialer: Dialer,
    logger: Logger, onLeadership: @escaping @Sendable (Leadership) -> Void,
    onHalt: @escaping @Sendable (String) -> Void
  ) async throws {
    let id = NodeID(node)
    let begin = SystemClock().monotonicNanoseconds()
    let (journal, stored) = try await offload { () throws -> (JournalBox, StoredLog) in
      let (journal, stored) = try Journal.open(
        directory: ConsensusFolder.path(in: directory), disk: SystemDisk(), cluster: cluster,
        node: id)
      return (JournalBox(journal), try journal.reconcile(stored, with: state))
    }
    logger.notice(
      "the log is open",
      metadata: [
        "entries": "\(stored.entries.count)", "behind": "\(stored.base.position.index)",
        "after_milliseconds": "\((SystemClock().monotonicNanoseconds() - begin) / 1_000_000)",
      ])
    // What a transfer left that a crash cut short.
    for name in ["snapshot.incoming", "snapshot.outgoing"] {
      for suffix in ["", "-wal", "-shm"] { unlink("\(directory)/\(name)\(suffix)") }
    }
    if let state = machine as? ClusterState { try await state.adopt(stored.base.membership) }
    let raft = Raft(
      id: id, role: role, configuration: configuration, hardState: stored.hardState,
      base: stored.base, entries: stored.entries,
      applied: state?.position.index ?? stored.base.position.index,
      now: BootClock().monotonicNanoseconds() / 1_000_000)
    driver = ReplicaDriver(
      replica: Replica(raft), journal: journal.journal, machine: machine, directory: directory,
      logger: logger, onLeadership: onLeadership, onHalt: onHalt)
    let driver = driver
    links = PeerLinks(
      node: id, cluster: cluster, known: members.filter { $0.id != id }, dialer: dialer,
      logger: logger, lost: { [weak driver] in driver?.unreachable($0) })
  }

  func start() { driver.start(links) }

  /// Marks of the other masters' states, by their names; of those that answer.
  func marksOfOthers() async -> [String: [StateMark]] {
    let status = await driver.status()
    var result: [String: [StateMark]] = [:]
    for member in status.membership.members
    where member.role == .data && member.id != driver.node {
      result[member.id.name] = try? await links.stateMarks(of: member, timeout: .seconds(2))
    }
    return result
  }
}

/// Crosses from the thread that opened it to the driver, which alone uses it from then on.
private struct JournalBox: @unchecked Sendable {
  let journal: Journal
  init(_ journal: Journal) { self.journal = journal }
}

/// The folder of a voter's journal, in the daemon's state folder.
public enum ConsensusFolder {
  static func path(in directory: String) -> String { directory + "/raft" }

  /// Makes a new voter.
  ///
  /// It is done once in the life of a node: one that has lost its folder has lost what it promised, and must come
  /// back under another name.
  /// - Parameter members: of a cluster that begins, the same for all; none for a node that takes another's place.
  public static func create(
    in directory: String, cluster: String, node: String, members: [Member]
  ) async throws {
    guard !exists(in: directory) else {
      throw JournalDamage(
        "\(path(in: directory)) is not empty: a node is never made anew over another's journal")
    }
    let disk = SystemDisk()
    // Under another name until it is whole: what a crash leaves half made is no journal, and promised nothing.
    let unfinished = path(in: directory) + ".new"
    let made = try await offload {
      for name in (try? disk.listDirectory(unfinished)) ?? [] {
        try disk.remove("\(unfinished)/\(name)")
      }
      return JournalBox(
        try Journal.create(
          directory: unfinished, disk: disk, cluster: cluster, node: NodeID(node),
          membership: Membership(members)
        ).0)
    }
    // Whoever opens it next must not find it in use.
    await made.journal.close()
    try await offload {
      try disk.rename(unfinished, to: path(in: directory))
      try disk.synchronizeDirectory(directory)
    }
  }

  public static func exists(in directory: String) -> Bool {
    (try? SystemDisk().listDirectory(path(in: directory)).isEmpty) == false
  }
}
