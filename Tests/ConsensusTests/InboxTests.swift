import Base
import Testing

@testable import Consensus

@Suite(.timeLimit(.minutes(1))) struct InboxTests {
  /// What a thread that waits for it has taken.
  private final class Taker: Sendable {
    let taken = Locked<[[Int]]>([])
    let inbox: Inbox<Int>

    init(_ inbox: Inbox<Int>, patiently: Bool) {
      self.inbox = inbox
      let failure = startDetachedThread { [taken] in
        let found = inbox.take(withinNanoseconds: 60_000_000_000, patiently: patiently)
        taken.withLock { $0.append(found) }
      }
      #expect(failure == 0)
    }

    func untilAsleep() async { while !inbox.isAwaited { await Task.yield() } }
    func end() async -> [Int] {
      while taken.withLock({ $0.isEmpty }) { await Task.yield() }
      return taken.withLock { $0[0] }
    }
  }

  @Test func whatCanWaitWakesNobodyWhoIsPatient() async {
    let inbox = Inbox<Int>()
    let taker = Taker(inbox, patiently: true)
    await taker.untilAsleep()
    #expect(inbox.put(1, canWait: true))
    #expect(inbox.put(2, canWait: true))
    #expect(inbox.isAwaited)
    #expect(inbox.put(3))
    #expect(!inbox.isAwaited)
    #expect(await taker.end() == [1, 2, 3])
  }

  @Test func itWakesWhoeverIsNot() async {
    let inbox = Inbox<Int>()
    let taker = Taker(inbox, patiently: false)
    await taker.untilAsleep()
    #expect(inbox.put(1, canWait: true))
    #expect(!inbox.isAwaited)
    #expect(await taker.end() == [1])
  }

  @Test func itIsBoundedAndEnds() {
    let inbox = Inbox<Int>()
    #expect(inbox.put(1, unlessLongerThan: 1))
    #expect(!inbox.put(2, unlessLongerThan: 1))
    #expect(inbox.put(3))
    #expect(inbox.close() == [1, 3])
    #expect(!inbox.put(4))
    #expect(inbox.close().isEmpty)
  }
}
