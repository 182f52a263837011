import Base

/// Where a slave stands: what fails together with it.
public struct SlaveLocation: Sendable, Hashable {
  public var host: String
  public var rack: String
  public var zone: String

  /// What is not named is a domain of its own: the rack that of the host, the zone that of the rack.
  public init(host: String, rack: String? = nil, zone: String? = nil) {
    self.host = host
    self.rack = rack ?? host
    self.zone = zone ?? self.rack
  }

  func domain(_ level: FailureDomain) -> String {
    switch level {
    case .host: zone + "/" + rack + "/" + host
    // Racks of the same name in two zones are two racks, hosts of the same name in two racks are two hosts.
    case .rack: zone + "/" + rack
    case .zone: zone
    }
  }
}

/// What may fail as a whole.
public enum FailureDomain: String, Sendable, CaseIterable {
  case host, rack, zone

  /// In which order shadows are spread: over the domains whose loss has to be survived first.
  var spreadingOrder: [FailureDomain] {
    switch self {
    case .host: [.host, .zone, .rack]
    case .rack: [.rack, .zone, .host]
    case .zone: [.zone, .rack, .host]
    }
  }

  /// The most of `count` shadows that one domain gets where they are spread as evenly as the domains' sizes let them.
  func largestShare(of count: Int, among locations: [SlaveLocation]) -> Int {
    let sizes = Dictionary(grouping: locations) { $0.domain(self) }.values.map(\.count)
    var share = 0
    while share < count, sizes.reduce(0, { $0 + min($1, share) }) < count { share += 1 }
    return share
  }

  /// The most of these locations that are in one domain.
  func mostTogether(_ locations: [SlaveLocation]) -> Int {
    Dictionary(grouping: locations) { $0.domain(self) }.values.map(\.count).max() ?? 0
  }
}

/// A slave that may get a shadow.
struct SlaveCandidate: Sendable, Hashable {
  var node: String
  var location: SlaveLocation
  /// Bytes that may still be written there; what the choice is weighed by.
  var availableBytes: UInt64
}

/// Chooses slaves for the shadows of one image.
struct SlaveChoice {
  var spreading: FailureDomain

  /// So many of the candidates, one after the other: each time one from the domains that have least of this image; among those at
  /// random, weighed by room.
  ///
  /// - Parameter taken: where other shadows of the image are.
  /// - Returns: fewer where there are not so many candidates.
  func choose(
    _ count: Int, from candidates: [SlaveCandidate], beside taken: [SlaveLocation] = [],
    entropy: some Entropy
  ) -> [SlaveCandidate] {
    let order = spreading.spreadingOrder
    var counts = order.map { level in
      Dictionary(grouping: taken) { $0.domain(level) }.mapValues(\.count)
    }
    func crowding(_ candidate: SlaveCandidate) -> [Int] {
      zip(order, counts).map { $1[candidate.location.domain($0)] ?? 0 }
    }
    var remaining = candidates.sorted { $0.node < $1.node }
    var chosen: [SlaveCandidate] = []
    while chosen.count < count {
      let crowdings = remaining.map(crowding)
      guard let least = crowdings.min(by: { $0.lexicographicallyPrecedes($1) }) else { break }
      let places = remaining.indices.filter { crowdings[$0] == least }
      let next = remaining.remove(at: places[weighedPlace(places.map { remaining[$0] }, entropy)])
      chosen.append(next)
      for (place, level) in order.enumerated() {
        counts[place][next.location.domain(level), default: 0] += 1
      }
    }
    return chosen
  }

  private func weighedPlace(_ candidates: [SlaveCandidate], _ entropy: some Entropy) -> Int {
    // Whole mebibytes, and one at least, so that sums cannot overflow and nobody is left out.
    let room = candidates.map { max(1, $0.availableBytes >> 20) }
    // One that claims to have no end of room does not get everything.
    let most = 4 * min(room.sorted()[room.count / 2], UInt64(1) << 40)
    let weights = room.map { min($0, most) }
    var point = entropy.uniform(below: weights.reduce(0, +))
    for (place, weight) in weights.enumerated() {
      if point < weight { return place }
      point -= weight
    }
    preconditionFailure("a point beyond the sum of all weights")
  }
}
