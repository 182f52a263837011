import Simulator
import Testing

@Suite struct SimulationTests {
  @Test func nothingIsFoundInTheFirstSeeds() async {
    let campaign = await Campaign.run(seeds: 1...20, configuration: .init())
    #expect(campaign.violations.map(\.description) == [])
    #expect(campaign.total.operations > 1000)
  }
}
