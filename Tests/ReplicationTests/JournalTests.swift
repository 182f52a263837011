import Base
import Raft
import Testing

@testable import Replication

/// A record with all that one may have, and others with one thing each.
private let membership = Membership([
  Member(id: "a", role: .data, address: "10.0.0.1:7"), Member(id: "w", role: .witness),
])
private let identity = JournalRecord.Identity(cluster: "c", node: "a")
private let base = LogBase(position: Position(term: 3, index: 9), membership: membership)

private func record(_ change: (inout JournalRecord) -> Void) -> JournalRecord {
  var record = JournalRecord()
  change(&record)
  return record
}

private let records: [JournalRecord] = [
  JournalRecord(),
  record { $0.identity = identity },
  record { $0.hardState = HardState(term: 7, vote: "w") },
  record { $0.hardState = HardState(term: 8) },
  record { $0.base = .reset(base) },
  record { $0.base = .compacted(base) },
  record { $0.first = 4 },
  record {
    $0.identity = identity
    $0.hardState = HardState(term: 7, vote: "w")
    $0.base = .compacted(base)
    $0.first = 10
    $0.entries = [
      Entry(term: 5, payload: .nothing), Entry(term: 7, payload: .command([1, 2, 3])),
      Entry(
        term: 7,
        payload: .membership(Membership(membership.members, previous: membership.members))),
    ]
  },
]

/// Those that stand in docs/formats/raft-log.md.
private let goldenFirst = """
  00000033 01 07
  0163 0161
  0000000000000000 00
  0000000000000000 0000000000000000
  02 01 0161 0a31302e302e302e313a37 02 0177 00 00
  """
private let goldenSecond = """
  00000035 01 12
  0000000000000007 0177
  000000000000000a 00000002
  0000000000000007 00 00000000
  0000000000000007 01 00000003 010203
  """

private func bytes(_ golden: String) -> [UInt8] {
  let digits = golden.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
  return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

@Suite struct JournalRecordTests {
  @Test(arguments: records) func comesBackAsItWas(_ record: JournalRecord) throws {
    #expect(try JournalRecord(decoding: record.encoded()) == record)
    #expect(try JournalRecord.decode(JournalRecord.encode([record, record])) == [record, record])
  }

  @Test func goldenBytes() throws {
    let first = record {
      $0.identity = identity
      $0.hardState = HardState()
      $0.base = .reset(LogBase(membership: membership))
    }
    let second = record {
      $0.hardState = HardState(term: 7, vote: "w")
      $0.first = 10
      $0.entries = [
        Entry(term: 7, payload: .nothing), Entry(term: 7, payload: .command([1, 2, 3])),
      ]
    }
    #expect(JournalRecord.encode([first]).hex == bytes(goldenFirst).hex)
    #expect(JournalRecord.encode([second]).hex == bytes(goldenSecond).hex)
    #expect(try JournalRecord.decode(bytes(goldenFirst) + bytes(goldenSecond)) == [first, second])
  }

  private func expectDamage(_ bytes: [UInt8], _ text: String) {
    let damage = #expect(throws: JournalDamage.self) { try JournalRecord(decoding: bytes) }
    #expect(damage?.description.contains(text) == true, "\(damage?.description ?? "nothing")")
  }

  @Test func whatNoVersionOfOursWrote() {
    var encoded = records.last!.encoded()
    encoded[0] = 2
    expectDamage(encoded, "version 2")
    encoded[0] = 1
    encoded[1] |= 32
    expectDamage(encoded, "unknown parts")
    expectDamage([1, 12], "unknown parts")
    expectDamage(records.last!.encoded() + [0], "behind its end")
    let index: [UInt8] = [0x40, 0, 0, 0, 0, 0, 0, 0]
    expectDamage([1, 16] + index + [0, 0, 0, 0], "index 4611686018427387904")
    expectDamage([1, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "0 entries from 0")
    expectDamage([1, 16, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255], "4294967295 entries")
    expectDamage([1, 1, 255, 0], "255 bytes announced")
    expectDamage([1, 1, 1, 0xff, 0], "not UTF-8")
    let entry: [UInt8] = [1, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    expectDamage(entry + [3, 0, 0, 0, 0], "an entry of kind 3")
    expectDamage(entry + [0, 0, 0, 0, 1, 9], "an entry of kind 0 with 1 bytes")
    expectDamage(entry + [1, 255, 255, 255, 255], "4294967295 bytes announced")
    expectDamage(entry + [2, 0, 0, 0, 3, 0, 0, 0], "a membership with bytes behind it")
    expectDamage(entry + [2, 0, 0, 0, 2, 1, 3], "unknown role")
    expectDamage(
      entry + [2, 0, 0, 0, 10, 2, 1, 1, 97, 0, 1, 1, 97, 0, 0], "a stands twice")
  }

  @Test(arguments: records) func cutAtAnyByte(_ record: JournalRecord) {
    let encoded = record.encoded()
    for count in 0..<encoded.count {
      #expect(throws: JournalDamage.self, "\(count) of \(encoded.count) bytes") {
        try JournalRecord(decoding: Array(encoded.prefix(count)))
      }
    }
    let whole = JournalRecord.encode([record])
    for count in 1..<whole.count {
      #expect(throws: JournalDamage.self) {
        try JournalRecord.decode(Array(whole.prefix(count)))
      }
    }
  }

  /// Whatever stands in a record, it is read or refused, and so is a journal that consists of such records.
  @Test func anyBytesAreReadOrRefused() {
    let seed = UInt64.random(in: 0...UInt64.max)
    var dice = SplitMix64(seed: seed)
    var read = 0
    for _ in 0..<20_000 {
      var replay = JournalReplay(expecting: identity)
      do throws(JournalDamage) {
        for sequence in 1...UInt64.random(in: 1...4, using: &dice) {
          var encoded = JournalRecord.encode([
            records.randomElement(using: &dice)!, records.randomElement(using: &dice)!,
          ])
          for _ in 0..<Int.random(in: 0...3, using: &dice) { mutate(&encoded, &dice) }
          try replay.add(encoded, sequence: sequence)
        }
        let stored = try replay.finish()
        read += 1
        // What comes out can be started from.
        _ = Raft(
          id: "a", configuration: RaftConfiguration(), hardState: stored.hardState,
          base: stored.base, entries: stored.entries, applied: stored.base.position.index, now: 0)
      } catch {}
    }
    #expect(read > 100, "seed \(seed)")
    print("seed of the mutations: \(seed)")
  }

  private func mutate(_ bytes: inout [UInt8], _ dice: inout SplitMix64) {
    guard !bytes.isEmpty else { return }
    let place = Int.random(in: 0..<bytes.count, using: &dice)
    switch Int.random(in: 0..<5, using: &dice) {
    case 0: bytes[place] ^= 1 << UInt8.random(in: 0...7, using: &dice)
    case 1: bytes[place] = [0, 1, 127, 128, 255].randomElement(using: &dice)!
    case 2: bytes.remove(at: place)
    case 3: bytes.insert(UInt8.random(in: 0...255, using: &dice), at: place)
    default: bytes.removeLast(bytes.count - place)
    }
  }
}

@Suite struct JournalReplayTests {
  private func replay(_ records: [JournalRecord]) throws -> StoredLog {
    var replay = JournalReplay(expecting: identity)
    for (number, record) in records.enumerated() {
      try replay.add(JournalRecord.encode([record]), sequence: UInt64(number) + 1)
    }
    return try replay.finish()
  }

  private let beginning = record {
    $0.identity = identity
    $0.hardState = HardState(term: 9)
    $0.base = .reset(LogBase(membership: membership))
  }

  private func entries(_ terms: [Term], from first: Index) -> JournalRecord {
    record {
      $0.first = first
      $0.entries = terms.map { Entry(term: $0, payload: .nothing) }
    }
  }

  @Test func laterEntriesTakeThePlaceOfEarlierOnes() throws {
    let stored = try replay([beginning, entries([1, 1, 1], from: 1), entries([2], from: 2)])
    #expect(stored.entries.map(\.term) == [1, 2])
    let cut = try replay([beginning, entries([1, 1, 1], from: 1), entries([], from: 2)])
    #expect(cut.entries.map(\.term) == [1])
  }

  @Test func compactionLeavesWhatIsBehindIt() throws {
    let compacted = record {
      $0.base = .compacted(
        LogBase(position: Position(term: 1, index: 2), membership: membership))
    }
    let stored = try replay([beginning, entries([1, 1, 2], from: 1), compacted])
    #expect(stored.base.position == Position(term: 1, index: 2))
    #expect(stored.entries.map(\.term) == [2])
  }

  @Test func whatContradictsItself() {
    let falling = record { $0.hardState = HardState(term: 8) }
    for (records, text) in [
      ([], "there is no node"), ([entries([1], from: 1)], "there is no node"),
      ([beginning, falling], "term 8 behind 9"),
      ([beginning, entries([1], from: 3)], "entries 1 to 2 are missing"),
      ([beginning, entries([2, 1], from: 1)], "an entry of term 1 behind one of 2"),
      ([beginning, entries([10], from: 1)], "an entry of term 10 behind one of 0"),
      ([record { $0.identity = .init(cluster: "c", node: "b") }], "node b in cluster c, not of a"),
      ([record { $0.identity = .init(cluster: "d", node: "a") }], "node a in cluster d, not of a"),
    ] as [([JournalRecord], String)] {
      let damage = #expect(throws: JournalDamage.self) { try replay(records) }
      #expect(damage?.description.contains(text) == true, "\(damage?.description ?? "nothing")")
    }
  }

  @Test func missingRecords() throws {
    var replay = JournalReplay(expecting: identity)
    try replay.add(JournalRecord.encode([beginning]), sequence: 5)
    let damage = #expect(throws: JournalDamage.self) {
      try replay.add(JournalRecord.encode([JournalRecord()]), sequence: 8)
    }
    #expect(damage?.description == "records 6 to 7 are missing")
  }
}
