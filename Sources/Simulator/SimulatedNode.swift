import Base
import Raft
import Replication
import SegmentStore

/// One node of a simulated cluster: the real `Replica` on the real `Journal` on a simulated disk, and a state machine.
final class SimulatedNode {
  let id: NodeID
  let role: Member.Role
  var disk: SimulatedDisk
  /// Counts starts: what was planned for an earlier one does not concern this one.
  var incarnation = 0
  var journal: Journal?
  var replica: Replica?
  /// What the state machine shows.
  var machine: RegisterMachine
  /// What its disk holds for certain, and what else it may hold after a loss of power: a database that does not synchronize
  /// each transaction keeps some of the last ones.
  var durableMachines: [RegisterMachine]
  var isFlushPlanned = false
  /// Came, and are handed to the consensus with what happens next.
  var proposed: [Event.Proposal] = []
  var diskDelay: UInt64 = 1
  var pausedUntil: UInt64 = 0
  /// The disk is gone for good: the node comes back under another name or not at all.
  var isGone = false
  /// A bit of its journal has flipped: it must not start.
  var isRotten = false
  /// As last looked at by the ledger; nil for a process that has not been.
  var seen: (term: Term, commit: Index)?
  /// For a bug that is played: the term as of its entries.
  var termOfEntries: Term = 0

  /// Its clock: parts per million by which it is fast, and what it showed at the beginning.
  let clockDrift: Int64
  let clockStart: UInt64
  /// By how much it has jumped ahead.
  var clockJumps: UInt64 = 0

  /// Filled by the journal's completion, which comes while it is told to do its work.
  let completion = Locked<Result<Journal.Written, SegmentStoreError>?>(nil)

  static let directory = "/log"

  init(
    id: NodeID, role: Member.Role, membership: Membership, clockDrift: Int64, clockStart: UInt64
  ) throws {
    self.id = id
    self.role = role
    self.clockDrift = clockDrift
    self.clockStart = clockStart
    disk = SimulatedDisk()
    machine = RegisterMachine(base: LogBase(membership: membership))
    durableMachines = [machine]
    _ = try Journal.create(
      directory: Self.directory, disk: disk, cluster: "simulated", node: id, membership: membership,
      configuration: Self.storeConfiguration(id))
  }

  static func storeConfiguration(_ id: NodeID) -> SegmentStoreConfiguration {
    var configuration = Journal.configuration(isStepped: true)
    // Small, so that segments are rolled and dropped within a short run.
    configuration.maximumSegmentSizeBytes = 4096
    let name = Array(id.name.utf8)
    configuration.makeStoreIdentifier = { (0..<16).map { name[$0 % name.count] &+ UInt8($0) } }
    return configuration
  }

  var isUp: Bool { replica != nil }
  var raft: Raft? { replica?.raft }

  /// Its clock at a time of the simulation, both in milliseconds.
  func clock(_ time: UInt64) -> Tick {
    clockStart + clockJumps + UInt64(Int64(time) + Int64(time) * clockDrift / 1_000_000)
  }

  /// Throws where the node cannot come back from what its disk holds.
  func start(at time: UInt64, configuration: RaftConfiguration, mutant: SimulationMutant?) throws {
    incarnation += 1
    isFlushPlanned = false
    seen = nil
    completion.withLock { $0 = nil }
    var (journal, stored) = try Journal.open(
      directory: Self.directory, disk: disk, cluster: "simulated", node: id,
      configuration: Self.storeConfiguration(id))
    machine = durableMachines[durableMachines.count - 1]
    durableMachines = [machine]
    stored = try journal.reconcile(stored, with: role == .witness ? nil : machine.base)
    mutant?.forget(&stored, role: role)
    let applied =
      role == .witness
      ? stored.base.position.index
      : min(machine.base.position.index, stored.base.position.index + UInt64(stored.entries.count))
    replica = Replica(
      Raft(
        id: id, role: role, configuration: configuration, hardState: stored.hardState,
        base: stored.base,
        entries: stored.entries, applied: applied, now: clock(time)))
    self.journal = journal
  }

  /// The process ends; what it wrote is still there for the next one.
  func stop() {
    replica = nil
    journal = nil
    proposed = []
    incarnation += 1
    pausedUntil = 0
  }

  /// The machine loses its power.
  func losePower(_ model: CrashModel, _ random: inout SeededGenerator) {
    stop()
    disk = disk.afterCrash(model, &random)
    let kept = Int.random(in: 1...durableMachines.count, using: &random)
    durableMachines = Array(durableMachines.prefix(kept))
  }

  /// The state machine has applied something more.
  func keep() {
    durableMachines.append(machine)
    if durableMachines.count > 64 { durableMachines.removeFirst(32) }
  }

  /// The state machine's disk holds all of it.
  func checkpoint() { durableMachines = [machine] }
}
