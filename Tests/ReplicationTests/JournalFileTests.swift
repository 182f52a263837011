import Base
import Raft
import SegmentStore
import Simulator
import Testing

@testable import Replication

private let membership = Membership([
  Member(id: "a", role: .data), Member(id: "b", role: .data), Member(id: "w", role: .witness),
])

private func configuration() -> SegmentStoreConfiguration {
  var configuration = Journal.configuration(isStepped: true)
  configuration.maximumSegmentSizeBytes = 4096
  configuration.makeStoreIdentifier = { [UInt8](repeating: 7, count: 16) }
  return configuration
}

private func create(_ disk: SimulatedDisk) throws -> Journal {
  try Journal.create(
    directory: "/log", disk: disk, cluster: "c", node: "a", membership: membership,
    configuration: configuration()
  ).0
}

private func open(
  _ disk: SimulatedDisk, cluster: String = "c", node: NodeID = "a"
) throws -> (Journal, StoredLog) {
  try Journal.open(
    directory: "/log", disk: disk, cluster: cluster, node: node, configuration: configuration())
}

/// An entry that names its place; a few of them fill a segment.
private func entry(_ index: Index, term: Term = 1) -> Entry {
  Entry(term: term, payload: .command([UInt8](repeating: UInt8(index), count: 600)))
}

extension Journal {
  /// Writes what is queued; false where the disk failed.
  fileprivate func write() -> Bool {
    let outcome = Locked<Result<Written, SegmentStoreError>?>(nil)
    flush { result in outcome.withLock { $0 = result } }
    performWaitingWrites()
    guard case .success(let written) = outcome.withLock({ $0 }) else { return false }
    wrote(written)
    performWaitingWrites()
    return true
  }

  fileprivate func append(_ first: Index, _ entries: [Entry], term: Term = 1) -> Bool {
    write(
      Persist(number: first, hardState: HardState(term: term), first: first, entries: entries))
    return write()
  }
}

@Suite struct JournalFileTests {
  @Test func anotherNodesJournalIsRefused() throws {
    let disk = SimulatedDisk()
    _ = try create(disk)
    #expect(throws: JournalDamage.self) { try open(disk.copy(), node: "b") }
    #expect(throws: JournalDamage.self) { try open(disk.copy(), cluster: "d") }
    #expect(try open(disk.copy()).1 == StoredLog(base: LogBase(membership: membership)))
  }

  @Test func whatWasNeverMadeIsRefused() {
    let damage = #expect(throws: JournalDamage.self) { try open(SimulatedDisk()) }
    #expect(damage?.description.contains("there is no node") == true)
  }

  @Test func nothingIsMadeOverAnother() throws {
    let disk = SimulatedDisk()
    _ = try create(disk)
    #expect(throws: JournalDamage.self) { try create(disk.copy()) }
  }

  @Test func aFlippedBitIsDamage() throws {
    let disk = SimulatedDisk()
    let journal = try create(disk)
    for index in 1...4 as ClosedRange<Index> { #expect(journal.append(index, [entry(index)])) }
    let path = disk.paths.first { $0.hasSuffix(".segment") }!
    let bytes = disk.content(path)!
    // The last write may be a torn one; what is before it may not.
    for place in stride(from: 0, to: bytes.count / 2, by: 7) {
      let copy = disk.copy()
      var flipped = bytes
      flipped[place] ^= 4
      copy.setContent(path, flipped)
      #expect(throws: JournalDamage.self, "byte \(place)") { try open(copy) }
    }
  }

  @Test func compactionLetsGoOfSegments() throws {
    let disk = SimulatedDisk()
    let journal = try create(disk)
    for index in 1...40 as ClosedRange<Index> { #expect(journal.append(index, [entry(index)])) }
    let before = disk.paths.count { $0.hasSuffix(".segment") }
    let position = Position(term: 1, index: 38)
    journal.compact(to: LogBase(position: position, membership: membership))
    #expect(journal.write())
    #expect(before > 5)
    #expect(disk.paths.count { $0.hasSuffix(".segment") } <= 3)
    let stored = try open(disk.copy()).1
    #expect(stored.base.position == position)
    #expect(stored.entries == [entry(39), entry(40)])
    #expect(stored.hardState == HardState(term: 1))
  }

  /// What a journal told, and what a machine finds whose power was cut at any change of its disk.
  @Test func powerIsLostAtEveryOperation() throws {
    let whole = SimulatedDisk()
    _ = try run(on: whole)
    var dice = SeededGenerator(seed: 11)
    for operation in 0..<whole.operations {
      for model in CrashModel.allCases {
        let disk = SimulatedDisk()
        disk.cutPower(atOperation: operation)
        var told = Told()
        do { told = try run(on: disk) } catch {}
        let found = disk.afterCrash(model, &dice)
        guard told.isCreated else { continue }
        let stored = try open(found).1
        let comment: Comment = "operation \(operation), \(model)"
        #expect(stored.hardState.term >= told.term, comment)
        #expect(stored.base.position.index <= told.base, comment)
        let last = stored.base.position.index + UInt64(stored.entries.count)
        #expect(last >= told.last, comment)
        for (offset, found) in stored.entries.enumerated() {
          let index = stored.base.position.index + UInt64(offset) + 1
          // Of what was replaced either may be there, until it was told.
          let isNew = index >= 20 && (told.last == 25 || found.term == 2)
          #expect(found == entry(index, term: isNew ? 2 : 1), comment)
        }
      }
    }
  }

  private struct Told {
    var isCreated = false
    var term: Term = 0
    var last: Index = 0
    /// Asked for, whether it was told or not.
    var base: Index = 0
  }

  /// Up to the first failure: 24 entries with compactions, then five of another leader from the 20th on.
  private func run(on disk: SimulatedDisk) throws -> Told {
    var told = Told()
    let journal = try create(disk)
    told.isCreated = true
    for index in 1...24 as ClosedRange<Index> {
      guard journal.append(index, [entry(index)]) else { return told }
      (told.term, told.last) = (1, index)
      guard index % 8 == 0 else { continue }
      told.base = index - 5
      journal.compact(
        to: LogBase(position: Position(term: 1, index: told.base), membership: membership))
      guard journal.write() else { return told }
    }
    // From here on entries up to 19 only are certain, and then all of the new ones.
    told.last = 19
    let new = (20...25 as ClosedRange<Index>).map { entry($0, term: 2) }
    if journal.append(20, new, term: 2) { (told.term, told.last) = (2, 25) }
    return told
  }

  @Test func theStateMayBeAheadOfTheLog() throws {
    let disk = SimulatedDisk()
    var journal: Journal? = try create(disk)
    for index in 1...5 as ClosedRange<Index> { #expect(journal!.append(index, [entry(index)])) }
    journal = nil
    let (opened, stored) = try open(disk)
    func state(_ term: Term, _ index: Index) -> LogBase {
      LogBase(position: Position(term: term, index: index), membership: membership)
    }
    // In the log, or no state at all: nothing changes.
    for state in [state(0, 0), state(1, 3), state(1, 5), nil] {
      #expect(try opened.reconcile(stored, with: state) == stored)
    }
    // Behind the end, or of another term there: a snapshot was put in place, and the log was not told.
    for state in [state(1, 9), state(2, 4)] {
      let disk = disk.copy()
      let (opened, stored) = try open(disk)
      let result = try opened.reconcile(stored, with: state)
      #expect(result.base == state)
      #expect(result.entries.isEmpty)
      #expect(result.hardState.term == max(1, state.position.term))
      #expect(try open(disk.copy()).1 == result)
    }
  }

  @Test func aStateBehindTheLogIsRefused() throws {
    let disk = SimulatedDisk()
    let journal = try create(disk)
    for index in 1...5 as ClosedRange<Index> { #expect(journal.append(index, [entry(index)])) }
    let position = Position(term: 1, index: 4)
    journal.compact(to: LogBase(position: position, membership: membership))
    #expect(journal.write())
    let (opened, stored) = try open(disk.copy())
    let damage = #expect(throws: JournalDamage.self) {
      try opened.reconcile(
        stored,
        with: LogBase(position: Position(term: 1, index: 3), membership: membership))
    }
    #expect(damage?.description.contains("what is between them is lost") == true)
  }
}
