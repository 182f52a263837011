import Base
import Enrollment
import Logging
import Messages
import RPC
import Shadows

/// Makes an image's shadows anew on other slaves: copied where they can be read, rebuilt from r others where not.
///
/// A move is an intent in the log, the shadow durable on its new slave, then the record that says so. Whatever dies in
/// between, the image keeps the shadow that it had, and the sweep knows the name of what was left lying.
struct ShadowMover: Sendable {
  let state: ClusterState
  let log: any ReplicatedLog
  let slaves: SlaveDirectory
  let keys: KeyRing
  let reader: ShadowReader
  let bad: BadShadows
  let active: ActiveSet<PendingMove>
  let spreading: FailureDomain
  let progress: CareProgress
  private let entropy = SystemEntropy()
  private let clock = SystemClock()

  init(
    state: ClusterState, log: any ReplicatedLog, slaves: SlaveDirectory, keys: KeyRing,
    reader: ShadowReader, bad: BadShadows, active: ActiveSet<PendingMove>,
    spreading: FailureDomain, progress: CareProgress
  ) {
    self.state = state
    self.log = log
    self.slaves = slaves
    self.keys = keys
    self.reader = reader
    self.bad = bad
    self.active = active
    self.spreading = spreading
    self.progress = progress
  }

  /// What is left to be done for an image, and why.
  struct Outcome: Sendable {
    /// Shadows that no slave could take.
    var waiting = 0
    var problem: String?
    /// Written to other slaves.
    var bytes: UInt64 = 0
  }

  static let timeout = Duration.seconds(120)

  private struct Move: Sendable {
    var placement: ShadowPlacement
    var pending: PendingMove
    var mustRebuild: Bool
  }

  /// Brings every shadow that needs it to another slave; what cannot be done now is told.
  func restore(_ id: ImageID) async -> Outcome {
    do {
      guard let image = try await state.image(id.bytes) else { return Outcome() }
      let sharing = try OpenedSharing(image, keys: keys)
      let judgement = ImageJudgement(
        image.places, threshold: sharing.threshold, slaves: slaves, bad: bad)
      let garbage = try await state.garbage(of: id.bytes, epoch: image.epoch)
      let (targets, waiting) = targets(for: judgement, of: image, besides: garbage)
      var outcome = Outcome(waiting: waiting.count)
      if let first = waiting.first {
        outcome.problem =
          "shadow \(first): no slave without a shadow of this image takes one"
      }
      guard !targets.isEmpty else { return outcome }
      let moved = await move(
        targets, of: image, sharing,
        // Where too few are good, even one that was bad the last time is worth another look.
        rebuilding: { judgement.faults[$0] != .leaving && !judgement.isLost })
      outcome.bytes = moved.bytes
      outcome.problem = moved.problem ?? outcome.problem
      return outcome
    } catch {
      return Outcome(problem: RPCError(answering: error).message)
    }
  }

  /// Copies one shadow to the slave named, for the sake of balance.
  func move(_ id: ImageID, index: UInt32, to slave: String) async -> Outcome {
    do {
      guard let image = try await state.image(id.bytes) else { return Outcome() }
      let sharing = try OpenedSharing(image, keys: keys)
      return await move([index: slave], of: image, sharing, rebuilding: { _ in false })
    } catch {
      return Outcome(problem: RPCError(answering: error).message)
    }
  }

  // MARK: choosing

  /// A slave for each faulty shadow, and the shadows for which there is none.
  private func targets(
    for judgement: ImageJudgement, of image: StoredImage, besides garbage: [ImageSharing.Place]
  ) -> (targets: [UInt32: String], waiting: [UInt32]) {
    let candidates = slaves.candidates(for: .care)
    let holders = Dictionary(
      uniqueKeysWithValues: image.placements.map { ($0.index, $0.slave) })
    var targets: [UInt32: String] = [:]
    var waiting: [UInt32] = []
    // Lost ones first: where room is short, what is only to be moved can wait.
    let order = judgement.faults.sorted {
      ($0.value == .leaving ? 1 : 0, $0.key) < ($1.value == .leaving ? 1 : 0, $1.key)
    }
    for (index, _) in order {
      let own = holders[index] ?? ""
      // Also those that another shadow is about to leave, or left and was not swept from: two would be there.
      let others =
        holders.filter { $0.key != index }.map(\.value) + targets.values
        + garbage.filter { $0.index != index }.map(\.slave)
      var free = candidates.filter { !others.contains($0.node) }
      // The slave that lost it may take it anew where no other can.
      if free.contains(where: { $0.node != own }) { free.removeAll { $0.node == own } }
      let wanted = slaves.decision(on: own).replacement
      let chosen =
        free.first { $0.node == wanted }
        ?? SlaveChoice(spreading: spreading).choose(
          1, from: free,
          beside: holders.filter { $0.key != index }.map {
            slaves.location(of: targets[$0.key] ?? $0.value)
          },
          entropy: entropy
        ).first
      if let chosen {
        targets[index] = chosen.node
      } else {
        waiting.append(index)
      }
    }
    return (targets, waiting)
  }

  // MARK: moving

  /// The shadows first, so that what cannot be had leaves nothing in the log; then the intents, before anything is written.
  private func move(
    _ targets: [UInt32: String], of image: StoredImage, _ sharing: OpenedSharing,
    rebuilding: (UInt32) -> Bool
  ) async -> Outcome {
    let moves = image.placements.sorted { $0.index < $1.index }.compactMap { placement in
      targets[placement.index].map { slave in
        Move(
          placement: placement,
          pending: PendingMove(
            imageID: image.record.imageID, epoch: image.epoch, index: placement.index,
            slave: slave, name: entropy.bytes(16)),
          mustRebuild: rebuilding(placement.index))
      }
    }
    let context = CallContext(
      method: "", caller: nil,
      deadlineNanoseconds: clock.monotonicNanoseconds() + Self.timeout.wholeNanoseconds)
    let (bodies, failure) = await bodies(of: moves, image, sharing, within: context)
    let possible = moves.filter { bodies[$0.placement.index] != nil }
    for move in possible { active.insert(move.pending) }
    defer { for move in possible { active.remove(move.pending) } }
    let written = Locked<UInt64>(0)
    let unfinished = await all(possible) { (move) async throws(RPCError) in
      guard let body = bodies[move.placement.index] else { return }
      try await begin(move)
      do throws(RPCError) {
        try await finish(move, body.bytes, rebuilt: body.isRebuilt, within: context)
        written.withLock { $0 += UInt64(body.bytes.count) }
      } catch {
        await giveUp(move)
        throw error
      }
    }
    return Outcome(
      problem: (failure ?? unfinished)?.message, bytes: written.withLock { $0 })
  }

  /// All at the same time; the first error of those that failed.
  private func all(
    _ moves: [Move], _ body: @escaping @Sendable (Move) async throws(RPCError) -> Void
  ) async -> RPCError? {
    await withTaskGroup(of: RPCError?.self) { group in
      for move in moves {
        group.addTask {
          do throws(RPCError) {
            try await body(move)
            return nil
          } catch { return error }
        }
      }
      return await group.reduce(nil) { $0 ?? $1 }
    }
  }

  private func begin(_ move: Move) async throws(RPCError) {
    var begin = BeginMove()
    begin.imageID = move.pending.imageID
    (begin.epoch, begin.index) = (move.pending.epoch, move.pending.index)
    begin.oldName = move.placement.name
    (begin.slave, begin.name) = (move.pending.slave, move.pending.name)
    try await log.propose { [begin] in $0.beginMove = begin }.check()
  }

  private struct Body: Sendable {
    var bytes: [UInt8]
    var isRebuilt: Bool
  }

  /// What can be read is copied; the rest is rebuilt from one set of r others.
  private func bodies(
    of moves: [Move], _ image: StoredImage, _ sharing: OpenedSharing, within context: CallContext
  ) async -> ([UInt32: Body], RPCError?) {
    var bodies: [UInt32: Body] = [:]
    for move in moves where !move.mustRebuild {
      if case .shadow(let shadow) = await reader.read(
        move.placement, of: image, sharing, within: context)
      {
        bodies[move.placement.index] = Body(bytes: shadow.body, isRebuilt: false)
      }
    }
    let missing = moves.map(\.placement.index).filter { bodies[$0] == nil }
    if missing.isEmpty { return (bodies, nil) }
    do {
      let shadows = try await reader.collect(
        sharing, of: image, excluding: Set(missing), within: context)
      let (scheme, threshold, digests) = (sharing.scheme, sharing.threshold, image.digests)
      let rebuilt = try await offload {
        try missing.map {
          try scheme.repair(
            lost: Int($0), shadows: shadows, threshold: threshold, expectedDigests: digests)
        }
      }
      for shadow in rebuilt {
        bodies[UInt32(shadow.index)] = Body(bytes: shadow.body, isRebuilt: true)
      }
      return (bodies, nil)
    } catch let error as ShadowError {
      return (bodies, RPCError(.dataLoss, "image \(sharing.id): \(error)"))
    } catch {
      return (bodies, RPCError(answering: error))
    }
  }

  private func finish(
    _ move: Move, _ body: [UInt8], rebuilt: Bool, within context: CallContext
  ) async throws(RPCError) {
    try await ShadowWriter(slaves: slaves).write(
      body, named: move.pending.name, to: move.pending.slave,
      CallOptions(within: context, atMost: .seconds(60)))
    var commit = CommitMove()
    commit.imageID = move.pending.imageID
    (commit.epoch, commit.index) = (move.pending.epoch, move.pending.index)
    commit.name = move.pending.name
    try await log.propose { [commit] in $0.commitMove = commit }.check()
    bad.remove(move.placement.name, on: move.placement.slave)
    progress.wrote(bytes: body.count, rebuilt: rebuilt)
  }

  /// Best effort: what fails here, the sweep finds. Of a move that has committed nothing is left to give up.
  private func giveUp(_ move: Move) async {
    var abort = AbortMove()
    abort.imageID = move.pending.imageID
    (abort.epoch, abort.index) = (move.pending.epoch, move.pending.index)
    abort.name = move.pending.name
    try? await log.propose { [abort] in $0.abortMove = abort }.check()
  }
}
