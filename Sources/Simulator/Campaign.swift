import Base
import Glibc

/// Many seeds, on several threads: each run is independent of the others.
public struct Campaign: Sendable {
  public private(set) var seeds = 0
  public private(set) var violations: [Simulation.Violation] = []
  public private(set) var total = Simulation.Report()
  public private(set) var seconds = 0.0

  /// - Parameter wanted: it ends at the first violation of one of these kinds, if there are any.
  public static func run(
    seeds: ClosedRange<UInt64>, threads: Int = 0, configuration: Simulation.Configuration,
    endingAt wanted: Set<Simulation.Violation.Kind> = []
  ) async -> Campaign {
    let count = threads > 0 ? threads : max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
    let began = SystemClock().monotonicNanoseconds()
    let next = Locked(seeds.lowerBound)
    var campaign = await withTaskGroup(of: Campaign.self) { group in
      for _ in 0..<count {
        group.addTask {
          var part = Campaign()
          while let seed = next.withLock({ next -> UInt64? in
            guard next <= seeds.upperBound else { return nil }
            defer { next += 1 }
            return next
          }) {
            part.play(seed, configuration)
            if let last = part.violations.last, wanted.contains(last.kind) {
              next.withLock { $0 = seeds.upperBound + 1 }
            }
          }
          return part
        }
      }
      return await group.reduce(into: Campaign()) { $0.add($1) }
    }
    campaign.violations.sort { $0.seed < $1.seed }
    campaign.seconds = Double(SystemClock().monotonicNanoseconds() - began) / 1e9
    return campaign
  }

  private mutating func play(_ seed: UInt64, _ configuration: Simulation.Configuration) {
    seeds += 1
    do {
      let report = try Simulation.run(seed: seed, configuration: configuration)
      total.add(report)
    } catch let violation as Simulation.Violation {
      violations.append(violation)
    } catch {
      violations.append(
        .init(seed: seed, time: 0, kind: .simulator, text: "the simulation itself failed: \(error)")
      )
    }
  }

  private mutating func add(_ other: Campaign) {
    seeds += other.seeds
    violations += other.violations
    total.add(other.total)
  }

  public var seedsPerSecond: Double { seconds > 0 ? Double(seeds) / seconds : 0 }

  /// In how many seeds each check has seen something, most first.
  public var kinds: [(kind: Simulation.Violation.Kind, seeds: Int)] {
    Simulation.Violation.Kind.allCases.map { kind in
      (kind, violations.count { $0.kind == kind })
    }.filter { $0.seeds > 0 }.sorted { ($1.seeds, $0.kind.rawValue) < ($0.seeds, $1.kind.rawValue) }
  }

  /// What plays a violation again.
  public static func replay(
    _ violation: Simulation.Violation, mutant: SimulationMutant? = nil
  ) -> String {
    "sfmedir-simulate --from \(violation.seed) --seeds 1 --verbose"
      + (mutant.map { " --mutant \($0.rawValue)" } ?? "")
  }

  public var text: String {
    """
    \(seeds) seeds, \(violations.count) violations, \(rounded(seedsPerSecond)) seeds/s
      \(total.operations) operations (\(total.unknownOperations) of unknown outcome), \(total.commits) entries committed
      \(total.elections) elections, \(total.crashes) crashes, \(total.cuts) cuts, \(total.snapshots) snapshots, \
    \(total.replacements) nodes replaced, \(total.staleReads) reads at followers
    """
  }

  public var json: String {
    """
    {"seeds":\(seeds),"violations":\(violations.count),"seeds_per_second":\(rounded(seedsPerSecond)),\
    "operations":\(total.operations),"unknown_operations":\(total.unknownOperations),\
    "committed":\(total.commits),"elections":\(total.elections),"crashes":\(total.crashes),\
    "cuts":\(total.cuts),"snapshots":\(total.snapshots),"replacements":\(total.replacements),\
    "stale_reads":\(total.staleReads),"fingerprint":"\(String(total.fingerprint, radix: 16))"}
    """
  }

  private func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }
}
