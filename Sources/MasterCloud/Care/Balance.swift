import Base
import Messages

/// Which shadows move so that slaves are used alike.
struct Balance: Sendable {
  let threshold: Double
  let spreading: FailureDomain

  struct Step: Sendable, Equatable {
    var source: String
    var target: String
    /// So many bytes bring the two no further than to the mean.
    var bytes: UInt64
  }

  /// From the fullest to the emptiest, where one of them is too far from the mean; nil where all are alike.
  func step(_ slaves: [SlaveDirectory.Fullness]) -> Step? {
    guard threshold > 0, slaves.count > 1 else { return nil }
    let ordered = slaves.sorted {
      ($0.fraction, $0.candidate.node) < ($1.fraction, $1.candidate.node)
    }
    guard let emptiest = ordered.first, let fullest = ordered.last else { return nil }
    let stored = slaves.reduce(0) { $0 + Double($1.storedBytes) }
    let room = slaves.reduce(0) {
      $0 + Double($1.storedBytes) + Double($1.candidate.availableBytes)
    }
    guard room > 0 else { return nil }
    let mean = stored / room
    guard fullest.fraction - mean > threshold || mean - emptiest.fraction > threshold else {
      return nil
    }
    func distance(_ slave: SlaveDirectory.Fullness) -> Double {
      abs(slave.fraction - mean)
        * (Double(slave.storedBytes) + Double(slave.candidate.availableBytes))
    }
    return Step(
      source: fullest.candidate.node, target: emptiest.candidate.node,
      bytes: UInt64(min(distance(fullest), distance(emptiest))))
  }

  /// Whether the shadow may go there: no other of its image is there, and no domain gets more of it than one has now.
  func mayMove(
    from source: String, to target: String, of places: [ImageSharing.Place],
    location: (String) -> SlaveLocation
  ) -> Bool {
    guard !places.contains(where: { $0.slave == target }) else { return false }
    let before = places.map { location($0.slave) }
    let after = places.map { location($0.slave == source ? target : $0.slave) }
    return spreading.mostTogether(after) <= spreading.mostTogether(before)
  }
}
