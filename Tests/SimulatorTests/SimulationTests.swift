import Foundation
import Simulator
import Testing

/// One after another: each takes all processors.
@Suite(.serialized) struct SimulationTests {
  @Test func nothingIsFound() async {
    let campaign = await Campaign.run(seeds: 1...200, configuration: .init())
    for violation in campaign.violations {
      Issue.record("\(violation)\nagain: \(Campaign.replay(violation))")
    }
    print("\(campaign.text)")
    #expect(campaign.total.operations > 10_000, "the schedules must let clients work")
    #expect(campaign.total.elections > 1000, "and be eventful")
    #expect(campaign.total.snapshots > 20)
    #expect(campaign.total.replacements > 20)
    #expect(campaign.total.staleReads > 200)
  }

  @Test(arguments: SimulationMutant.allCases)
  func aKnownBugIsSeen(_ mutant: SimulationMutant) async {
    var configuration = Simulation.Configuration()
    configuration.mutant = mutant
    let campaign = await Campaign.run(
      seeds: 1...300, configuration: configuration, endingAt: mutant.seenBy)
    #expect(
      campaign.violations.contains { mutant.seenBy.contains($0.kind) },
      "\(campaign.seeds) seeds show nothing of \(mutant.rawValue)")
  }

  @Test func aSeedGivesTheSameRunTwice() throws {
    for seed: UInt64 in 1...6 {
      #expect(try Simulation.run(seed: seed) == Simulation.run(seed: seed))
    }
  }

  @Test func aViolationIsPlayedAgain() async throws {
    var configuration = Simulation.Configuration()
    configuration.mutant = .votesWithoutLogCheck
    let campaign = await Campaign.run(seeds: 1...20, configuration: configuration)
    let violation = try #require(campaign.violations.first)
    #expect(
      Campaign.replay(violation, mutant: .votesWithoutLogCheck)
        == "sfmedir-simulate --from \(violation.seed) --seeds 1 --verbose --mutant votesWithoutLogCheck"
    )
    let again = #expect(throws: Simulation.Violation.self) {
      try Simulation.run(seed: violation.seed, configuration: configuration)
    }
    #expect(again?.description == violation.description)
  }

  @Test func seedsEndWithTheLastThereIs() async {
    let campaign = await Campaign.run(
      seeds: (.max - 1)...(.max), threads: 3, configuration: .init())
    #expect(campaign.seeds == 2)
  }

  @Test func jsonHasTheViolations() async throws {
    var configuration = Simulation.Configuration()
    configuration.mutant = .votesWithoutLogCheck
    let campaign = await Campaign.run(seeds: 1...20, configuration: configuration)
    let first = try #require(campaign.violations.first)
    let line = try #require(
      JSONSerialization.jsonObject(with: Data(campaign.json(mutant: .votesWithoutLogCheck).utf8))
        as? [String: Any])
    #expect(line["seen_in"] as? Int == campaign.violations.count)
    #expect((line["seen_by"] as? [String: Int])?["lost_commit"] ?? 0 > 0)
    let violations = try #require(line["violations"] as? [[String: Any]])
    #expect(violations.count == campaign.violations.count)
    #expect(violations.first?["seed"] as? UInt64 == first.seed)
    #expect(violations.first?["kind"] as? String == first.kind.rawValue)
    #expect(
      violations.first?["again"] as? String
        == Campaign.replay(first, mutant: .votesWithoutLogCheck))

    let mutant = try #require(
      JSONSerialization.jsonObject(with: Data(campaign.json(of: .votesWithoutLogCheck).utf8))
        as? [String: Any])
    #expect(mutant["expected_by"] as? [String] == ["lost_commit"])
    #expect(mutant["seen"] as? Bool == campaign.hasSeen(.votesWithoutLogCheck))
  }
}
