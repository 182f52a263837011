import Base
import Foundation
import Glibc
import TestSupport
import Testing

@testable import RPC

/// The RPC against a network that breaks, from seeds. A failure prints its seed and what happened:
/// `SFMEDIR_SEED=<seed> swift test --filter SimulationTests` runs it again; `SFMEDIR_SIMULATIONS=<count>` runs
/// so many fresh seeds.
@Suite(.serialized, .timeLimit(.minutes(10))) struct SimulationTests {
  private static let givenSeed = number("SFMEDIR_SEED")
  private static let freshSeeds = number("SFMEDIR_SIMULATIONS") ?? 30

  private static func number(_ variable: String) -> UInt64? {
    getenv(variable).flatMap { UInt64(String(cString: $0)) }
  }

  private static let shownLines = givenSeed == nil ? 200 : 100_000

  /// Runs a seed; where something is wrong, again with a transcript, which is then printed.
  private func check(_ seed: UInt64) -> Simulation.Outcome {
    let outcome = Simulation(seed: seed).run()
    if !outcome.problems.isEmpty {
      let again = Simulation(seed: seed, keepsText: true).run()
      Issue.record(
        """
        SFMEDIR_SEED=\(seed)
        \(again.lines.suffix(Self.shownLines).joined(separator: "\n"))
        \(outcome.problems.prefix(10).joined(separator: "\n"))
        """)
    }
    return outcome
  }

  /// On a thread of its own: a simulation never waits, and would keep one of the few that all tests share.
  private func onOwnThread(_ body: @escaping @Sendable () -> Void) async {
    await withCheckedContinuation { done in
      let thread = Thread {
        body()
        done.resume()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
  }

  @Test func everyCallEndsOnceAndNothingIsLeft() async {
    await onOwnThread { everyCallEndsOnce() }
  }

  private func everyCallEndsOnce() {
    if let seed = Self.givenSeed {
      let outcome = check(seed)
      print("seed \(seed): digest \(outcome.digest), \(outcome.statuses)")
      return
    }
    var statuses: [StatusCode: Int] = [:]
    var failures = 0
    let fresh = (0..<Self.freshSeeds).map { _ in UInt64.random(in: 0...UInt64.max) }
    for seed in Array(1...70) + fresh {
      let outcome = check(seed)
      statuses.merge(outcome.statuses) { $0 + $1 }
      if !outcome.problems.isEmpty { failures += 1 }
      // Many seeds find the same.
      if failures == 3 { break }
    }
    print("simulated calls: \(statuses.sorted { $0.key.rawValue < $1.key.rawValue })")
    // A simulation in which nothing goes wrong, or nothing right, shows nothing.
    for code in [StatusCode.ok, .cancelled, .deadlineExceeded, .unavailable, .notFound] {
      #expect(statuses[code, default: 0] > 50, "\(code)")
    }
  }

  @Test func aSeedDecidesEverything() async {
    await onOwnThread { aSeedDecides() }
  }

  private func aSeedDecides() {
    var digests: Set<UInt64> = []
    for seed in UInt64(1)...20 {
      let first = Simulation(seed: seed).run()
      let second = Simulation(seed: seed).run()
      #expect(first.digest == second.digest, "seed \(seed)")
      digests.insert(first.digest)
    }
    #expect(digests.count == 20)
  }

  enum Sabotage: CaseIterable { case drops, swaps, alters }

  /// A transport that breaks its promise is noticed: the checks can fail.
  @Test(arguments: Sabotage.allCases) func aBrokenTransportIsNoticed(_ sabotage: Sabotage) async {
    await onOwnThread { isNoticed(sabotage) }
  }

  private func isNoticed(_ sabotage: Sabotage) {
    for seed in UInt64(1)...10 {
      let simulation = Simulation(seed: seed, hasFaults: false)
      var large = 0
      var kept: (lane: SimulatedLane, parcel: Parcel)?
      simulation.network.sabotage = { lane, parcel in
        guard case .bytes(var bytes) = parcel else { return [parcel] }
        if let first = kept, first.lane === lane {
          kept = nil
          return [parcel, first.parcel]
        }
        // A single piece may belong to a call that its caller gives up anyway.
        if bytes.count > 4000 { large += 1 }
        guard bytes.count > 4000, large % 5 == 0 else { return [parcel] }
        switch sabotage {
        case .drops: return []
        case .swaps:
          kept = (lane, parcel)
          return []
        case .alters:
          bytes[bytes.count / 2] ^= 1
          return [.bytes(bytes)]
        }
      }
      let outcome = simulation.run()
      #expect(!outcome.problems.isEmpty, "seed \(seed)")
    }
  }
}
