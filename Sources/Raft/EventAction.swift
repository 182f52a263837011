/// What happens to a node.
public enum Event: Sendable {
  /// Time has passed. Due at least every heartbeat interval.
  case tick
  case received(Message)
  /// Want commands in the log, in this order. Each is answered by `.accepted` or `.refused`. Those that came together go to
  /// the disk and to the others together.
  case propose([Proposal])
  /// Wants to read what is current. Answered by `.readable` or `.refused`.
  case read(id: UInt64)
  /// Everything up to and including this `Persist` is on stable storage.
  case persisted(number: UInt64)
  /// The state machine is durable up to here: the log need not be kept for it.
  case checkpointed(Index)
  /// A whole snapshot has come in from the leader of `term`, and waits to be put in place.
  case snapshotArrived(from: NodeID, term: Term, base: LogBase)
  /// The snapshot that was being sent to a node has been installed there, or has failed.
  case snapshotSent(to: NodeID, installed: Index?)
  /// No connection to this node can be made: whoever listened there does not any more.
  case unreachable(NodeID)
  /// An operator wants another leader; nil for any data node.
  case transfer(to: NodeID?)
  /// An operator puts a new node into a lost one's place. Answered by `.accepted` or `.refused`.
  case replace(id: UInt64, old: NodeID, new: Member)

  public struct Proposal: Sendable, Equatable {
    public var id: UInt64
    public var command: [UInt8]

    public init(id: UInt64, command: [UInt8]) {
      self.id = id
      self.command = command
    }
  }

  public static func propose(id: UInt64, command: [UInt8]) -> Event {
    .propose([Proposal(id: id, command: command)])
  }
}

/// What its caller does, in the given order.
public enum Action: Sendable, Equatable {
  /// Best effort, without waiting.
  case send(Message)
  /// Make durable, in the order of the numbers, and report by `.persisted`. Several may be made durable at once.
  case persist(Persist)
  /// Hand to the state machine: committed, durable here, in order, once.
  case apply(first: Index, entries: [Entry])
  /// The proposal stands at this position. It is committed once an entry of this very position is applied; once
  /// another term's is applied at this index, it never will be.
  case accepted(id: UInt64, position: Position)
  case refused(id: UInt64, Refusal)
  /// A read may be answered from the state as soon as it has applied so far.
  case readable(id: UInt64, index: Index)
  /// Stream the state to a node whose next entry is no longer in the log; report by `.snapshotSent`.
  case sendSnapshot(to: NodeID, term: Term)
  /// Put the snapshot that arrived in the state's place, before anything later is persisted or applied.
  case installSnapshot(LogBase)
  /// A snapshot that arrived is of no use any more.
  case discardSnapshot
  /// Entries up to the base's position may be let go of on disk.
  case compact(LogBase)
  case leadership(Leadership)
  /// This node must not go on: what it holds contradicts what it promised. Nothing it is told has any effect from here on.
  case halt(String)
}

public struct Persist: Sendable, Equatable {
  public var number: UInt64
  /// Nil where it has not changed.
  public var hardState: HardState?
  /// The log begins anew behind this base; all older entries go.
  public var reset: LogBase?
  /// Index of the first entry. What stood at or behind it goes.
  public var first: Index
  public var entries: [Entry]

  public init(
    number: UInt64, hardState: HardState? = nil, reset: LogBase? = nil, first: Index = 0,
    entries: [Entry] = []
  ) {
    self.number = number
    self.hardState = hardState
    self.reset = reset
    self.first = first
    self.entries = entries
  }
}

/// Why a proposal or a read was not taken. None of them has had any effect.
public enum Refusal: Sendable, Equatable {
  case notLeader(Leadership)
  /// The leader is handing over.
  case transferring
  /// A leader's first entry has not committed yet: what earlier leaders committed is not known.
  case notReady
  /// Too much has been proposed and not committed.
  case overloaded
  /// The witness's log has reached its bound while a data node is away.
  case logFull
  /// Another replacement is under way, or these two nodes cannot be exchanged.
  case badReplacement
}

/// Who leads, as far as this node knows.
public struct Leadership: Sendable, Equatable {
  public var term: Term
  public var leader: NodeID?
  public var role: Role

  public enum Role: String, Sendable { case follower, preCandidate, candidate, leader }

  public init(term: Term, leader: NodeID?, role: Role) {
    self.term = term
    self.leader = leader
    self.role = role
  }
}
