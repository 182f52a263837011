import Raft
import Testing

@Suite struct EmptyTests {
  @Test func aNewNodeFollows() {
    let member = Member(id: "a", role: .data)
    let raft = Raft(
      id: "a", configuration: RaftConfiguration(), base: LogBase(membership: Membership([member])),
      applied: 0, now: 0)
    #expect(raft.role == .follower)
  }
}
