import Base
import Messages

/// How well an image is kept, and which of its shadows have to be made anew or moved.
struct ImageJudgement: Sendable, Equatable {
  enum Fault: Sendable, Hashable {
    /// Unreadable, missing, or other bytes than were stored.
    case bad
    /// On a slave that is not counted on any more.
    case lost
    /// On a slave that an operator is emptying.
    case leaving
  }

  /// r
  let threshold: Int
  /// Shadows that can be read now, those on leaving slaves among them.
  private(set) var good = 0
  /// Indices of shadows on slaves that do not answer and may come back.
  private(set) var awayIndices: Set<UInt32> = []
  /// By the shadows' indices.
  private(set) var faults: [UInt32: Fault] = [:]

  init(
    _ places: [ImageSharing.Place], threshold: Int, standing: (String) -> SlaveStanding,
    isBad: (ImageSharing.Place) -> Bool
  ) {
    self.threshold = threshold
    for place in places {
      switch standing(place.slave) {
      case .lost: faults[place.index] = .lost
      case _ where isBad(place): faults[place.index] = .bad
      case .away: awayIndices.insert(place.index)
      case .leaving:
        good += 1
        faults[place.index] = .leaving
      case .good: good += 1
      }
    }
  }

  init(
    _ places: [ImageSharing.Place], threshold: Int, slaves: SlaveDirectory, bad: BadShadows
  ) {
    let standings = slaves.standings(of: places.map(\.slave))
    self.init(
      places, threshold: threshold, standing: { standings[$0] ?? .lost },
      isBad: { bad.contains($0.name, on: $0.slave) })
  }

  var away: Int { awayIndices.count }

  /// Further losses after which the image can still be rebuilt; negative: so many shadows are missing.
  var margin: Int { good - threshold }
  /// Whether it cannot be rebuilt now.
  var isLost: Bool { margin < 0 }
  var isWhole: Bool { faults.isEmpty && away == 0 }
  /// Whether shadows are missing, not only to be moved.
  var hasLosses: Bool { faults.values.contains { $0 != .leaving } }
}
