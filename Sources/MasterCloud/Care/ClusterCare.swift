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
    var standings: [String: SlaveStanding]
    var takers: Set<String>
    var badInsertions: UInt64
  }

  private var surveyed: Situation?
  /// Until another bad shadow is no reason for a new survey: one of many images takes its time.
  private var surveyIsFreshUntil: UInt64 = 0
  private var told: (images: Int, lost: Int)?
  private var nextSurvey: UInt64 = 0
  private var nextBalance: UInt64 = 0
  private var audits: [String: (arrivals: UInt64, at: UInt64)] = [:]
  private var listedBad: [String: (count: UInt64, at: UInt64)] = [:]

  private static let pause = Duration.seconds(1)
  private static let balanceBatch = 64

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
    while !Task.isCancelled {
      await round()
      try? await Task.sleep(for: Self.pause)
    }
  }

  /// Looks at everything once and does what there is to do.
  func round() async {
    do {
      await lookAtSlaves()
      let situation = situation
      let now = clock.monotonicNanoseconds()
      if situation != surveyed || now >= nextSurvey {
        let findings = try await survey.run()
        let surveyNanoseconds = clock.monotonicNanoseconds() - now
        surveyed = situation
        surveyIsFreshUntil =
          now + surveyNanoseconds
          + max(Self.pause.wholeNanoseconds, 20 * surveyNanoseconds)
        tell(of: findings)
        let (isDone, left) = await restore(findings.items, in: situation)
        let after = clock.monotonicNanoseconds()
        // A survey of many images is not to be repeated all the time for those that cannot be helped.
        let pause = max(configuration.retryAfter.wholeNanoseconds, 20 * surveyNanoseconds)
        // An upload that had chosen a slave before it was given up may end there afterwards.
        let mayGrow = !situation.standings.isEmpty
        nextSurvey = !isDone ? 0 : left > 0 || mayGrow ? after + pause : .max
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
      // One that is away is waited for, which is no reason to look at everything again.
      standings: standings.filter { $0.value == .lost || $0.value == .leaving },
      takers: Set(slaves.candidates(for: .care).map(\.node)), badInsertions: bad.insertions)
  }

  /// Whether the order of what is left may be another by now.
  private func isStale(_ surveyed: Situation) -> Bool {
    let now = situation
    if now.standings != surveyed.standings || now.takers != surveyed.takers { return true }
    return now.badInsertions != surveyed.badInsertions
      && clock.monotonicNanoseconds() >= surveyIsFreshUntil
  }

  private func tell(of findings: CareSurvey.Findings) {
    let shadows = findings.items.reduce(0) { $0 + $1.shadows }
    progress.begin(
      images: findings.items.count, shadows: shadows,
      bytes: findings.items.reduce(0) { $0 + $1.bytes },
      fewestLossesSurvived: findings.items.last?.margin, lostImages: findings.lostImages)
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
  private func restore(
    _ items: [CareItem], in situation: Situation
  ) async -> (isDone: Bool, left: Int) {
    guard !items.isEmpty else { return (true, 0) }
    var left = 0
    var remaining = items[...]
    let (mover, pace, progress) = (mover, pace, progress)
    await withTaskGroup(of: Bool.self) { group in
      var running = 0
      while true {
        while running < configuration.parallel, !Task.isCancelled,
          !isStale(situation), let item = remaining.popLast()
        {
          running += 1
          group.addTask(priority: .utility) {
            let outcome = await pace.work(bytes: item.bytes) { await mover.restore(item.id) }
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

  /// Asks those that know of bad shadows for them, and compares lists where a slave came back or a long time has passed.
  private func lookAtSlaves() async {
    let now = clock.monotonicNanoseconds()
    for slave in slaves.slaves.keys.sorted() where slaves.isReachable(slave) {
      do {
        try await listBad(slave, now)
        let arrivals = slaves.arrivals(of: slave)
        let last = audits[slave]
        if last == nil || last!.arrivals != arrivals
          || now - last!.at >= configuration.auditInterval.wholeNanoseconds
        {
          _ = try await audit.run(slave)
          audits[slave] = (arrivals, now)
        }
      } catch {
        logger.debug(
          "a slave was not looked at", metadata: ["slave": "\(slave)", "reason": "\(error)"])
      }
    }
  }

  private func listBad(_ slave: String, _ now: UInt64) async throws {
    let count = slaves.ownBadShadows(of: slave)
    guard count > 0 else {
      listedBad[slave] = nil
      return
    }
    if let last = listedBad[slave], last.count == count,
      now - last.at < configuration.retryAfter.wholeNanoseconds
    {
      return
    }
    let names = try await SlaveAudit.names(
      of: SlaveCloudMethods.listBadShadows, on: slave, slaves, after: [], while: { _ in true })
    for name in names where try await state.shadow(named: name, on: slave) != nil {
      if bad.insert(name, on: slave) {
        logger.warning("a slave cannot read a shadow", metadata: ["slave": "\(slave)"])
      }
    }
    listedBad[slave] = (count, now)
  }

  // MARK: balance

  private func balanceIfDue() async throws {
    let now = clock.monotonicNanoseconds()
    guard now >= nextBalance, let step = balance.step(slaves.fullness()) else { return }
    nextBalance = now + configuration.retryAfter.wholeNanoseconds
    // What moved before has to be swept first, or the slave would look as full as it was.
    guard try await state.garbage(on: step.source, limit: 1).isEmpty else { return }
    var chosen: [(id: ImageID, index: UInt32, bytes: UInt64)] = []
    var bytes: UInt64 = 0
    // From a random name on, which are as many images as chance gives.
    var after = SystemEntropy().bytes(16)
    var wrapped = false
    while chosen.count < Self.balanceBatch, bytes < step.bytes {
      let shadows = try await state.shadows(on: step.source, after: after, limit: 256)
      if shadows.isEmpty {
        if wrapped { break }
        (after, wrapped) = ([], true)
        continue
      }
      after = shadows[shadows.count - 1].name
      for shadow in shadows where chosen.count < Self.balanceBatch && bytes < step.bytes {
        guard let sharing = try await state.sharings(of: [shadow.imageID]).first,
          balance.mayMove(
            from: step.source, to: step.target, of: sharing.places,
            location: { slaves.location(of: $0) }), let id = ImageID(shadow.imageID),
          !chosen.contains(where: { $0.id == id })
        else { continue }
        // Nearly its size; what matters is that the two do not change places.
        let size = sharing.sealedBytes
        chosen.append((id, shadow.index, size))
        bytes += size
      }
    }
    guard !chosen.isEmpty else { return }
    logger.info(
      "shadows move for balance",
      metadata: [
        "from": "\(step.source)", "to": "\(step.target)", "shadows": "\(chosen.count)",
      ])
    progress.addBalancing(shadows: chosen.count, bytes: bytes)
    for item in chosen {
      var outcome = ShadowMover.Outcome()
      if !Task.isCancelled {
        outcome = await pace.work(bytes: item.bytes) { [mover] in
          await mover.move(item.id, index: item.index, to: step.target)
        }
      }
      progress.finished(
        item.id, images: 0, shadows: 1, bytes: item.bytes, waiting: 0, problem: outcome.problem,
        isBalancing: true)
    }
  }
}
