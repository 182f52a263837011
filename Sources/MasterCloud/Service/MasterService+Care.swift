import Base
import Messages
import RPC

/// What operators ask and decide: images that miss shadows, slaves that go, owners' quotas.
extension MasterService {
  func registerCare(on router: inout Router) {
    router.unary(MasterCloudMethods.explainImage) { try await self.explainImage($0, $1) }
    router.unary(MasterCloudMethods.listEndangered) { request, _ in
      try await self.listEndangered(request)
    }
    router.unary(MasterCloudMethods.setSlaveCondition) { request, _ in
      try await self.setSlaveCondition(request)
    }
    router.unary(MasterCloudMethods.forgetSlave) { request, _ in
      try await self.forgetSlave(request)
    }
    router.unary(MasterCloudMethods.setQuota) { request, _ in try await self.setQuota(request) }
    router.unary(MasterCloudMethods.listOwners) { _, _ in
      try await self.log.readBarrier()
      var reply = ListOwnersReply()
      reply.owners = try await self.state.owners()
      return reply
    }
  }

  // MARK: slaves

  private func setSlaveCondition(_ request: SetSlaveConditionRequest) async throws -> Empty {
    guard slaves.slaves[request.slave] != nil else {
      throw RPCError(
        .notFound, "there is no slave '\(request.slave)' in the configuration",
        reason: "NoSuchSlave")
    }
    guard request.replacement.isEmpty || slaves.slaves[request.replacement] != nil else {
      throw RPCError(
        .notFound, "there is no slave '\(request.replacement)' in the configuration",
        reason: "NoSuchSlave")
    }
    guard request.replacement != request.slave else {
      throw RPCError(.invalidArgument, "a slave does not replace itself")
    }
    var set = SetSlaveCondition()
    (set.slave, set.condition) = (request.slave, request.condition)
    set.replacement = request.replacement
    try await log.propose { [set] in $0.setSlaveCondition = set }.check()
    if request.condition == .active { bad.forgive(request.slave) }
    slaves.set(try await state.decisions())
    logger.notice(
      "an operator decided about a slave",
      metadata: ["slave": "\(request.slave)", "condition": "\(request.condition.rawValue)"])
    return Empty()
  }

  private func forgetSlave(_ request: ForgetSlaveRequest) async throws -> Empty {
    guard Identity.isName(request.slave) else {
      throw RPCError(.invalidArgument, "a slave's name is 1 to 63 of a-z, 0-9 and hyphens")
    }
    // One that answers would keep what its garbage names for ever.
    guard !slaves.isReachable(request.slave) else {
      throw RPCError(
        .failedPrecondition, "'\(request.slave)' answers", reason: "SlaveAnswers")
    }
    // One that is only away for a moment would come back with shadows that nobody can name any more.
    guard
      slaves.slaves[request.slave] == nil
        || slaves.decision(on: request.slave).condition != .active
    else {
      throw RPCError(
        .failedPrecondition, "'\(request.slave)' is active; drain it, or give it up, first",
        reason: "SlaveInUse")
    }
    var forget = ForgetSlave()
    forget.slave = request.slave
    try await log.propose { [forget] in $0.forgetSlave = forget }.check()
    slaves.set(try await state.decisions())
    return Empty()
  }

  private func setQuota(_ request: SetQuotaRequest) async throws -> Empty {
    guard Identity.isName(request.owner) else {
      throw RPCError(.invalidArgument, "an owner's name is 1 to 63 of a-z, 0-9 and hyphens")
    }
    guard request.maximumBytes <= UInt64(Int64.max) else {
      throw RPCError(.invalidArgument, "a quota of \(request.maximumBytes) bytes")
    }
    var quota = SetQuota()
    (quota.owner, quota.maximumBytes) = (request.owner, request.maximumBytes)
    try await log.propose { [quota] in $0.setQuota = quota }.check()
    return Empty()
  }

  // MARK: images

  private static let judgedAtOnce = 500
  /// Images looked at for one answer.
  private static let judgedForAnswer = 20_000

  private func listEndangered(_ request: ListEndangeredRequest) async throws -> ListEndangeredReply
  {
    try await log.readBarrier()
    let limit =
      request.limit == 0 ? Self.maximumListed : min(Int(request.limit), Self.maximumListed)
    var reply = ListEndangeredReply()
    reply.lookedThrough = request.after
    reply.more = true
    var judged = 0
    while judged < Self.judgedForAnswer {
      let ids = try await state.imageIDs(
        after: reply.lookedThrough, limit: Self.judgedAtOnce)
      if ids.isEmpty {
        reply.more = false
        break
      }
      for sharing in try await state.sharings(of: ids) {
        judged += 1
        reply.lookedThrough = sharing.imageID
        guard let image = endangered(sharing, lostOnly: request.lostOnly) else { continue }
        reply.images.append(image)
        if reply.images.count == limit { return reply }
      }
      reply.lookedThrough = ids[ids.count - 1]
    }
    return reply
  }

  /// Nil where all is well.
  private func endangered(_ sharing: ImageSharing, lostOnly: Bool) -> EndangeredImage? {
    var image = EndangeredImage()
    image.imageID = sharing.imageID
    image.owner = sharing.owner
    image.shadows = UInt32(sharing.places.count)
    do {
      let (judgement, _) = try survey.judge(sharing)
      guard !judgement.isWhole, judgement.isLost || !lostOnly else { return nil }
      image.good = UInt32(judgement.good)
      image.lossesSurvived = UInt32(max(0, judgement.margin))
      image.missing = UInt32(max(0, -judgement.margin))
    } catch {
      image.problem = error.message
    }
    return image
  }

  private func explainImage(
    _ request: ExplainImageRequest, _ context: CallContext
  ) async throws -> ExplainImageReply {
    let id = try RecordRules.imageID(request.imageID)
    try await log.readBarrier()
    guard let image = try await state.image(id.bytes) else {
      throw RPCError(.notFound, "no image \(id) is stored", reason: "NoSuchImage")
    }
    let sharing = try OpenedSharing(image, keys: keys)
    var problems: [UInt32: String] = [:]
    if request.verify {
      problems = await verify(image, sharing, within: context)
      guard context.remaining > .zero else {
        throw RPCError(.deadlineExceeded, "the deadline passed while shadows were read")
      }
    }
    let judgement = ImageJudgement(
      image.places, threshold: sharing.threshold, slaves: slaves, bad: bad)
    let moves = try await state.pendingMoves().filter { $0.imageID == id.bytes }
    var reply = ExplainImageReply()
    reply.record = image.record
    (reply.epoch, reply.scheme) = (image.epoch, image.scheme)
    for placement in image.placements.sorted(by: { $0.index < $1.index }) {
      var shadow = explain(placement, judgement)
      shadow.movingTo = moves.first { $0.index == placement.index }?.slave ?? ""
      if let problem = problems[placement.index] {
        shadow.remark = problem
        if shadow.state == .good || shadow.state == .leaving { shadow.state = .unread }
      }
      reply.shadows.append(shadow)
    }
    let margin = judgement.margin - reply.shadows.count { $0.state == .unread }
    reply.good = UInt32(judgement.good - reply.shadows.count { $0.state == .unread })
    reply.lossesSurvived = UInt32(max(0, margin))
    reply.missing = UInt32(max(0, -margin))
    let good = reply.shadows.filter { $0.state == .good || $0.state == .leaving }.map {
      slaves.location(of: $0.slave)
    }
    reply.mostOnAHost = UInt32(FailureDomain.host.mostTogether(good))
    reply.mostInARack = UInt32(FailureDomain.rack.mostTogether(good))
    reply.mostInAZone = UInt32(FailureDomain.zone.mostTogether(good))
    reply.lastProblem = care.progress.problem(of: id) ?? ""
    reply.plan = plan(judgement, isMoving: !moves.isEmpty, problem: reply.lastProblem)
    if reply.plan.isEmpty, reply.shadows.contains(where: { $0.state == .unread }) {
      reply.plan = "waiting until what could not be read now can be read, or is given up"
    }
    reply.verified = request.verify
    return reply
  }

  /// Reads every shadow; why those that could not be used could not.
  private func verify(
    _ image: StoredImage, _ sharing: OpenedSharing, within context: CallContext
  ) async -> [UInt32: String] {
    await withTaskGroup(of: (UInt32, String?).self) { group in
      for placement in image.placements {
        group.addTask { [reader] in
          switch await reader.read(placement, of: image, sharing, within: context) {
          case .shadow, .slow: (placement.index, nil)
          case .corrupt: (placement.index, "not the bytes that were stored, or none")
          case .failed(_, let error): (placement.index, error.message)
          }
        }
      }
      return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
    }
  }

  private func explain(
    _ placement: ShadowPlacement, _ judgement: ImageJudgement
  ) -> ExplainedShadow {
    let location = slaves.location(of: placement.slave)
    var shadow = ExplainedShadow()
    shadow.index = placement.index
    shadow.slave = placement.slave
    (shadow.host, shadow.rack, shadow.zone) = (location.host, location.rack, location.zone)
    shadow.state =
      switch judgement.faults[placement.index] {
      case .bad: .bad
      case .lost: .lost
      case .leaving: .leaving
      case nil: judgement.awayIndices.contains(placement.index) ? .away : .good
      }
    shadow.remark =
      switch shadow.state {
      case .away: "its slave does not answer; repair begins if it stays away"
      case .lost:
        slaves.slaves[placement.slave] == nil
          ? "its slave is not in the configuration"
          : slaves.decision(on: placement.slave).condition == .lost
            ? "its slave was declared lost" : "its slave has been silent for too long"
      case .leaving: "its slave is being drained"
      case .bad: "unreadable, missing, or other bytes than were stored"
      default: ""
      }
    return shadow
  }

  private func plan(
    _ judgement: ImageJudgement, isMoving: Bool, problem: String
  ) -> String {
    if judgement.isLost, judgement.margin + judgement.away < 0 {
      return "nothing can be done: \(-judgement.margin) good shadows are missing; keep every slave"
        + " that may still have one"
    }
    if judgement.isLost { return "waiting for slaves that do not answer" }
    if isMoving { return "being made anew right now" }
    if judgement.faults.isEmpty {
      return judgement.away > 0 ? "waiting for slaves that do not answer" : ""
    }
    if !problem.isEmpty { return "to be tried again" }
    return judgement.hasLosses ? "to be rebuilt from the others" : "to be moved"
  }
}
