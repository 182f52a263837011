import Base
import Raft
import SegmentStore

/// What a node had made durable when it stopped.
public struct StoredLog: Sendable, Equatable {
  public var hardState = HardState()
  public var base = LogBase()
  public var entries: [Entry] = []

  public init(
    hardState: HardState = HardState(), base: LogBase = LogBase(), entries: [Entry] = []
  ) {
    self.hardState = hardState
    self.base = base
    self.entries = entries
  }

  var lastIndex: Index { base.position.index + UInt64(entries.count) }
}

/// A node's term, vote and log in a segment store, replayed in order at the start (`docs/formats/raft-log.md`).
///
/// What has come up while a write was under way goes into the next one: one record, one synchronization. A record is there
/// whole or not at all, and never without those before it: with several in one batch a crash could leave the later ones only.
///
/// Confined to whoever drives the node, but for the completions.
public final class Journal {
  /// A write that has come to its end.
  public struct Written: Sendable {
    /// The highest `Persist` in it; nil where there is none.
    public var number: UInt64?
    var lastIndex: Index
    var dropThrough: UInt64?
    var sequence: UInt64 = 0
  }

  private let store: SegmentStore
  private let identity: JournalRecord.Identity
  private var hardState: HardState
  /// Of each record that is durable and still there: its number in the store, and the last entry in it.
  private var records: [(sequence: UInt64, lastIndex: Index)] = []
  private var queue: [JournalRecord] = []
  private var next = Written(number: nil, lastIndex: 0, dropThrough: nil)
  public private(set) var isWriting = false

  /// All records have one key: nothing ever looks for one of them.
  private static let key: [UInt8] = Array("journal".utf8)

  public static func configuration(isStepped: Bool = false) -> SegmentStoreConfiguration {
    var configuration = SegmentStoreConfiguration()
    // A journal is short, and every record of it counts.
    configuration.verifiesAtOpen = true
    configuration.maximumSegmentSizeBytes = 16 << 20
    configuration.isStepped = isStepped
    return configuration
  }

  private init(
    store: SegmentStore, identity: JournalRecord.Identity, hardState: HardState,
    records: [(UInt64, Index)]
  ) {
    self.store = store
    self.identity = identity
    self.hardState = hardState
    self.records = records
  }

  // MARK: creating and opening

  /// Makes the journal of a new node in a folder that has none. Blocks until it is durable.
  ///
  /// - Parameter membership: empty for a node that is to take another's place: it learns who votes from the leader.
  public static func create(
    directory: String, disk: any Disk, cluster: String, node: NodeID, membership: Membership,
    configuration: SegmentStoreConfiguration = configuration()
  ) throws -> (Journal, StoredLog) {
    let (store, report) = try SegmentStore.open(
      directory: directory, disk: disk, configuration: configuration)
    guard report.valueRecords == 0, report.damages.isEmpty else {
      throw JournalDamage(
        "\(directory) is not empty: a node is never made anew over another's journal")
    }
    let stored = StoredLog(base: LogBase(membership: membership))
    var record = JournalRecord()
    record.identity = .init(cluster: cluster, node: node)
    record.hardState = stored.hardState
    record.base = .reset(stored.base)
    let location = try store.appendBlocking(
      key: key, payload: JournalRecord.encode([record]))
    let journal = Journal(
      store: store, identity: .init(cluster: cluster, node: node), hardState: stored.hardState,
      records: [(location.sequence, 0)])
    return (journal, stored)
  }

  /// Reads the journal of a node back. Blocks.
  ///
  /// Throws ``JournalDamage`` where anything but a torn last write is wrong with it, where it is another node's or
  /// cluster's, or where it was never created.
  public static func open(
    directory: String, disk: any Disk, cluster: String, node: NodeID,
    configuration: SegmentStoreConfiguration = configuration()
  ) throws -> (Journal, StoredLog) {
    let (store, report) = try SegmentStore.open(
      directory: directory, disk: disk, configuration: configuration)
    // A torn mark of what was synchronized, with the whole next record behind it, is no loss.
    let damages = report.damages.filter { $0.kind != .unprovenBatch }
    guard damages.isEmpty else {
      throw JournalDamage("\(directory): \(damages.map(\.description).joined(separator: "; "))")
    }
    var replay = JournalReplay(expecting: .init(cluster: cluster, node: node))
    var failure: JournalDamage?
    try store.forEachRecordBlocking { record in
      do throws(JournalDamage) {
        try replay.add(record.payload ?? [], sequence: record.location.sequence)
        return true
      } catch {
        failure = error
        return false
      }
    }
    if let failure { throw JournalDamage("\(directory): \(failure.description)") }
    let stored: StoredLog
    do throws(JournalDamage) { stored = try replay.finish() } catch {
      throw JournalDamage("\(directory): \(error.description)")
    }
    let journal = Journal(
      store: store, identity: replay.expected, hardState: stored.hardState, records: replay.records)
    return (journal, stored)
  }

  // MARK: writing

  /// Queues a change for the next write.
  public func write(_ persist: Persist) {
    if let new = persist.hardState { hardState = new }
    var record = JournalRecord()
    record.hardState = persist.hardState
    if let base = persist.reset {
      record.base = .reset(base)
      record.identity = identity
      record.hardState = hardState
    }
    record.first = persist.first
    record.entries = persist.entries
    queue.append(record)
    next.number = persist.number
    if persist.first > 0 {
      next.lastIndex = max(next.lastIndex, persist.first + UInt64(persist.entries.count) - 1)
    }
  }

  /// Lets go of records that hold nothing behind the base, with the next write, which carries what is needed of them.
  public func compact(to base: LogBase) {
    let count = records.prefix { $0.lastIndex <= base.position.index }.count
    guard count > 0 else { return }
    next.dropThrough = records[count - 1].sequence
    records.removeFirst(count)
    var record = JournalRecord()
    record.identity = identity
    record.hardState = hardState
    record.base = .compacted(base)
    queue.append(record)
  }

  /// Begins to write what is queued, unless a write is under way. `completion` is called on the store's writer thread; what it
  /// gets belongs to ``wrote(_:)``, after which there may be more to flush.
  public func flush(
    completion: @escaping @Sendable (Result<Written, SegmentStoreError>) -> Void
  ) {
    guard !isWriting, !queue.isEmpty else { return }
    isWriting = true
    let payload = JournalRecord.encode(queue)
    queue.removeAll(keepingCapacity: true)
    let written = next
    next = Written(number: nil, lastIndex: 0, dropThrough: nil)
    store.append(key: Self.key, payload: payload) { result in
      completion(
        result.map { location in
          var written = written
          written.sequence = location.sequence
          return written
        })
    }
  }

  /// To be told of each write that has succeeded.
  public func wrote(_ written: Written) {
    isWriting = false
    records.append((written.sequence, written.lastIndex))
    // Where that fails, the store writes no more, which the next write finds out.
    if let sequence = written.dropThrough {
      store.dropSegments(throughSequence: sequence) { _ in }
    }
  }

  /// What a node starts from, given what its state machine holds. A snapshot is put in place before the log is told of it:
  /// where the state is ahead of the log, the log is brought up to it. Blocks.
  ///
  /// - Parameter state: where the state machine stands; nil for a witness, which has none.
  public func reconcile(_ stored: StoredLog, with state: LogBase?) throws -> StoredLog {
    guard let state else { return stored }
    let (base, index) = (stored.base.position, state.position.index)
    guard index >= base.index else {
      throw JournalDamage(
        "the state has entries up to \(index), the log begins behind \(base.index): what is between them is lost"
      )
    }
    if index == base.index && state.position.term == base.term { return stored }
    if index > base.index && index <= stored.lastIndex
      && stored.entries[Int(index - base.index) - 1].term == state.position.term
    {
      return stored
    }
    var result = stored
    (result.base, result.entries) = (state, [])
    result.hardState.term = max(stored.hardState.term, state.position.term)
    if result.hardState.term != stored.hardState.term { result.hardState.vote = nil }
    hardState = result.hardState
    var record = JournalRecord()
    record.identity = identity
    record.hardState = hardState
    record.base = .reset(state)
    let location = try store.appendBlocking(
      key: Self.key, payload: JournalRecord.encode([record]))
    records.append((location.sequence, 0))
    return result
  }

  public var sizeBytes: UInt64 { store.statistics().totalSizeBytes }

  /// For simulations: does what is queued, on this thread.
  public func performWaitingWrites() { store.performWaitingWrites() }

  public func close() async { await store.close() }
}

/// Puts the records of a journal together again.
struct JournalReplay {
  let expected: JournalRecord.Identity
  private(set) var records: [(sequence: UInt64, lastIndex: Index)] = []
  private var hardState: HardState?
  private var isIdentified = false
  private var base: LogBase?
  /// Index of the first entry in hand.
  private var start: Index = 1
  private var entries: [Entry] = []

  init(expecting identity: JournalRecord.Identity) { expected = identity }

  mutating func add(_ payload: [UInt8], sequence: UInt64) throws(JournalDamage) {
    if let last = records.last, sequence != last.sequence + 1 {
      throw JournalDamage("records \(last.sequence + 1) to \(sequence - 1) are missing")
    }
    var last: Index = 0
    for record in try JournalRecord.decode(payload) {
      try add(record)
      if record.first > 0 { last = max(last, record.first + UInt64(record.entries.count) - 1) }
    }
    records.append((sequence, last))
  }

  private mutating func add(_ record: JournalRecord) throws(JournalDamage) {
    if let identity = record.identity {
      guard identity == expected else {
        throw JournalDamage(
          "it is the journal of node \(identity.node) in cluster \(identity.cluster), not of "
            + "\(expected.node) in \(expected.cluster)")
      }
      isIdentified = true
    }
    if let new = record.hardState {
      guard new.term >= hardState?.term ?? 0 else {
        throw JournalDamage("term \(new.term) behind \(hardState?.term ?? 0)")
      }
      hardState = new
    }
    switch record.base {
    case .reset(let new):
      base = new
      entries = []
      start = new.position.index + 1
    case .compacted(let new):
      base = new
      let next = new.position.index + 1
      if next > start {
        entries.removeFirst(min(Int(clamping: next - start), entries.count))
        start = next
      }
    case nil: break
    }
    if record.first > 0 { add(record.entries, first: record.first) }
  }

  private mutating func add(_ new: [Entry], first: Index) {
    let end = start + UInt64(entries.count)
    if first >= start && first <= end {
      entries.removeLast(Int(end - first))
      entries += new
    } else {
      // What stood between was let go of; a base that comes later says so, or the end finds the gap.
      (start, entries) = (first, new)
    }
  }

  func finish() throws(JournalDamage) -> StoredLog {
    guard let base, let hardState, isIdentified else {
      throw JournalDamage("there is no node: none was ever made here, or what was is lost")
    }
    guard base.position.term <= hardState.term else {
      throw JournalDamage("the log begins behind \(base.position) in term \(hardState.term)")
    }
    var term = base.position.term
    let next = base.position.index + 1
    guard entries.isEmpty || start <= next else {
      throw JournalDamage("entries \(next) to \(start - 1) are missing")
    }
    let entries = entries.isEmpty ? [] : Array(entries.dropFirst(Int(next - start)))
    for entry in entries {
      guard entry.term >= term, entry.term <= hardState.term else {
        throw JournalDamage("an entry of term \(entry.term) behind one of \(term)")
      }
      term = entry.term
    }
    return StoredLog(hardState: hardState, base: base, entries: entries)
  }
}
