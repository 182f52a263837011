/// What a term and an index stand for.
public enum Payload: Hashable, Sendable {
  /// A new leader's first entry: through it what earlier terms left commits (Raft, section 5.4.2).
  case nothing
  /// For the state machine; the consensus does not look inside.
  case command([UInt8])
  case membership(Membership)

  /// About what it takes in memory, on the wire and on disk.
  var sizeBytes: UInt64 {
    switch self {
    case .nothing: 32
    case .command(let bytes): UInt64(32 + bytes.count)
    case .membership(let membership):
      32 + membership.everyone.reduce(0) { $0 + UInt64(64 + $1.address.utf8.count) }
    }
  }
}

public struct Entry: Hashable, Sendable {
  public let term: Term
  public let payload: Payload

  public init(term: Term, payload: Payload) {
    self.term = term
    self.payload = payload
  }
}

/// What must be durable before a node says anything of its term (Raft, figure 2).
public struct HardState: Hashable, Sendable {
  public var term: Term
  /// Whom this node voted for in the term.
  public var vote: NodeID?

  public init(term: Term = 0, vote: NodeID? = nil) {
    self.term = term
    self.vote = vote
  }
}

/// Where a log begins: entries up to here are in the state, which is durable, or not needed any more.
public struct LogBase: Hashable, Sendable {
  public var position: Position
  /// As of that position.
  public var membership: Membership

  public init(position: Position = .zero, membership: Membership = Membership([])) {
    self.position = position
    self.membership = membership
  }
}
