/// What an operator sets, the same on all nodes.
public struct RaftConfiguration: Sendable {
  /// Between two heartbeats of a leader.
  public var heartbeatTicks: Tick = 40
  /// A voter that heard a leader less than this long ago helps nobody to replace it.
  public var electionTicks: Tick = 200
  /// A silent leader is replaced after `electionTicks` and a random part of this.
  public var electionSpreadTicks: Tick = 100
  /// Part of `electionTicks`, in percent, for which a leader trusts a quorum's last answer: the rest is for clocks that run
  /// at different speeds.
  public var leasePercent: Tick = 90
  /// False: every read asks a quorum.
  public var readsUseLease = true
  /// Entries in one message, and proposed and not committed, in bytes. At least one entry always fits.
  public var maximumAppendBytes: UInt64 = 1 << 20
  public var maximumUncommittedBytes: UInt64 = 64 << 20
  /// Messages with entries on their way to one node. What comes up meanwhile goes with the next one: a few large ones cost
  /// less than many small ones, here, on the way, and on the other side's disk.
  public var maximumInFlight = 2
  /// While the data nodes keep up with each other, the witness is sent entries with each heartbeat only: it is needed for no
  /// commit then, and its disk and its messages cost what they cost the others.
  public var sparesWitness = true
  /// But no more than so many bytes late.
  public var maximumWitnessLagBytes: UInt64 = 1 << 20
  /// Entries that a data node keeps for those behind, in bytes; beyond it they get a snapshot.
  public var retainedLogBytes: UInt64 = 64 << 20
  /// What the witness holds while a data node is away; beyond it writes stop. What was proposed before the leader heard
  /// of it still goes in: a leader that cannot commit its first entry, or a replacement, would be of no use.
  public var maximumWitnessLogBytes: UInt64 = 256 << 20
  /// Entries by which a log may grow before what is not needed at its front is let go of.
  public var compactionStep: UInt64 = 4096
  /// Seeds the election timeouts, and tells this process's answers to heartbeats from those of an earlier one: another one in
  /// each process, outside of tests.
  public var seed: UInt64 = 0
  /// For the simulator's proof that it would see such a bug; nil everywhere else.
  package var mutant: Mutant?

  public init() {}

  var leaseTicks: Tick { electionTicks * leasePercent / 100 }
  var longestElectionTicks: Tick { electionTicks + electionSpreadTicks }

  func validate() {
    precondition(
      heartbeatTicks > 0 && electionTicks >= 2 * heartbeatTicks && leasePercent < 100,
      "heartbeat \(heartbeatTicks), election \(electionTicks), lease \(leasePercent) %")
    precondition(maximumInFlight > 0, "maximumInFlight is \(maximumInFlight)")
  }

  package enum Mutant: Sendable {
    /// A leader counts replicas of entries of earlier terms (Raft, figure 8).
    case commitsEarlierTerms
    /// An append that is already there takes away what stands behind it.
    case truncatesOnEveryAppend
  }
}
