import Base
import Foundation
import Raft

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
    // Nil after the last one, which may be the last there is.
    let next = Locked<UInt64?>(seeds.lowerBound)
    var campaign = await withTaskGroup(of: Campaign.self) { group in
      for _ in 0..<count {
        group.addTask {
          var part = Campaign()
          while let seed = next.withLock({ next -> UInt64? in
            defer { next = next == seeds.upperBound ? nil : next.map { $0 + 1 } }
            return next
          }) {
            part.play(seed, configuration)
            if let last = part.violations.last, wanted.contains(last.kind) {
              next.withLock { $0 = nil }
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

  /// - Parameter mutant: what was put in, for the commands that play violations again.
  public func json(mutant: SimulationMutant? = nil) throws -> String {
    try Self.encode(
      Line(
        seeds: seeds, seedsPerSecond: rounded(seedsPerSecond), operations: total.operations,
        unknownOperations: total.unknownOperations, committed: total.commits,
        elections: total.elections, crashes: total.crashes, cuts: total.cuts,
        snapshots: total.snapshots, replacements: total.replacements, staleReads: total.staleReads,
        fingerprint: String(total.fingerprint, radix: 16), seenIn: violations.count, seenBy: seenBy,
        violations: violations.map {
          .init(
            seed: $0.seed, timeMilliseconds: $0.time, kind: $0.kind.rawValue, text: $0.text,
            again: Self.replay($0, mutant: mutant))
        }))
  }

  /// What was seen of a bug that was put in.
  public func json(of mutant: SimulationMutant) throws -> String {
    try Self.encode(
      MutantLine(
        mutant: mutant.rawValue, seeds: seeds, seenIn: violations.count, seenBy: seenBy,
        expectedBy: mutant.seenBy.map(\.rawValue).sorted(), seen: hasSeen(mutant)))
  }

  /// By one of the checks that have to see it.
  public func hasSeen(_ mutant: SimulationMutant) -> Bool {
    violations.contains { mutant.seenBy.contains($0.kind) }
  }

  private var seenBy: [String: Int] {
    Dictionary(uniqueKeysWithValues: kinds.map { ($0.kind.rawValue, $0.seeds) })
  }

  private func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }

  private static func encode(_ line: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(line), as: UTF8.self)
  }

  private struct Line: Encodable {
    let seeds: Int
    let seedsPerSecond: Double
    let operations: Int
    let unknownOperations: Int
    let committed: Index
    let elections: Int
    let crashes: Int
    let cuts: Int
    let snapshots: Int
    let replacements: Int
    let staleReads: Int
    let fingerprint: String
    let seenIn: Int
    let seenBy: [String: Int]
    let violations: [Violation]

    struct Violation: Encodable {
      let seed: UInt64
      let timeMilliseconds: UInt64
      let kind: String
      let text: String
      let again: String
    }
  }

  private struct MutantLine: Encodable {
    let mutant: String
    let seeds: Int
    let seenIn: Int
    let seenBy: [String: Int]
    let expectedBy: [String]
    let seen: Bool
  }
}
