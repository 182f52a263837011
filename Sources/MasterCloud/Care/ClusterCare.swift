import Base
import Logging
import Messages
import RPC

/// Keeps every image at its full number of shadows, most endangered images first; the leader's work.
///
/// It remembers nothing: what is to be done follows from the replicated placements, the operators' decisions and how the slaves
/// are, so that whoever leads next goes on where this one stopped.
actor ClusterCare {
  private let state: ClusterState
  private let slaves: SlaveDirectory
  private let bad: BadShadows
  private let survey: CareSurvey
  private let audit: SlaveAudit
  private let mover: ShadowMover
  private let balance: Balance
  private let pace: CarePace
  private let configuration: CareConfiguration
  private let logger: Logger
  private let clock: any Clock
  nonisolated let progress: CareProgress

  /// What a survey depends on; another one makes a new survey worth while.
  private struct Situation: Equatable {
    /// Lost or leaving: the order of what is to be done is another one.
    var given: [String: SlaveStanding]
    var away: Set<String>
    var takers: Set<String>
    var badInsertions: UInt64
  }

  private var surveyed: Situation?
  /// Until smaller changes are no reason for a new survey: one of many images takes its time.
  private var surveyIsFreshUntil: UInt64 = 0
  private var nextSurvey: UInt64 = 0
  private var told: (images: Int, lost: Int)?
  private var nextBalance: UInt64 = 0
  private var audits: [String: (arrivals: UInt64, at: UInt64)] = [:]
  private var listedBad: [String: (count: UInt64, at: UInt64)] = [:]

  private static let pause = Duration.seconds(1)
  private static let balanceBatch = 64
  /// Pages of 256 shadows looked at for one batch.
  private static let balancePages = 16

  init(
    state: ClusterState, slaves: SlaveDirectory, survey: CareSurvey, audit: SlaveAudit,
    mover: ShadowMover, balance: Balance, pace: CarePace, configuration: CareConfiguration,
    clock: any Clock = SystemClock(), logger: Logger
  ) {
    self.state = state
    self.slaves = slaves
    bad = mover.bad
    self.survey = survey
    self.audit = audit
    self.mover = mover
    self.balance = balance
    self.pace = pace
    self.configuration = configuration
    self.clock = clock
    self.logger = logger
    progress = mover.progress
  }

  /// Until the task is cancelled.
  func run() async {
    // A slave that lists its shadows slowly must not hold up repairs.
    async let inspections: Void = inspectAgainAndAgain()
    while !Task.isCancelled {
      await round()
      try? await Task.sleep(for: Self.pause)
    }
    await inspections
  }

  private func inspectAgainAndAgain() async {
    while !Task.isCancelled {
      await inspect()
      try? await Task.sleep(for: Self.pause)
    }
  }

  /// Does what there is to do by what is known of the slaves.
  ///
  /// - Parameter isAsked: look at everything whether or not there is a reason.
  func round(isAsked: Bool = false) async {
    do {
      let situation = situation
      let began = clock.monotonicNanoseconds()
      if isAsked || isStale(surveyed) || began >= nextSurvey {
        let findings = try await survey.run()
        surveyed = situation
        let ended = clock.monotonicNanoseconds()
        let pause = max(configuration.retryAfter.wholeNanoseconds, 20 * (ended - began))
        surveyIsFreshUntil = ended + max(Self.pause.wholeNanoseconds, 20 * (ended - began))
        tell(of: findings)
        let (isDone, left) = await restore(findings.items)
        // What failed may go well the next time; an upload that had chosen a slave before it was given up may end there
        // afterwards; a lost image may have been deleted.
        let isSettled =
          left == 0 && findings.lostImages == 0 && situation.given.isEmpty && situation.away.isEmpty
        nextSurvey = !isDone ? 0 : isSettled ? .max : clock.monotonicNanoseconds() + pause
        if isDone { progress.endPass() }
      }
      if progress.status.pendingShadows == 0 { try await balanceIfDue() }
    } catch is CancellationError {
    } catch {
      logger.warning("care was interrupted", metadata: ["reason": "\(error)"])
      nextSurvey = 0
    }
  }

  private var situation: Situation {
    let standings = slaves.standings()
    return Situation(
      given: standings.filter { $0.value == .lost || $0.value == .leaving },
      away: Set(standings.filter { $0.value == .away }.keys),
      takers: Set(slaves.candidates(for: .care).map(\.node)), badInsertions: bad.insertions)
  }

  /// Whether what is to be done, or its order, may be another by now.
  private func isStale(_ surveyed: Situation?) -> Bool {
    guard let surveyed else { return true }
    let now = situation
    if now.given != surveyed.given { return true }
    return now != surveyed && clock.monotonicNanoseconds() >= surveyIsFreshUntil
  }

  private func tell(of findings: CareSurvey.Findings) {
    let shadows = findings.items.reduce(0) { $0 + $1.shadows }
    progress.begin(
      images: findings.items.count, shadows: shadows,
      bytes: findings.items.reduce(0) { $0 + $1.bytes },
      fewestLossesSurvived: findings.fewestLossesSurvived, lostImages: findings.lostImages)
    // What cannot be helped is looked at again and again, and told once.
    let isNew = told?.images != findings.items.count || told?.lost != findings.lostImages
    told = (findings.items.count, findings.lostImages)
    if shadows > 0, isNew {
      logger.notice(
        "shadows are to be made anew or moved",
        metadata: [
          "images": "\(findings.items.count)", "shadows": "\(shadows)",
          "lost_images": "\(findings.lostImages)",
        ])
    }
  }

  // MARK: repair and draining

  /// Whether all were tried, which ends where the situation changes so that the order may be another, and how many of them
  /// are not as they should be.
  private func restore(_ items: [CareItem]) async -> (isDone: Bool, left: Int) {
    guard !items.isEmpty else { return (true, 0) }
    var left = 0
    var remaining = items[...]
    let (mover, pace, progress) = (mover, pace, progress)
    await withTaskGroup(of: Bool.self) { group in
      var running = 0
      while true {
        while running < configuration.parallel, !Task.isCancelled,
          !isStale(surveyed), let item = remaining.popLast()
        {
          running += 1
          group.addTask(priority: .utility) {
            // One that survives no further loss does not wait for anybody.
            let outcome = await pace.work(rests: item.margin > 0 || !item.hasLosses) {
              let outcome = await mover.restore(item.id)
              return (outcome, outcome.bytes)
            }
            progress.finished(
              item.id, images: 1, shadows: item.shadows, bytes: item.bytes,
              waiting: outcome.waiting, problem: outcome.problem)
            return outcome.problem == nil
          }
        }
        guard let isWell = await group.next() else { break }
        running -= 1
        if !isWell { left += 1 }
      }
    }
    let status = progress.status
    if remaining.isEmpty, left < items.count {
      logger.notice(
        "care has been through",
        metadata: [
          "shadows": "\(status.doneShadows)", "waiting": "\(status.waitingShadows)",
          "failed": "\(status.failedAttempts)", "lost_images": "\(status.lostImages)",
        ])
    }
    return (remaining.isEmpty, left)
  }

  // MARK: looking at slaves

  /// Asks slaves that know of bad shadows for them, and compares lists where a slave came back or a long time has passed.
  func inspect() async {
    let now = clock.monotonicNanoseconds()
    await withTaskGroup(of: Void.self) { group in
      for slave in slaves.slaves.keys where slaves.isReachable(slave) {
        group.addTask { await self.inspect(slave, now) }
      }
    }
  }

  private func inspect(_ slave: String, _ now: UInt64) async {
    do {
      try await listBad(slave, now)
      let arrivals = slaves.arrivals(of: slave)
      let last = audits[slave]
      guard
        last == nil || last!.arrivals != arrivals
          || now - min(now, last!.at) >= configuration.auditInterval.wholeNanoseconds
      else { return }
      // Full of what an earlier one found: there is no room for more.
      guard !bad.isFull(for: slave) else { return }
      if try await audit.run(slave).isWhole { audits[slave] = (arrivals, now) }
    } catch is CancellationError {
    } catch {
      logger.warning(
        "a slave was not compared with the placements",
        metadata: ["slave": "\(slave)", "reason": "\(error)"])
    }
  }

  private func listBad(_ slave: String, _ now: UInt64) async throws {
    let count = slaves.ownBadShadows(of: slave)
    guard count > 0 else {
      listedBad[slave] = nil
      return
    }
    if let last = listedBad[slave], last.count == count,
      now - min(now, last.at) < configuration.retryAfter.wholeNanoseconds
    {
      return
    }
    if try await audit.takeBad(from: slave) { listedBad[slave] = (count, now) }
  }

  // MARK: balance

  private func balanceIfDue() async throws {
    let now = clock.monotonicNanoseconds()
    guard now >= nextBalance, let step = balance.step(slaves.fullness()) else { return }
    nextBalance = now + configuration.retryAfter.wholeNanoseconds
    // What moved before has to be swept first, or the slave would look as full as it was.
    guard try await state.garbage(on: step.source, limit: 1).isEmpty else { return }
    let chosen = try await choose(step)
    guard !chosen.isEmpty else {
      // Nothing of what was looked at may go there: no reason to look again at once.
      nextBalance = now + 60 * configuration.retryAfter.wholeNanoseconds
      return
    }
    logger.info(
      "shadows move for balance",
      metadata: [
        "from": "\(step.source)", "to": "\(step.target)", "shadows": "\(chosen.count)",
      ])
    progress.addBalancing(shadows: chosen.count, bytes: chosen.reduce(0) { $0 + $1.bytes })
    for item in chosen {
      var outcome = ShadowMover.Outcome()
      // Where something else is to be done by now, the rest of these is left for another time.
      if !Task.isCancelled, !isStale(surveyed) {
        outcome = await pace.work { [mover] in
          let outcome = await mover.move(item.id, index: item.index, to: step.target)
          return (outcome, outcome.bytes)
        }
      }
      progress.finished(
        item.id, images: 0, shadows: 1, bytes: item.bytes, waiting: 0, problem: outcome.problem,
        isBalancing: true)
    }
  }

  private struct Balanced {
    var id: ImageID
    var index: UInt32
    /// Of the image: nearly the shadow's; what matters is that the two slaves do not change places.
    var bytes: UInt64
  }

  /// Shadows of the source that may go to the target, from a random name on, which are as many images as chance gives.
  private func choose(_ step: Balance.Step) async throws -> [Balanced] {
    var chosen: [Balanced] = []
    var bytes: UInt64 = 0
    var seen: Set<ImageID> = []
    var after = SystemEntropy().bytes(16)
    for _ in 0..<Self.balancePages {
      let shadows = try await state.shadows(on: step.source, after: after, limit: 256)
      after = shadows.last?.name ?? []
      for sharing in try await state.sharings(of: shadows.map(\.imageID)) {
        guard chosen.count < Self.balanceBatch, bytes < step.bytes else { return chosen }
        guard let id = ImageID(sharing.imageID), seen.insert(id).inserted,
          let place = sharing.places.first(where: { $0.slave == step.source }),
          balance.mayMove(
            from: step.source, to: step.target, of: sharing.places,
            location: { slaves.location(of: $0) })
        else { continue }
        chosen.append(Balanced(id: id, index: place.index, bytes: sharing.sealedBytes))
        bytes += sharing.sealedBytes
      }
    }
    return chosen
  }
}
