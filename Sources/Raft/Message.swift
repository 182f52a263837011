/// What nodes tell each other. A message may be lost, doubled, late and out of order.
public struct Message: Hashable, Sendable {
  public var from: NodeID
  public var to: NodeID
  /// The sender's; of a pre-vote, the one it would begin.
  public var term: Term
  public var body: Body

  public init(from: NodeID, to: NodeID, term: Term, body: Body) {
    self.from = from
    self.to = to
    self.term = term
    self.body = body
  }

  public enum Body: Hashable, Sendable {
    case requestVote(RequestVote)
    case vote(Vote)
    case append(Append)
    case appended(Appended)
    case heartbeat(Heartbeat)
    case heartbeatAnswer(HeartbeatAnswer)
    /// The witness's share of a snapshot: it needs to know where the log begins, and nothing else.
    case installBase(LogBase)
    /// "Stand for election at once": the leader hands over (dissertation, section 3.10).
    case timeoutNow
  }

  public struct RequestVote: Hashable, Sendable {
    public var last: Position
    /// Asks whether a real election could be won; changes nothing (dissertation, section 9.6).
    public var isPreVote: Bool
    /// The leader itself asked for this election: voters need not wait for it to fall silent.
    public var isTransfer: Bool

    public init(last: Position, isPreVote: Bool, isTransfer: Bool = false) {
      self.last = last
      self.isPreVote = isPreVote
      self.isTransfer = isTransfer
    }
  }

  public struct Vote: Hashable, Sendable {
    public var isPreVote: Bool
    public var isGranted: Bool

    public init(isPreVote: Bool, isGranted: Bool) {
      self.isPreVote = isPreVote
      self.isGranted = isGranted
    }
  }

  public struct Append: Hashable, Sendable {
    /// What stands before the entries.
    public var previous: Position
    public var entries: [Entry]
    public var commit: Index

    public init(previous: Position, entries: [Entry], commit: Index) {
      self.previous = previous
      self.entries = entries
      self.commit = commit
    }
  }

  public enum Appended: Hashable, Sendable {
    /// The sender's log is the leader's up to here, and durable.
    case matched(Index)
    /// There is no such entry as `previous`. The leader should look at or before `hint`, whose index is the last
    /// where the sender's log may agree.
    case mismatched(previous: Index, hint: Position)
  }

  public struct Heartbeat: Hashable, Sendable {
    public var commit: Index
    /// What the receiver has acknowledged to this leader. A receiver that has less has lost its disk.
    public var matched: Index
    /// Counts heartbeats of the term; the answer repeats it.
    public var round: UInt64
    /// The stamp of the receiver's last answer: what the leader says now is from after that. 0 where the leader cannot
    /// tell what had been committed then.
    public var answered: UInt64
    /// All others have the log up to here: the receiver need not keep it for them.
    public var retained: Index

    public init(
      commit: Index, matched: Index, round: UInt64, answered: UInt64, retained: Index
    ) {
      self.commit = commit
      self.matched = matched
      self.round = round
      self.answered = answered
      self.retained = retained
    }
  }

  public struct HeartbeatAnswer: Hashable, Sendable {
    public var round: UInt64
    /// The witness's log has reached its bound: it takes what was proposed already, and asks for no more.
    public var isFull: Bool
    /// What the answering process calls this answer; never twice the same.
    public var stamp: UInt64

    public init(round: UInt64, isFull: Bool = false, stamp: UInt64) {
      self.round = round
      self.isFull = isFull
      self.stamp = stamp
    }
  }
}
