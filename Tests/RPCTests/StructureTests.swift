import Base
import Logging
import Messages
import TestSupport
import Testing

@testable import RPC

/// Data structures of the hot path against plain models, with operations drawn from a printed seed.
@Suite struct StructureTests {
  @Test func theOutputQueueIsAListOfBytes() {
    let entropy = SeededEntropy.announced()
    let buffers = LoopBuffers()
    for _ in 0..<20 {
      var queue = OutputQueue(buffers: buffers)
      var model: [UInt8] = []
      for _ in 0..<400 {
        switch entropy.uniform(below: 8) {
        case 0, 1, 2:
          let bytes = entropy.bytes(1 + Int(entropy.uniform(below: 6000)))
          queue.reserve(bytes.count).copyBytes(from: bytes)
          model += bytes
        case 3:
          let bytes = entropy.bytes(Int(entropy.uniform(below: 100)))
          bytes.withUnsafeBytes { queue.append($0) }
          model += bytes
        case 4:
          let bytes = entropy.bytes(20_000)
          let first = Int(entropy.uniform(below: 9000))
          let last = first + 1 + Int(entropy.uniform(below: 9000))
          queue.append(slice: bytes, from: first, to: last)
          model += bytes[first..<last]
        case 5, 6:
          let limit = 1 + Int(entropy.uniform(below: 12_000))
          Self.take(&queue, &model, limit)
        default:
          if entropy.uniform(below: 20) == 0 {
            queue.removeAll()
            model = []
          }
        }
        guard queue.count == model.count else {
          Issue.record("\(queue.count) bytes where there are \(model.count)")
          return
        }
      }
      while !model.isEmpty { Self.take(&queue, &model, 5000) }
      var rest: [UInt8] = []
      Self.take(&queue, &rest, 1)
      #expect(queue.capacity == 0, "an empty queue holds memory")
    }
  }

  private static func take(_ queue: inout OutputQueue, _ model: inout [UInt8], _ limit: Int) {
    var taken = 0
    let total = model.count
    let isTaken = queue.takeNext(limit: limit) { bytes, more in
      taken = bytes.count
      #expect(bytes.count > 0 && bytes.count <= limit)
      #expect(bytes.elementsEqual(model.prefix(bytes.count)))
      #expect(more == (bytes.count < total))
    }
    #expect(isTaken == (total > 0))
    model.removeFirst(taken)
  }

  /// A reader that is always a little behind: what has gone must not stay in memory.
  @Test func aQueueThatIsNeverEmptyStaysSmall() {
    var queue = OutputQueue(buffers: LoopBuffers())
    _ = queue.reserve(50_000)
    for _ in 0..<20_000 {
      _ = queue.reserve(3000)
      queue.append(slice: [1, 2, 3], from: 0, to: 3)
      var left = 3003
      while left > 0 { _ = queue.takeNext(limit: left) { bytes, _ in left -= bytes.count } }
    }
    #expect(queue.count == 50_000)
    #expect(queue.capacity <= 256 << 10)
    queue.removeAll()
  }

  private static func connection() -> (SimulatedTime, Connection) {
    let time = SimulatedTime(dice: SplitMix64(seed: 1))
    let loop = EventLoop(simulation: time)
    time.ambient = loop
    return (
      time,
      Connection(
        loop: loop, side: .server, transport: ScriptedTransport(loop: loop),
        limits: ConnectionLimits(), logger: CapturedLog().logger)
    )
  }

  @Test func theStreamTableIsADictionary() {
    let entropy = SeededEntropy.announced()
    let (time, connection) = Self.connection()
    defer { time.end() }
    var table = StreamTable()
    var model: [UInt32: Stream] = [:]
    for round in 0..<20_000 {
      // Numbers that a peer may choose so that they meet in the table.
      let step: UInt32 = entropy.uniform(below: 2) == 0 ? 1 : 512
      let id = 1 + step * UInt32(entropy.uniform(below: 300))
      if entropy.uniform(below: 5) < (round < 10_000 ? 3 : 2) {
        if model[id] == nil {
          let stream = Stream(id: id, connection: connection, sendCredit: 0, windowBytes: 0)
          table.insert(stream)
          model[id] = stream
        }
      } else {
        let (removed, expected) = (table.remove(id), model.removeValue(forKey: id))
        #expect(removed === expected)
      }
      let other = 1 + UInt32(entropy.uniform(below: 1000))
      #expect(table[other] === model[other])
      #expect(table.count == model.count)
    }
    #expect(Set(table.all.map(\.id)) == Set(model.keys))
    for (id, stream) in model { #expect(table[id] === stream) }
    let rest = table.removeAll()
    #expect(rest.count == model.count)
    #expect(table.count == 0 && table.all.isEmpty && table[1] == nil)
  }

  @Test func turnsComeInOrder() {
    let entropy = SeededEntropy.announced()
    let (time, connection) = Self.connection()
    defer { time.end() }
    var queue = TurnQueue()
    var model: [UInt32] = []
    for id in 1...5000 as ClosedRange<UInt32> {
      if entropy.uniform(below: 100) < 52 {
        queue.append(Stream(id: id, connection: connection, sendCredit: 0, windowBytes: 0))
        model.append(id)
      } else {
        let (taken, expected) = (queue.takeFirst(), model.isEmpty ? nil : model.removeFirst())
        #expect(taken?.id == expected)
      }
      #expect(queue.count == model.count && queue.isEmpty == model.isEmpty)
    }
    queue.removeAll()
    let none = queue.takeFirst()
    #expect(queue.isEmpty && none == nil)
  }

  @Test func routesAreFoundByTheirWholeNameOnly() throws {
    let table = PermissionTable.cluster
    let names = table.methods.sorted()
    let routes = RouteTable(
      names.map { Route(name: $0, idempotency: .unknown, start: { _, _, _, _ in }) }, table)
    #expect(Set(routes.names) == Set(names))
    func find(_ name: String) -> RouteTable.Entry? {
      Array(name.utf8).withUnsafeBytes { routes.find($0) }
    }
    for (index, name) in names.enumerated() {
      let entry = try #require(find(name))
      #expect(entry.route.name == name && entry.index == index)
      for role in Role.allCases {
        let caller = try #require(Identity(cluster: "test", role: role, node: "n"))
        #expect(entry.allows(caller) == (table.refusal(of: name, to: caller) == nil))
      }
      #expect(entry.allows(nil) == (table.refusal(of: name, to: nil) == nil))
      for wrong in [String(name.dropLast()), name + "s", name + "\0", name.uppercased()] {
        #expect(find(wrong) == nil)
      }
    }
    #expect(find("") == nil)
  }

  @Test func collectedBytesComeOutAsTheyWentIn() {
    let entropy = SeededEntropy.announced()
    // The last is more than is allocated at first.
    for expected in [1, 4096, 300_000, 9_000_000] {
      let bytes = SeededEntropy(seed: entropy.next()).bytes(expected)
      let collector = BulkCollector(expected: expected)
      while collector.remaining > 0 {
        let room = min(collector.remaining, 1 + Int(entropy.uniform(below: 1_500_000)))
        let filled = collector.filled
        // A read may put less than there is room for, and nothing at all.
        let count = min(room, Int(entropy.uniform(below: 1_500_000)))
        let put = collector.withRoom(room) { target in
          #expect(target.count == room)
          target.copyBytes(from: bytes[filled..<filled + count])
          return count
        }
        #expect(put == count && collector.filled == filled + count)
      }
      #expect(collector.take() == bytes)
    }
  }

  @Test func onlyALoopWithShortGapsLooksAgain() {
    var policy = WaitPolicy(busyPollNanoseconds: 50_000)
    #expect(policy.spinsUntil(100) == 100)
    // An idle loop that becomes busy notices within a few dozen waits, and the other way round.
    for _ in 0..<40 { policy.gapEnded(after: 10_000) }
    #expect(policy.spinsUntil(100) == 50_100)
    for _ in 0..<3 { policy.gapEnded(after: 3_600_000_000_000) }
    #expect(policy.spinsUntil(100) == 100)
    for _ in 0..<40 { policy.gapEnded(after: 10_000) }
    #expect(policy.spinsUntil(100) == 50_100)
    var never = WaitPolicy(busyPollNanoseconds: 0)
    for _ in 0..<40 { never.gapEnded(after: 1) }
    #expect(never.spinsUntil(100) == 100)
  }

  @Test func pingsAreAllowedAsThePageSays() {
    var watch = ConnectionWatch()
    var now: UInt64 = 5_000_000_000
    func allowed() -> Bool { watch.allowsPing(at: now) }
    for _ in 0..<32 { #expect(allowed()) }
    #expect(!allowed())
    now += 499_999_999
    #expect(!allowed())
    now += 1
    #expect(allowed())
    #expect(!allowed())
    // However long the silence, the burst is bounded.
    now += 1_000_000_000_000
    for _ in 0..<32 { #expect(allowed()) }
    #expect(!allowed())
    // Three in 1.52 seconds earn three in 1.5: no remainder may be lost.
    now += 100_000_000_000
    for round in 0..<3000 {
      now += round % 3 == 2 ? 540_000_000 : 490_000_000
      #expect(allowed(), "ping \(round)")
    }
  }

  @Test func anActionMayCancelTheNextOne() {
    var queue = TimerQueue()
    let fired = Locked<[Int]>([])
    _ = queue.insert(deadline: 1) { fired.withLock { $0.append(1) } }
    let second = queue.insert(deadline: 2) { fired.withLock { $0.append(2) } }
    _ = queue.insert(deadline: 3) { fired.withLock { $0.append(3) } }
    let round = queue.round(at: 5)
    queue.takeNext(of: round)?()
    queue.cancel(second)
    while let action = queue.takeNext(of: round) { action() }
    #expect(fired.withLock { $0 } == [1, 3])
  }

  @Test func logLinesAreCountedNotWritten() {
    let clock = ManualClock()
    let limiter = LogLimiter(clock: clock)
    for _ in 0..<LogLimiter.linesAtOnce {
      #expect(limiter.take("closed") == .granted(leftOut: 0))
    }
    for number in 0..<1000 {
      #expect(limiter.take("closed") == .leftOut(isFirst: number == 0))
    }
    #expect(limiter.take("another kind") == .granted(leftOut: 0))
    clock.advance(seconds: 1)
    #expect(limiter.take("closed") == .granted(leftOut: 1000))
    #expect(limiter.take("closed") == .granted(leftOut: 0))
    #expect(limiter.take("closed") == .leftOut(isFirst: true))
  }
}
