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

  /// Most endangered first, those that are beyond help last; of equals those that miss something; then in order of ids, so that a
  /// run can be followed.
  static func isMoreUrgent(_ one: CareItem, _ other: CareItem) -> Bool {
    func rank(_ item: CareItem) -> Int { item.margin < 0 ? .max : item.margin }
    return (rank(one), one.hasLosses ? 0 : 1, one.id)
      < (rank(other), other.hasLosses ? 0 : 1, other.id)
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
    /// Images of which nothing can be said, among the lost ones: their thresholds cannot be opened.
    var unreadableImages = 0
    /// Fewest further losses that an image survives which can be helped.
    var fewestLossesSurvived: Int? { items.last { $0.margin >= 0 }?.margin }
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
    if findings.unreadableImages > 0 {
      logger.error(
        "thresholds of images cannot be opened",
        metadata: ["images": "\(findings.unreadableImages)"])
    }
    return findings
  }

  private func judge(
    _ shadows: [PlacedShadow], _ seen: inout Set<ImageID>, _ findings: inout Findings
  ) async throws {
    let new = shadows.compactMap { ImageID($0.imageID) }.filter { seen.insert($0).inserted }
    for sharing in try await state.sharings(of: new.map(\.bytes)) {
      do {
        let (judgement, item) = try judge(sharing)
        if judgement.isLost { findings.lostImages += 1 }
        if let item { findings.items.append(item) }
      } catch {
        findings.unreadableImages += 1
        findings.lostImages += 1
      }
    }
  }

  /// Throws where the image's threshold cannot be opened.
  func judge(_ sharing: ImageSharing) throws(RPCError) -> (ImageJudgement, CareItem?) {
    guard let id = ImageID(sharing.imageID) else {
      preconditionFailure("a stored id of \(sharing.imageID.count) bytes")
    }
    let threshold = try OpenedSharing.threshold(
      sharing.encryptedThreshold, of: id, epoch: sharing.epoch, keys: keys)
    let judgement = ImageJudgement(
      sharing.places, threshold: threshold, slaves: slaves, bad: bad)
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
