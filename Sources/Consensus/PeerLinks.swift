import Base
import Glibc
import Logging
import Messages
import RPC
import Raft

/// The ways from one node to the others: a connection to each, over which its messages go in order, and states when one is
/// needed. What cannot be sent soon is dropped; the consensus sends again what matters.
public final class PeerLinks: PeerTransport {
  private struct State {
    var links: [NodeID: PeerLink] = [:]
    var isClosed = false
  }

  private let node: NodeID
  private let cluster: String
  private let dialer: Dialer
  private let logger: Logger
  private let state = Locked(State())
  private let lost: @Sendable (NodeID) -> Void
  private let known: [NodeID: Member]

  /// - Parameters:
  ///   - known: where the members are as this node's configuration has it: until the log says who they are.
  ///   - dialer: should give connections up quickly that fall silent: behind a cut that has healed, an old one may be slow.
  ///   - lost: a connection was refused or closed; whoever listened there may be gone.
  public init(
    node: NodeID, cluster: String, known: [Member], dialer: Dialer, logger: Logger,
    lost: @escaping @Sendable (NodeID) -> Void
  ) {
    self.node = node
    self.known = Dictionary(known.map { ($0.id, $0) }) { first, _ in first }
    self.cluster = cluster
    self.dialer = dialer
    self.logger = logger
    self.lost = lost
  }

  public func send(_ messages: [Message], to node: NodeID, _ member: Member?) {
    guard let member = member ?? known[node] else { return }
    link(to: member)?.send(messages)
  }

  private func link(to member: Member) -> PeerLink? {
    state.withLock { state in
      if state.isClosed { return nil }
      if let link = state.links[member.id],
        link.member.address == member.address
      {
        return link
      }
      guard let address = Address(member.address) else { return nil }
      state.links[member.id]?.close()
      let channel = dialer.channel(
        to: address,
        expecting: PeerExpectation(
          cluster: cluster, role: member.role == .witness ? .witness : .master,
          node: member.id.name))
      let link = PeerLink(from: node, to: member, channel: channel, logger: logger, lost: lost)
      state.links[member.id] = link
      return link
    }
  }

  public func sendSnapshot(
    _ path: String, base: LogBase, term: Term, to member: Member,
    done: @escaping @Sendable (Index?) -> Void
  ) {
    guard let link = link(to: member) else { return done(nil) }
    Task { [node, logger] in
      do {
        let sender = SnapshotSender(from: node, to: member.id, channel: link.channel)
        done(try await sender.send(path, base: base, term: term))
      } catch {
        logger.warning(
          "the state did not reach a node", metadata: ["to": "\(member.id)", "reason": "\(error)"])
        done(nil)
      }
    }
  }

  /// Another data node's marks of its state.
  public func stateMarks(of member: Member, timeout: Duration) async throws(RPCError) -> [StateMark]
  {
    guard let link = link(to: member) else { return [] }
    return try await link.channel.unary(
      ConsensusMethods.listStateMarks, Empty(), CallOptions(timeout: timeout)
    ).marks
  }

  public func close() {
    let links = state.withLock { state in
      state.isClosed = true
      defer { state.links = [:] }
      return state.links.values
    }
    for link in links { link.close() }
  }
}

/// One node's messages to one other.
private final class PeerLink: Sendable {
  private struct State {
    var waiting: [Message] = []
    var waitingBytes = 0
    var isRunning = false
    var isClosed = false
  }

  let member: Member
  let channel: Channel
  private let node: NodeID
  private let logger: Logger
  private let lost: @Sendable (NodeID) -> Void
  private let state = Locked(State())
  private struct OpenCall {
    var call: ClientCall<RaftMessages, Empty>
    var sinceNanoseconds: UInt64
  }
  private let openCall = Locked<OpenCall?>(nil)

  private static let maximumWaiting = 1024
  private static let maximumWaitingBytes = 16 << 20
  /// A batch has to fit one frame.
  private static let maximumBatchBytes = 700 << 10
  /// A call lasts for so long, then another one goes on: a node that is told to stop waits for those that others have open.
  private static let callNanoseconds: UInt64 = 1_000_000_000
  private static let callTimeout = Duration.seconds(600)
  private static let pauseAfterFailure = Duration.milliseconds(30)

  init(
    from node: NodeID, to member: Member, channel: Channel, logger: Logger,
    lost: @escaping @Sendable (NodeID) -> Void
  ) {
    self.node = node
    self.member = member
    self.channel = channel
    self.logger = logger
    self.lost = lost
  }

  func send(_ messages: [Message]) {
    let mustStart = state.withLock { state in
      if state.isClosed { return false }
      for message in messages {
        state.waiting.append(message)
        state.waitingBytes += Self.sizeBytes(message)
      }
      // A node that is away hears of the newest first when it is back; what was dropped is asked for.
      while state.waiting.count > Self.maximumWaiting
        || state.waitingBytes > Self.maximumWaitingBytes
      {
        state.waitingBytes -= Self.sizeBytes(state.waiting.removeFirst())
      }
      defer { state.isRunning = true }
      return !state.isRunning
    }
    if mustStart {
      Task(executorPreference: channel.executor) { await self.run() }
    }
  }

  func close() {
    state.withLock { state in
      state.isClosed = true
      state.waiting = []
    }
    channel.close()
  }

  private static func sizeBytes(_ message: Message) -> Int {
    guard case .append(let append) = message.body else { return 64 }
    return append.entries.reduce(96) { size, entry in
      if case .command(let bytes) = entry.payload { size + bytes.count + 16 } else { size + 1024 }
    }
  }

  private func takeBatch() -> [Message]? {
    state.withLock { state in
      if state.isClosed || state.waiting.isEmpty {
        state.isRunning = false
        return nil
      }
      var (count, bytes) = (0, 0)
      for message in state.waiting {
        let size = Self.sizeBytes(message)
        if count > 0 && bytes + size > Self.maximumBatchBytes { break }
        count += 1
        bytes += size
      }
      let batch = Array(state.waiting.prefix(count))
      state.waiting.removeFirst(count)
      state.waitingBytes -= bytes
      return batch
    }
  }

  /// Sends as long as there is something to send; the call stays open meanwhile and in between.
  private func run() async {
    while let batch = takeBatch() {
      do throws(RPCError) {
        let call = try await open()
        var wire = RaftMessages()
        (wire.from, wire.to) = (node.name, member.id.name)
        wire.messages = batch.map(MessageCodec.encode)
        try await call.send(wire)
      } catch {
        openCall.withLock { $0 = nil }
        if error.code == .unavailable { lost(member.id) }
        logger.debug(
          "messages to a node were lost", metadata: ["to": "\(member.id)", "reason": "\(error)"])
        try? await Task.sleep(for: Self.pauseAfterFailure)
      }
    }
  }

  private func open() async throws(RPCError) -> ClientCall<RaftMessages, Empty> {
    let now = SystemClock().monotonicNanoseconds()
    if let open = openCall.withLock({ $0 }) {
      if now - open.sinceNanoseconds < Self.callNanoseconds { return open.call }
      openCall.withLock { $0 = nil }
      end(open.call)
    }
    let call = try await channel.open(
      ConsensusMethods.exchange, CallOptions(timeout: Self.callTimeout))
    openCall.withLock { $0 = OpenCall(call: call, sinceNanoseconds: now) }
    Task { [weak self] in
      repeat {
        try? await Task.sleep(for: .nanoseconds(Self.callNanoseconds))
      } while self?.isStillOpen(since: now) ?? false
    }
    return call
  }

  /// A call with nothing to send ends here: a node that is told to stop would wait for it.
  private func isStillOpen(since begin: UInt64) -> Bool {
    let (isOpen, idle) = state.withLock { state -> (Bool, OpenCall?) in
      openCall.withLock { open in
        guard let current = open, current.sinceNanoseconds == begin else { return (false, nil) }
        if state.isRunning { return (true, nil) }
        open = nil
        return (false, current)
      }
    }
    if let idle { end(idle.call) }
    return isOpen
  }

  /// Dropped before it is answered, it would be cancelled, with what the other side has not read yet.
  private func end(_ call: ClientCall<RaftMessages, Empty>) {
    Task {
      try? await call.finishSending()
      _ = try? await call.receiveOnly()
    }
  }
}
