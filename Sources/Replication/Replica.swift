import Raft

/// A node of the consensus with those who wait for it: who proposed what, who wants to read. As `Raft`, it does nothing itself;
/// the driver and the simulator perform its effects.
public struct Replica: Sendable {
  public private(set) var raft: Raft
  /// Proposals that stand in the log, by their index.
  private var proposals: [Index: (id: UInt64, term: Term)] = [:]
  /// Reads that may be answered once the state has applied so far.
  private var reads: [(id: UInt64, index: Index)] = []
  /// The state machine has got so far; `raft.applied` was handed to it.
  public private(set) var applied: Index

  public enum Effect: Sendable {
    case send(Message)
    case persist(Persist)
    /// Apply, in order, and report by ``applied(through:)``.
    case apply(first: Index, entries: [Entry], proposals: [Proposal])
    /// A proposal that does not get an answer from the state machine.
    case failed(id: UInt64, Failure)
    /// The state may be read for this read now.
    case readable(id: UInt64)
    case sendSnapshot(to: NodeID, term: Term)
    /// Put the snapshot in the state's place, durably, then report by ``applied(through:)``.
    case installSnapshot(LogBase)
    case discardSnapshot
    case compact(LogBase)
    case leadership(Leadership)
    case halt(String)
  }

  /// Who waits for an entry of a batch.
  public struct Proposal: Sendable, Equatable {
    public var id: UInt64
    /// Of its entry in the batch.
    public var offset: Int

    public init(id: UInt64, offset: Int) {
      self.id = id
      self.offset = offset
    }
  }

  public enum Failure: Sendable, Equatable {
    /// It has had no effect and never will.
    case refused(Refusal)
    /// Another leader's entry stands in its place: it never will have an effect.
    case superseded
    /// This node does not lead any more: it may have an effect or not.
    case unknown
  }

  public init(_ raft: Raft) {
    self.raft = raft
    applied = raft.applied
  }

  /// Hands an event to the consensus.
  public mutating func step(_ event: Event, at now: Tick) -> [Effect] {
    var effects: [Effect] = []
    for action in raft.step(event, at: now) { perform(action, &effects) }
    return effects
  }

  /// The state machine has applied what it was given up to here.
  public mutating func applied(through index: Index) -> [Effect] {
    applied = max(applied, index)
    return releaseReads()
  }

  private mutating func releaseReads() -> [Effect] {
    let ready = reads.filter { $0.index <= applied }
    guard !ready.isEmpty else { return [] }
    reads.removeAll { $0.index <= applied }
    return ready.map { .readable(id: $0.id) }
  }

  private mutating func perform(_ action: Action, _ effects: inout [Effect]) {
    switch action {
    case .send(let message): effects.append(.send(message))
    case .persist(let persist): effects.append(.persist(persist))
    case .apply(let first, let entries): effects.append(apply(first, entries, &effects))
    case .accepted(let id, let position): proposals[position.index] = (id, position.term)
    case .refused(let id, let refusal): effects.append(.failed(id: id, .refused(refusal)))
    case .readable(let id, let index):
      reads.append((id, index))
      effects += releaseReads()
    case .sendSnapshot(let node, let term): effects.append(.sendSnapshot(to: node, term: term))
    case .installSnapshot(let base): effects.append(.installSnapshot(base))
    case .discardSnapshot: effects.append(.discardSnapshot)
    case .compact(let base): effects.append(.compact(base))
    case .leadership(let leadership):
      if leadership.role != .leader { failAll(&effects) }
      effects.append(.leadership(leadership))
    case .halt(let reason):
      failAll(&effects)
      effects.append(.halt(reason))
    }
  }

  private mutating func apply(
    _ first: Index, _ entries: [Entry], _ effects: inout [Effect]
  ) -> Effect {
    var waiting: [Proposal] = []
    if !proposals.isEmpty {
      for (offset, entry) in entries.enumerated() {
        guard let proposal = proposals.removeValue(forKey: first + UInt64(offset)) else { continue }
        if proposal.term == entry.term {
          waiting.append(Proposal(id: proposal.id, offset: offset))
        } else {
          effects.append(.failed(id: proposal.id, .superseded))
        }
      }
    }
    return .apply(first: first, entries: entries, proposals: waiting)
  }

  private mutating func failAll(_ effects: inout [Effect]) {
    for (_, proposal) in proposals.sorted(by: { $0.key < $1.key }) {
      effects.append(.failed(id: proposal.id, .unknown))
    }
    proposals = [:]
    // Their index was confirmed while this node led: they stay good.
  }
}
