import Raft

extension Simulation {
  /// What a run has done.
  public struct Report: Equatable, Sendable {
    public var operations = 0
    public var unknownOperations = 0
    public var staleReads = 0
    public var commits: Index = 0
    public var elections = 0
    public var crashes = 0
    public var cuts = 0
    public var snapshots = 0
    public var replacements = 0
    public var faults: [String: Int] = [:]
    /// Two runs that have it in common have most likely done the same all along.
    public var fingerprint: UInt64 = 0
  }

  /// Something that must never be.
  public struct Violation: Error, CustomStringConvertible, Sendable {
    /// Which check has seen it.
    public enum Kind: String, CaseIterable, Sendable {
      /// Of one term.
      case twoLeaders = "two_leaders"
      /// An entry that was committed is not there, or is another.
      case lostCommit = "lost_commit"
      /// A node's term or commit has fallen.
      case wentBack = "went_back"
      /// Logs agree in one place and not before it.
      case logMatching = "log_matching"
      /// Two state machines differ that have applied the same.
      case state
      /// No order of what clients did explains what they saw.
      case history
      /// A follower knew less than it said.
      case staleness
      /// A node stopped itself.
      case halt
      /// A node does not come back from its own disk, or comes back from one that it should refuse.
      case start
      /// After the faults the cluster is not well.
      case recovery
      case simulator
    }

    public let seed: UInt64
    public let time: UInt64
    public let kind: Kind
    public let text: String
    public var description: String { "seed \(seed), \(time) ms: \(text)" }
  }
}

extension Simulation.Report {
  mutating func add(_ other: Self) {
    operations += other.operations
    unknownOperations += other.unknownOperations
    staleReads += other.staleReads
    commits += other.commits
    elections += other.elections
    crashes += other.crashes
    cuts += other.cuts
    snapshots += other.snapshots
    replacements += other.replacements
    faults.merge(other.faults, uniquingKeysWith: +)
    fingerprint &+= other.fingerprint
  }
}
