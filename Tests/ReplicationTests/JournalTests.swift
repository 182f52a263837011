import Raft
import Testing

@testable import Replication

@Suite struct JournalTests {
  @Test func recordsComeBackAsTheyWere() throws {
    let membership = Membership([
      Member(id: "a", role: .data, address: "10.0.0.1:7"), Member(id: "w", role: .witness),
    ])
    var record = JournalRecord()
    record.identity = .init(cluster: "c", node: "a")
    record.hardState = HardState(term: 7, vote: "w")
    record.base = .compacted(
      LogBase(position: Position(term: 3, index: 9), membership: membership))
    record.first = 10
    record.entries = [
      Entry(term: 5, payload: .nothing), Entry(term: 7, payload: .command([1, 2, 3])),
      Entry(
        term: 7, payload: .membership(Membership(membership.members, previous: membership.members))),
    ]
    #expect(try JournalRecord(decoding: record.encoded()) == record)
  }
}
