import Base
import TestSupport
import Testing

@testable import RPC

@Suite struct FrameTests {
  private static func decode(
    _ bytes: [UInt8], cuts: [Int], maximum: Int = 1 << 20
  ) throws(ProtocolViolation) -> [Frame] {
    let sink = CollectedFrames()
    var decoder = FrameDecoder(maximumPayloadBytes: maximum)
    var start = 0
    for end in cuts + [bytes.count] where end > start {
      let piece = Array(bytes[start..<end])
      let result = piece.withUnsafeBytes { buffer in
        Result { () throws(ProtocolViolation) in try decoder.push(buffer, sink) }
      }
      try result.get()
      start = end
    }
    return sink.frames
  }

  /// docs/formats/wire.md shows these bytes.
  @Test func theHeaderHasTheDocumentedLayout() throws {
    let bytes: [UInt8] = [0, 0, 0, 3, 3, 1, 0, 0, 0, 0, 0, 9, 0xaa, 0xbb, 0xcc]
    let frames = try Self.decode(bytes, cuts: [])
    let header = FrameHeader(payloadBytes: 3, type: .bulk, flags: 1, stream: 9)
    #expect(frames == [Frame(header: header, payload: [0xaa, 0xbb, 0xcc])])
    #expect(header.ends)
    #expect(header.bytes == Array(bytes.prefix(12)))
  }

  @Test func anyCuttingGivesTheSameFrames() throws {
    let entropy = SeededEntropy.announced()
    for _ in 0..<200 {
      var bytes: [UInt8] = []
      var expected: [Frame] = []
      for stream in 1...Int(1 + entropy.uniform(below: 8)) {
        let payload = entropy.bytes(Int(entropy.uniform(below: 300)))
        let type = FrameType(rawValue: UInt8(entropy.uniform(below: 10)))!
        let header = FrameHeader(
          payloadBytes: payload.count, type: type, flags: UInt8(entropy.uniform(below: 2)),
          stream: UInt32(stream))
        bytes += header.bytes + payload
        expected.append(Frame(header: header, payload: payload))
      }
      let cuts = (0..<entropy.uniform(below: 20)).map { _ in
        Int(entropy.uniform(below: UInt64(bytes.count)))
      }.sorted()
      #expect(try Self.decode(bytes, cuts: cuts) == expected)
    }
  }

  @Test func noBytesCrashTheDecoder() {
    let entropy = SeededEntropy.announced()
    for _ in 0..<5000 {
      var bytes = entropy.bytes(Int(entropy.uniform(below: 64)))
      // Often right enough to get past the first check.
      if bytes.count > 8, entropy.uniform(below: 2) == 0 {
        (bytes[0], bytes[1], bytes[2]) = (0, 0, 0)
        bytes[4] %= 10
        bytes[5] &= 1
        (bytes[6], bytes[7]) = (0, 0)
      }
      _ = try? Self.decode(bytes, cuts: [], maximum: 1000)
    }
  }

  @Test func sizesAreCheckedBeforeThePayloadComes() {
    #expect(throws: ProtocolViolation("a frame of 1001 bytes, at most 1000")) {
      try Self.decode(frame(2, length: 1001), cuts: [], maximum: 1000)
    }
  }

  @Test(arguments: [
    ("sfmedir://hospital/scs/scs-1", true), ("sfmedir://hospital/scs/scs-1/x", false),
    ("sfmedir://hospital/root/scs-1", false), ("sfmedir:///scs/scs-1", false),
    ("https://hospital/scs/scs-1", false), ("sfmedir://Hospital/scs/scs-1", false),
    ("sfmedir://hospital/scs/-a", false), ("sfmedir://hospital/scs/a\u{0}b", false),
  ])
  func identitiesAreStrict(_ uri: String, _ isValid: Bool) {
    #expect((Identity(uri: uri)?.uri == uri) == isValid)
  }

  @Test(arguments: [
    ("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:443", "[::1]:443"), ("host:0", "host:0"),
    ("::1:443", nil), ("host", nil), ("host:70000", nil), (":80", nil),
  ])
  func addressesAreStrict(_ text: String, _ printed: String?) {
    #expect(Address(text)?.description == printed)
  }

  @Test func timersComeInOrderAndCancelledOnesDoNot() {
    let entropy = SeededEntropy.announced()
    var queue = TimerQueue()
    let fired = Locked<[UInt64]>([])
    var expected: [UInt64] = []
    for _ in 0..<500 {
      let deadline = entropy.uniform(below: 1000)
      let timer = queue.insert(deadline: deadline) { fired.withLock { $0.append(deadline) } }
      if entropy.uniform(below: 3) == 0 {
        queue.cancel(timer)
      } else if deadline <= 600 {
        expected.append(deadline)
      }
    }
    let round = queue.round(at: 600)
    while let action = queue.takeNext(of: round) { action() }
    #expect(fired.withLock { $0 } == expected.sorted())
    #expect((queue.earliest ?? 601) > 600)
  }

  @Test func aTimerMayCancelTheNextAndOneThatSetsItselfWaitsForItsTurn() {
    var queue = TimerQueue()
    let fired = Locked<[Int]>([])
    let second = queue.insert(deadline: 2) { fired.withLock { $0.append(2) } }
    _ = queue.insert(deadline: 1) { fired.withLock { $0.append(1) } }
    let round = queue.round(at: 5)
    queue.takeNext(of: round)?()
    queue.cancel(second)
    _ = queue.insert(deadline: 3) { fired.withLock { $0.append(3) } }
    #expect(queue.takeNext(of: round).map { _ in true } == nil)
    #expect(fired.withLock { $0 } == [1])
    let next = queue.round(at: 5)
    queue.takeNext(of: next)?()
    #expect(fired.withLock { $0 } == [1, 3])
  }
}
