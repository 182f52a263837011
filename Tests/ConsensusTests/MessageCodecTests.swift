import Messages
import Raft
import Testing

@testable import Consensus

@Suite struct MessageCodecTests {
  private static let membership = Membership([
    Member(id: "a", role: .data, address: "h:1"), Member(id: "w", role: .witness),
  ])
  private static let bodies: [Message.Body] = [
    .requestVote(.init(last: Position(term: 3, index: 9), isPreVote: true)),
    .requestVote(
      .init(last: Position(term: 3, index: 9), isPreVote: false, isTransfer: true)),
    .vote(.init(isPreVote: true, isGranted: false)),
    .vote(.init(isPreVote: false, isGranted: true)),
    .append(
      .init(
        previous: Position(term: 2, index: 7),
        entries: [
          Entry(term: 2, payload: .nothing), Entry(term: 3, payload: .command([1, 2])),
          Entry(term: 3, payload: .membership(membership)),
        ], commit: 6)),
    .appended(.matched(8)),
    .appended(.mismatched(previous: 8, hint: Position(term: 1, index: 5))),
    .heartbeat(.init(commit: 1, matched: 2, round: 3, answered: 4, retained: 5)),
    .heartbeatAnswer(.init(round: 6, isFull: true, stamp: 7)),
    .installBase(LogBase(position: Position(term: 4, index: 44), membership: membership)),
    .timeoutNow,
  ]

  @Test func messagesComeBackAsTheyWere() throws {
    for body in Self.bodies {
      let message = Message(from: "a", to: "w", term: 11, body: body)
      let wire = try RaftMessage(decoding: MessageCodec.encode(message).encoded())
      #expect(MessageCodec.decode(wire, from: "a", to: "w") == message)
    }
  }

  @Test func whatNoNodeSendsIsNoMessage() {
    #expect(MessageCodec.decode(RaftMessage(), from: "a", to: "w") == nil)
    var append = RaftAppend()
    append.entries = [1, 2, 3]
    var wire = RaftMessage()
    wire.append = append
    #expect(MessageCodec.decode(wire, from: "a", to: "w") == nil)
    var base = RaftBase()
    base.membership = [255]
    wire = RaftMessage()
    wire.installBase = base
    #expect(MessageCodec.decode(wire, from: "a", to: "w") == nil)
  }
}
