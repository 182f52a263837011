import Base
import TestSupport
import Testing

@testable import MasterCloud

@Suite struct PlacementTests {
  private static func candidates(_ zones: [Int]) -> [SlaveCandidate] {
    zones.enumerated().flatMap { zone, count in
      (0..<count).map { number in
        SlaveCandidate(
          node: "s-\(zone)-\(number)",
          location: SlaveLocation(
            host: "h-\(zone)-\(number / 2)", rack: "r-\(number / 4)", zone: "z-\(zone)"),
          availableBytes: 1 << 30)
      }
    }
  }

  /// Whatever the sizes of the domains: no domain gets more than it must.
  @Test(arguments: FailureDomain.allCases)
  func shadowsAreSpreadAsEvenlyAsTheDomainsLetThem(_ level: FailureDomain) {
    let entropy = SeededEntropy.announced()
    for _ in 0..<300 {
      let zones = (0..<Int(1 + entropy.uniform(below: 4))).map { _ in
        Int(1 + entropy.uniform(below: 9))
      }
      let candidates = Self.candidates(zones)
      let count = Int(1 + entropy.uniform(below: UInt64(candidates.count)))
      let chosen = SlaveChoice(spreading: level).choose(count, from: candidates, entropy: entropy)
      #expect(chosen.count == count)
      #expect(Set(chosen.map(\.node)).count == count)
      let locations = candidates.map(\.location)
      #expect(
        level.mostTogether(chosen.map(\.location))
          == level.largestShare(of: count, among: locations))
    }
  }

  /// By counting, not by the formula: the smallest maximum over all ways to take so many from each domain.
  @Test func theLargestShareIsTheSmallestThatIsPossible() {
    func smallest(_ count: Int, _ sizes: [Int]) -> Int {
      guard let size = sizes.first else { return count == 0 ? 0 : .max }
      return (0...min(size, count)).map {
        max($0, smallest(count - $0, Array(sizes.dropFirst())))
      }.min() ?? .max
    }
    for sizes in [[1], [3], [1, 1, 1], [5, 1], [4, 2, 2], [2, 2, 5]] {
      let locations = Self.candidates(sizes).map(\.location)
      for count in 0...sizes.reduce(0, +) {
        #expect(
          FailureDomain.zone.largestShare(of: count, among: locations) == smallest(count, sizes))
      }
    }
  }

  @Test func aNewShadowGoesWhereTheImageHasLeast() {
    let candidates = Self.candidates([2, 2, 2])
    let taken = candidates.filter { $0.node != "s-1-0" && $0.node != "s-1-1" && $0.node != "s-2-0" }
    for _ in 0..<20 {
      let chosen = SlaveChoice(spreading: .zone).choose(
        1, from: candidates.filter { !taken.contains($0) }, beside: taken.map(\.location),
        entropy: SystemEntropy())
      #expect(chosen.first?.location.zone == "z-1")
    }
  }

  @Test func roomWeighsTheChoice() {
    var candidates = Self.candidates([1, 1])
    candidates[0].availableBytes = 30 << 30
    candidates[1].availableBytes = 10 << 30
    let entropy = SeededEntropy(seed: 3)
    let first = (0..<4000).filter { _ in
      SlaveChoice(spreading: .host).choose(1, from: candidates, entropy: entropy)[0].node == "s-0-0"
    }.count
    // 3000 expected, standard deviation 27.
    #expect((2850...3150).contains(first))
    // One without room that was let in all the same is not divided by.
    candidates = candidates.map {
      var candidate = $0
      candidate.availableBytes = 0
      return candidate
    }
    #expect(SlaveChoice(spreading: .host).choose(2, from: candidates, entropy: entropy).count == 2)
  }

  @Test func racksAndHostsOfTheSameNameElsewhereAreOthers() {
    let one = SlaveLocation(host: "h", rack: "r", zone: "a")
    let other = SlaveLocation(host: "h2", rack: "r", zone: "b")
    #expect(FailureDomain.rack.mostTogether([one, other]) == 1)
    #expect(FailureDomain.zone.mostTogether([one, other, one]) == 2)
    let plain = SlaveLocation(host: "h")
    #expect(plain.rack == "h" && plain.zone == "h")
  }

  // MARK: balance

  private static func fullness(_ parts: [(UInt64, UInt64)]) -> [SlaveDirectory.Fullness] {
    parts.enumerated().map { index, part in
      SlaveDirectory.Fullness(
        candidate: SlaveCandidate(
          node: "s-\(index)", location: SlaveLocation(host: "h-\(index)"), availableBytes: part.1),
        storedBytes: part.0)
    }
  }

  @Test func balanceMovesFromTheFullestToTheEmptiestUntilAllAreAlike() {
    let balance = Balance(threshold: 0.05, spreading: .host)
    var parts: [(UInt64, UInt64)] = [(600, 400), (500, 500), (550, 450), (0, 1000)]
    var steps = 0
    while let step = balance.step(Self.fullness(parts)) {
      steps += 1
      let from = Int(step.source.dropFirst(2))!
      let to = Int(step.target.dropFirst(2))!
      let before = Double(parts[from].0)
      #expect(step.bytes > 0 && step.bytes <= parts[from].0)
      parts[from] = (parts[from].0 - step.bytes, parts[from].1 + step.bytes)
      parts[to] = (parts[to].0 + step.bytes, parts[to].1 - step.bytes)
      // The two never change places: what was fuller stays the fuller one.
      #expect(parts[from].0 + 1 >= parts[to].0 && Double(parts[from].0) < before)
      guard steps < 100 else { break }
    }
    #expect(steps > 0 && steps < 100)
    for part in parts { #expect(abs(Double(part.0) / 1000 - 0.4125) <= 0.051) }
    #expect(Balance(threshold: 0, spreading: .host).step(Self.fullness([(9, 1), (0, 10)])) == nil)
    #expect(balance.step(Self.fullness([(5, 5)])) == nil)
    #expect(balance.step(Self.fullness([(0, 0), (0, 0)])) == nil)
  }

  @Test func balanceNeverPutsTwoShadowsTogetherNorCrowdsADomain() {
    let balance = Balance(threshold: 0.1, spreading: .zone)
    let zones = ["a": "z-1", "b": "z-1", "c": "z-2", "d": "z-2"]
    func location(_ node: String) -> SlaveLocation {
      SlaveLocation(host: node, zone: zones[node])
    }
    let places = ["a", "c"].enumerated().map {
      ImageSharing.Place(index: UInt32($0 + 1), slave: $1, name: [])
    }
    #expect(!balance.mayMove(from: "a", to: "c", of: places, location: location))
    #expect(!balance.mayMove(from: "a", to: "d", of: places, location: location))
    #expect(balance.mayMove(from: "a", to: "b", of: places, location: location))
  }
}
