import Base
import Enrollment
import Logging
import RPC
import Shadows

/// An image with shadows to be made anew or moved.
struct CareItem: Sendable, Equatable {
  let id: ImageID
  /// Losses that it survives; negative: it cannot be rebuilt now.
  let margin: Int
  let hasLosses: Bool
  let shadows: Int
  /// Of those shadows together.
  let bytes: UInt64

  /// Most endangered first; of equals those that miss something; then in order of ids, so that a run can be followed.
  static func isMoreUrgent(_ one: CareItem, _ other: CareItem) -> Bool {
    (one.margin, one.hasLosses ? 0 : 1, one.id) < (other.margin, other.hasLosses ? 0 : 1, other.id)
  }
}

/// Finds the images that care has something to do for.
struct CareSurvey: Sendable {
  let state: ClusterState
  let slaves: SlaveDirectory
  let bad: BadShadows
  let keys: KeyRing
  let logger: Logger

  struct Findings: Sendable {
    /// Most endangered last, so that the next is popped.
    var items: [CareItem] = []
    var lostImages = 0
  }

  private static let page = 500

  /// What is to be done now, by what is known of the slaves.
  func run() async throws -> Findings {
    var seen: Set<ImageID> = []
    var findings = Findings()
    for (slave, standing) in slaves.standings(of: try await state.holders())
    where standing != .good {
      var after: [UInt8] = []
      while true {
        let shadows = try await state.shadows(on: slave, after: after, limit: Self.page)
        try await judge(shadows, &seen, &findings)
        guard let last = shadows.last else { break }
        after = last.name
        try Task.checkCancellation()
      }
    }
    for (slave, names) in bad.all {
      var shadows: [PlacedShadow] = []
      for name in names {
        if let shadow = try await state.shadow(named: name, on: slave) {
          shadows.append(shadow)
        } else {
          bad.remove(name, on: slave)
        }
      }
      try await judge(shadows, &seen, &findings)
    }
    findings.items.sort { CareItem.isMoreUrgent($1, $0) }
    return findings
  }

  private func judge(
    _ shadows: [PlacedShadow], _ seen: inout Set<ImageID>, _ findings: inout Findings
  ) async throws {
    let new = shadows.compactMap { ImageID($0.imageID) }.filter { seen.insert($0).inserted }
    for sharing in try await state.sharings(of: new.map(\.bytes)) {
      guard let (judgement, item) = judge(sharing) else { continue }
      if judgement.isLost { findings.lostImages += 1 }
      if let item { findings.items.append(item) }
    }
  }

  /// Nil where the image's threshold cannot be read, which the log then says.
  func judge(_ sharing: ImageSharing) -> (ImageJudgement, CareItem?)? {
    guard let id = ImageID(sharing.imageID) else { return nil }
    let threshold: Int
    do {
      threshold = try OpenedSharing.threshold(
        sharing.encryptedThreshold, of: id, epoch: sharing.epoch, keys: keys)
    } catch {
      logger.error("an image cannot be judged", metadata: ["reason": "\(error)"])
      return nil
    }
    let standings = slaves.standings(of: sharing.places.map(\.slave))
    let judgement = ImageJudgement(
      sharing.places, threshold: threshold, standing: { standings[$0] ?? .lost },
      isBad: { bad.contains($0.name, on: $0.slave) })
    guard !judgement.faults.isEmpty else { return (judgement, nil) }
    let body =
      (try? ShadowSchemes.named(sharing.scheme)?.bodyByteCount(
        secretByteCount: Int(clamping: sharing.sealedBytes), threshold: threshold)) ?? 0
    let item = CareItem(
      id: id, margin: judgement.margin, hasLosses: judgement.hasLosses,
      shadows: judgement.faults.count, bytes: UInt64(judgement.faults.count * body))
    return (judgement, item)
  }
}
