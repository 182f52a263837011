import Base
import Messages
import RPC
import Raft

/// What a node of the consensus answers the others.
public struct ConsensusService<Machine: ReplicatedStateMachine>: Sendable {
  private let driver: ReplicaDriver<Machine>
  private let directory: String
  private let maximumSnapshotBytes: UInt64
  private let marks: @Sendable () async throws -> [StateMark]
  private let alarm: @Sendable () -> String
  private let isReceiving = Locked(false)

  /// - Parameters:
  ///   - directory: for states that come in; must exist.
  ///   - marks: of this node's state; none for a witness.
  public init(
    driver: ReplicaDriver<Machine>, directory: String, maximumSnapshotBytes: UInt64 = 256 << 30,
    marks: @escaping @Sendable () async throws -> [StateMark] = { [] },
    alarm: @escaping @Sendable () -> String = { "" }
  ) {
    self.alarm = alarm
    self.driver = driver
    self.directory = directory
    self.maximumSnapshotBytes = maximumSnapshotBytes
    self.marks = marks
  }

  public func register(on router: inout Router) {
    router.streaming(ConsensusMethods.exchange) { try await exchange($0) }
    router.streaming(ConsensusMethods.installSnapshot) { try await install($0) }
    router.unary(ConsensusMethods.listStateMarks) { _, _ in
      var reply = StateMarks()
      reply.marks = try await marks()
      return reply
    }
    router.unary(ConsensusMethods.consensusStatus) { _, _ in await status() }
    router.unary(ConsensusMethods.transferLeadership) { request, context in
      try await transfer(request, context)
    }
    router.unary(ConsensusMethods.replaceMember) { request, _ in try await replace(request) }
  }

  // MARK: operators

  private func status() async -> ConsensusStatusReply {
    let status = await driver.status()
    var reply = ConsensusStatusReply()
    reply.node = status.node.name
    reply.witness = status.isWitness
    (reply.term, reply.role) = (status.leadership.term, status.leadership.role.rawValue)
    reply.leader = status.leadership.leader?.name ?? ""
    (reply.lastIndex, reply.commitIndex) = (status.last.index, status.commit)
    (reply.appliedIndex, reply.logBytes) = (status.applied, status.logSizeBytes)
    reply.halted = status.haltReason ?? ""
    let full =
      "the witness's log has reached its bound: bring the master that is away back, or replace it"
    reply.alarm = ([alarm()] + (status.isWitnessFull ? [full] : []))
      .filter { !$0.isEmpty }.joined(separator: "; ")
    let peers = Dictionary(uniqueKeysWithValues: status.peers.map { ($0.member.id, $0) })
    for member in status.membership.everyone {
      var health = MemberHealth()
      (health.node, health.address) = (member.id.name, member.address)
      health.witness = member.role == .witness
      health.leader = member.id == status.leadership.leader
      health.match = member.id == status.node ? status.last.index : peers[member.id]?.match ?? 0
      health.millisecondsSinceHeard = peers[member.id]?.millisecondsSinceHeard ?? 0
      health.leaving = !status.membership.members.contains(member)
      reply.members.append(health)
    }
    return reply
  }

  private func transfer(
    _ request: TransferLeadershipRequest, _ context: CallContext
  ) async throws -> ConsensusStatusReply {
    let status = await driver.status()
    guard status.leadership.role == .leader else { throw notLeader(status) }
    let data = status.membership.members.filter { $0.role == .data && $0.id != driver.node }
    guard request.to.isEmpty ? !data.isEmpty : data.contains(where: { $0.id.name == request.to })
    else {
      throw RPCError(
        .notFound,
        request.to.isEmpty
          ? "there is no other master" : "'\(request.to)' is no other master",
        reason: "NoSuchMaster")
    }
    driver.transfer(to: request.to.isEmpty ? nil : NodeID(request.to))
    let deadline = min(context.remaining, .seconds(5))
    let began = SystemClock().monotonicNanoseconds()
    while SystemClock().monotonicNanoseconds() - began < deadline.wholeNanoseconds {
      let now = await self.status()
      if !now.leader.isEmpty, now.leader != driver.node.name { return now }
      try await Task.sleep(for: .milliseconds(5))
    }
    throw RPCError(.deadlineExceeded, "nobody has taken over")
  }

  private func replace(_ request: ReplaceMemberRequest) async throws -> Empty {
    guard Identity.isName(request.newNode), Address(request.address) != nil else {
      throw RPCError(
        .invalidArgument, "a node's name is 1 to 63 of a-z, 0-9 and hyphens, its address host:port")
    }
    let status = await driver.status()
    guard status.leadership.role == .leader else { throw notLeader(status) }
    let new = NodeID(request.newNode)
    let isDone =
      status.membership.previous == nil && status.membership.member(NodeID(request.oldNode)) == nil
      && status.membership.member(new)?.address == request.address
    // Asked again.
    if isDone { return Empty() }
    guard let old = status.membership.members.first(where: { $0.id.name == request.oldNode }) else {
      throw RPCError(
        .notFound, "'\(request.oldNode)' is neither a master nor the witness",
        reason: "NoSuchMember")
    }
    guard old.id != driver.node else {
      throw RPCError(
        .failedPrecondition, "'\(request.oldNode)' leads; hand over first", reason: "Leads")
    }
    do throws(ConsensusFailure) {
      try await driver.replace(
        old.id, by: Member(id: new, role: old.role, address: request.address))
    } catch { throw error.rpcError }
    return Empty()
  }

  private func notLeader(_ status: ConsensusStatus) -> RPCError {
    let leader = status.leadership.leader.flatMap { status.membership.member($0) }
    return ConsensusFailure.notLeader(leader: leader, term: status.leadership.term).rpcError
  }

  // MARK: the others

  private func exchange(_ call: ServerCall<RaftMessages, Empty>) async throws {
    while let part = try await call.receive() {
      guard case .message(let batch) = part else {
        throw RPCError(.invalidArgument, "bytes where messages were due")
      }
      let from = try check(batch.from, batch.to, call.context)
      driver.receive(
        try batch.messages.map { wire throws(RPCError) in
          guard let message = MessageCodec.decode(wire, from: from, to: driver.node) else {
            throw RPCError(.invalidArgument, "a message that no node sends")
          }
          return message
        })
    }
    try await call.send(Empty())
  }

  /// Nobody speaks for another, and nobody hears what another was to hear.
  private func check(
    _ from: String, _ to: String, _ context: CallContext
  ) throws(RPCError) -> NodeID {
    guard from == context.identity.node else {
      throw RPCError(
        .permissionDenied, "\(context.identity.node) sends messages of \(from)", reason: "NotYou")
    }
    guard to == driver.node.name else {
      throw RPCError(
        .failedPrecondition, "this is \(driver.node), not \(to)", reason: "WrongNode")
    }
    return NodeID(from)
  }

  private func install(
    _ call: ServerCall<RaftSnapshotHeader, RaftSnapshotReply>
  ) async throws {
    let header = try await call.receiveMessage()
    let from = try check(header.from, header.to, call.context)
    guard let base = header.logBase.flatMap(MessageCodec.decode) else {
      throw RPCError(.invalidArgument, "a state without its place in the log")
    }
    let isFree = isReceiving.withLock { isReceiving in
      defer { isReceiving = true }
      return !isReceiving
    }
    guard isFree else {
      throw RPCError(.resourceExhausted, "a state is coming in already", reason: "Overloaded")
    }
    defer { isReceiving.withLock { $0 = false } }
    let path = "\(directory)/snapshot.incoming"
    try await SnapshotReceiver(path: path).receive(
      call, header, maximumBytes: maximumSnapshotBytes)
    let index = await driver.snapshotArrived(
      from: from, term: header.term, base: base, path: path)
    var reply = RaftSnapshotReply()
    (reply.installed, reply.index) = (index != nil, index ?? 0)
    try await call.send(reply)
  }
}

extension ConsensusFailure {
  /// What a client is told.
  public var rpcError: RPCError {
    switch self {
    case .notLeader(let leader, let term):
      // A witness serves nobody, and hands over in a moment.
      let hint = leader.flatMap { $0.role == .data ? $0 : nil }
      return .notLeader(node: hint?.id.name ?? "", address: hint?.address ?? "", term: term)
    case .refused(.logFull):
      return RPCError(
        .unavailable,
        "a master is away and the witness's log has reached its bound: nothing is stored until the master is back "
          + "or replaced", reason: "LogFull"
      ).asRefusal
    case .refused(.overloaded):
      return RPCError(.resourceExhausted, "too many changes are waiting", reason: "Overloaded")
        .asRefusal
    case .refused(.badReplacement):
      return RPCError(
        .failedPrecondition, "another replacement is under way, or these nodes cannot be exchanged",
        reason: "BadReplacement")
    case .refused(.notLeader(let leadership)):
      return .notLeader(term: leadership.term)
    case .refused(.transferring), .refused(.notReady):
      return RPCError(.unavailable, "leadership is changing", reason: "LeadershipChanges")
        .retry(.after(milliseconds: 20)).asRefusal
    case .superseded:
      return RPCError(
        .unavailable, "another leader came first; nothing was done", reason: "Superseded"
      )
      .asRefusal
    case .unknown:
      return RPCError(
        .unavailable, "leadership was lost meanwhile; whether it was done is not known",
        reason: "OutcomeUnknown")
    case .tooStale:
      return RPCError(.unavailable, "the state here is older than allowed", reason: "TooStale")
        .asRefusal
    case .halted(let reason):
      return RPCError(
        .unavailable, "this node takes no part any more: \(reason)", reason: "LogFailed"
      ).asRefusal
    }
  }
}
