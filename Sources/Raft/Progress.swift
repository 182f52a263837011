/// What a leader knows of another node.
struct Progress: Sendable {
  enum State: Sendable, Equatable {
    /// Where the logs agree is being found out: one message at a time.
    case probe
    /// They agree: messages follow each other without waiting.
    case replicate
    /// Its next entry is not in the log any more; a snapshot is on its way.
    case snapshot
  }

  var state = State.probe
  /// Durable there.
  var match: Index = 0
  /// The next entry to send.
  var next: Index
  /// Probing, and the answer is still to come.
  var isPaused = false
  /// Index of the last entry of each message that is on its way, oldest first.
  var inFlight: [Index] = []
  /// When it last answered anything.
  var lastHeard: Tick
  /// The highest heartbeat it answered.
  var round: UInt64 = 0
  /// What it called that answer.
  var stamp: UInt64 = 0
  /// What a witness has not been sent goes now, until it has been sent all.
  var isDue = true
  /// A witness whose log has reached its bound, and takes nothing for long any more.
  var isFull = false

  mutating func probe(from next: Index) {
    state = .probe
    self.next = max(next, match + 1)
    isPaused = false
    inFlight = []
  }

  mutating func matched(_ index: Index) {
    match = max(match, index)
    next = max(next, match + 1)
    let done = inFlight.prefix { $0 <= index }.count
    inFlight.removeFirst(done)
    if state == .probe {
      state = .replicate
      isPaused = false
    }
  }
}

/// What a node knows and does only while it leads.
struct LeaderState: Sendable {
  struct WaitingRead: Sendable {
    var id: UInt64
    /// The heartbeat that a quorum has to answer.
    var round: UInt64
    var index: Index
  }

  struct Transfer: Sendable {
    var target: NodeID
    var deadline: Tick
    /// Since the last heartbeat: what it is told may be lost.
    var isTold = false
  }

  var progress: [NodeID: Progress] = [:]
  /// This leader's first entry.
  var firstIndex: Index
  var nextHeartbeat: Tick
  /// The last heartbeat sent, and when each was that a quorum has not answered yet.
  var round: UInt64 = 0
  var sentAt: [(round: UInt64, tick: Tick)] = []
  /// Where the log ended at the last heartbeat, and at the one before.
  var lastIndexAtHeartbeats: (last: Index, earlier: Index) = (0, 0)
  /// The highest heartbeat that a quorum answered, and when it was sent.
  var quorumRound: UInt64 = 0
  var leaseStart: Tick?
  /// Someone was told to stand for election: from then on others may vote while they still hear this leader.
  var hasForfeitedLease = false
  var reads: [WaitingRead] = []
  var transfer: Transfer?
}

/// What is on its way to the disk, and what waits for it.
struct Durability: Sendable {
  private var nextNumber: UInt64 = 1
  /// The last index that each leaves durable.
  private var outstanding: [(number: UInt64, lastIndex: Index)] = []
  private var waiting: [(number: UInt64, message: Message)] = []
  /// The last that contains the term or the vote.
  private(set) var hardStateNumber: UInt64 = 0
  private(set) var doneNumber: UInt64 = 0
  /// Entries up to here are durable and are those of the log in memory.
  private(set) var index: Index

  init(index: Index) { self.index = index }

  var lastNumber: UInt64 { nextNumber - 1 }

  /// - Parameters:
  ///   - first: the first index that is written anew; nil where no entry is.
  ///   - lastIndex: where the log ends then.
  mutating func begin(first: Index?, lastIndex: Index, hasHardState: Bool) -> UInt64 {
    if let first {
      // What stood there goes, whether it was durable or on its way.
      index = min(index, first - 1)
      for position in outstanding.indices {
        outstanding[position].lastIndex = min(outstanding[position].lastIndex, first - 1)
      }
    }
    let number = nextNumber
    nextNumber += 1
    outstanding.append((number, first == nil ? 0 : lastIndex))
    if hasHardState { hardStateNumber = number }
    return number
  }

  /// Returns messages that waited for this.
  mutating func done(_ number: UInt64) -> [Message] {
    precondition(number < nextNumber, "persist \(number) was never begun")
    guard number > doneNumber else { return [] }
    doneNumber = number
    let count = outstanding.prefix { $0.number <= number }.count
    for item in outstanding.prefix(count) { index = max(index, item.lastIndex) }
    outstanding.removeFirst(count)
    let released = waiting.prefix { $0.number <= number }.map(\.message)
    waiting.removeFirst(released.count)
    return released
  }

  mutating func hold(_ message: Message, until number: UInt64) {
    precondition(number >= waiting.last?.number ?? 0, "messages wait in the order of the writes")
    waiting.append((number, message))
  }
}
