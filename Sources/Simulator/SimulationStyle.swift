import Raft

/// What kind of time a cluster has, drawn from its seed. One that has all troubles at once never gets into the states in which
/// only one of them does harm: each seed has some, and the others not at all.
struct SimulationStyle {
  enum Kind: CaseIterable {
    /// Any mixture.
    case mixed
    /// Leaders are cut off or die soon after they were elected, with a log of their own, and come back: what one of them
    /// wrote meets what another did (Raft, figure 8).
    case fragileLeaders
    /// Several stand for election at once on a slow network, and voters die behind their votes.
    case rivals
  }

  var kind = Kind.mixed
  var configuration: RaftConfiguration

  /// Between two faults, at most; and until a process that ended runs again.
  var longestQuiet: UInt64 = 1500
  var longestOutage: UInt64 = 2500
  /// Of a process that ended, in percent: back within 30 ms.
  var quickRestart: UInt64 = 30
  var longestCut: UInt64 = 5000

  /// Milliseconds that a message takes, at most; so many percent take up to `latest` instead.
  var longestDelay: UInt64 = 2
  var late: UInt64 = 0
  var latest: UInt64 = 0
  var loss: UInt64 = 0
  var duplication: UInt64 = 0

  /// In percent: a leader that was just elected is cut off, or dies; within so many milliseconds.
  var leaderCut: UInt64 = 0
  var leaderCrash: UInt64 = 5
  /// The same of a node that has just promised its vote.
  var voterCrash: UInt64 = 5
  var blowWithin: UInt64 = 40

  /// Every so many milliseconds whoever believes to lead is given a command that nobody waits for; 0 for none.
  var ballast: UInt64 = 0
  /// Between an answer and the client's next operation, at most.
  var longestThought: UInt64 = 120
  /// Of operations, in percent.
  var reads: UInt64 = 40
  var staleReads: UInt64 = 10

  var faults: [SimulatedFault] = SimulatedFault.allCases
  /// Of faults, in percent: they hit whoever leads.
  var aimed: UInt64 = 0

  init(seed: UInt64, _ random: inout SeededGenerator) {
    configuration = RaftConfiguration(seed: seed, &random)
    func chance(_ percent: UInt64) -> Bool { UInt64.random(in: 0...99, using: &random) < percent }
    func one<Value>(of values: [Value]) -> Value { values.randomElement(using: &random)! }
    if chance(50) { (longestQuiet, longestOutage) = (400, 300) }
    if chance(30) { quickRestart = 90 }
    longestDelay = one(of: [2, 2, 20, 60])
    if chance(40) { (late, latest) = (one(of: [1, 5, 25]), one(of: [300, 1000, 5000])) }
    if chance(25) { duplication = 15 }
    if chance(20) { loss = 5 }
    if chance(30) { (leaderCut, longestCut) = (30, 1500) }
    if chance(20) { leaderCrash = 30 }
    if chance(20) { voterCrash = 30 }
    blowWithin = one(of: [5, 40, 300])
    if chance(30) { ballast = one(of: [20, 100]) }
    if chance(30) { (longestThought, reads) = (20, 10) }
    if chance(60) { faults = faults.filter { _ in chance(60) } }
    kind = one(of: Kind.allCases)
    switch kind {
    case .mixed: break
    case .fragileLeaders:
      (longestQuiet, longestOutage, longestCut) = (1500, 600, 1200)
      (leaderCut, leaderCrash, aimed) = (80, 20, 60)
      blowWithin = one(of: [40, 150, 400])
      longestDelay = one(of: [20, 60])
      ballast = one(of: [10, 40])
      configuration.maximumAppendBytes = 1
      configuration.maximumInFlight = 1
    case .rivals:
      (longestQuiet, longestOutage, quickRestart) = (400, 300, 95)
      (leaderCut, leaderCrash, voterCrash, aimed) = (20, 60, 60, 80)
      (longestCut, blowWithin, longestDelay) = (400, one(of: [10, 40]), one(of: [60, 100]))
      faults = [.crash, .crash, .isolate, .cutBothWays, .transfer, .clockJump]
      configuration.electionSpreadTicks = 5
      // With leases whoever restarts takes no part in elections for a while.
      configuration.readsUseLease = chance(20)
    }
    if faults.isEmpty { faults = [.transfer] }
  }
}

extension RaftConfiguration {
  /// One that comes to its limits, in a different way each time.
  init(seed: UInt64, _ random: inout SeededGenerator) {
    func one<Value>(of values: [Value]) -> Value { values.randomElement(using: &random)! }
    self.init()
    self.seed = seed
    readsUseLease = Bool.random(using: &random)
    // Little of it: several stand for election at once.
    electionSpreadTicks = one(of: [5, 30, 100])
    compactionStep = one(of: [5, 20, 100])
    retainedLogBytes = one(of: [2_000, 20_000, 1 << 20])
    // The first means one entry a message.
    maximumAppendBytes = one(of: [1, 200, 2_000, 1 << 20])
    maximumInFlight = one(of: [1, 4, 64])
    maximumWitnessLogBytes = one(of: [6_000, 1 << 20])
    sparesWitness = one(of: [true, true, false])
    maximumWitnessLagBytes = one(of: [200, 1 << 20])
  }
}
