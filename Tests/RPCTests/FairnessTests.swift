import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Takes what a connection writes, as fast as the test likes.
private final class MeteredTransport: Transport {
  let sink = CollectedFrames()
  private var decoder = FrameDecoder(maximumPayloadBytes: 1 << 20)
  private(set) var takenBytes = 0

  override func start() {
    owner?.transportIsReady(Identity(cluster: "test", role: .slave, node: "scs-1"))
  }

  func receive(_ bytes: [UInt8]) { bytes.withUnsafeBytes { owner?.transportReceived($0) } }

  /// Lets so many bytes leave, then asks for more.
  func take(_ limit: Int) throws {
    var failure: ProtocolViolation?
    _ = output.takeNext(limit: limit) { bytes, _ in
      takenBytes += bytes.count
      do throws(ProtocolViolation) { try decoder.push(bytes, sink) } catch { failure = error }
    }
    if let failure { throw failure }
    owner?.transportHasRoom()
  }
}

/// Runs on the loop's own thread, so that nothing else moves meanwhile.
private func onLoop<Result: Sendable>(
  _ body: @escaping @Sendable (EventLoop) throws -> Result
) async throws -> Result {
  let group = EventLoopGroup(count: 1)
  let loop = group.nextLoop()
  return try await withCheckedThrowingContinuation { done in
    loop.execute { done.resume(with: Swift.Result { try body(loop) }) }
  }
}

private func connection(_ loop: EventLoop) -> (Connection, MeteredTransport) {
  let transport = MeteredTransport(loop: loop)
  let connection = Connection(
    loop: loop, side: .client, transport: transport, limits: ConnectionLimits(),
    logger: CapturedLog().logger)
  connection.start()
  var hello = Hello()
  hello.protocolVersion = 1
  hello.maximumFrameBytes = 1 << 20
  hello.streamWindowBytes = 1 << 28
  hello.connectionWindowBytes = 1 << 28
  hello.maximumStreams = 16
  transport.receive(frame(FrameType.hello.rawValue, hello.encoded()))
  return (connection, transport)
}

@Suite(.timeLimit(.minutes(1))) struct FairnessTests {
  private static let deadline = SystemClock().monotonicNanoseconds() + 3_600_000_000_000

  /// A small call behind a large transfer waits for what is in the transport and for one piece, no more.
  @Test func aLargeTransferDoesNotStarveSmallCalls() async throws {
    let behind = try await onLoop { loop in
      let (connection, transport) = connection(loop)
      let large = try #require(connection.open("large", [], deadlineNanoseconds: Self.deadline))
      large.enqueue(.bulk, [UInt8](repeating: 1, count: 64 << 20), ends: true)
      for _ in 0..<100 { try transport.take(64 << 10) }
      let before = transport.takenBytes
      let small = try #require(connection.open("small", [], deadlineNanoseconds: Self.deadline))
      let refusal = connection.send(EchoMessage(), on: small, ends: true)
      #expect(refusal == nil)
      while !transport.sink.frames.contains(where: {
        $0.header.stream == small.id && $0.header.ends
      }) {
        try #require(transport.takenBytes < 64 << 20)
        try transport.take(16 << 10)
      }
      let waited = transport.takenBytes - before
      connection.close(RPCError(.cancelled, "the test is over"))
      return waited
    }
    let limits = ConnectionLimits()
    // The mark may be passed by one piece; another piece may come first in turn.
    #expect(behind <= limits.outputHighWaterBytes + 2 * limits.bulkPieceBytes + (64 << 10))
  }

  /// Two transfers get the same share, whoever came first.
  @Test func transfersTakeTurns() async throws {
    let counts = try await onLoop { loop in
      let (connection, transport) = connection(loop)
      for _ in 0..<2 {
        let stream = try #require(connection.open("large", [], deadlineNanoseconds: Self.deadline))
        stream.enqueue(.bulk, [UInt8](repeating: 1, count: 32 << 20), ends: true)
      }
      while transport.takenBytes < 16 << 20 { try transport.take(64 << 10) }
      let frames = transport.sink.frames.filter { $0.header.type == .bulk }
      connection.close(RPCError(.cancelled, "the test is over"))
      return [1, 2].map { id in
        frames.filter { $0.header.stream == id }.reduce(0) { $0 + $1.payload.count }
      }
    }
    // The first had the transport to itself until it was full.
    #expect(abs(counts[0] - counts[1]) <= 512 << 10, "\(counts)")
    #expect(counts[1] > 4 << 20)
  }

  /// What waits in the transport is bounded, whatever a caller wants to send.
  @Test func theTransportHoldsNoMoreThanItsMark() async throws {
    let pending = try await onLoop { loop in
      let (connection, transport) = connection(loop)
      for _ in 0..<8 {
        let stream = try #require(connection.open("large", [], deadlineNanoseconds: Self.deadline))
        stream.enqueue(.bulk, [UInt8](repeating: 1, count: 8 << 20), ends: true)
      }
      let pending = transport.pendingBytes
      connection.close(RPCError(.cancelled, "the test is over"))
      return pending
    }
    let limits = ConnectionLimits()
    #expect(pending <= limits.outputHighWaterBytes + limits.bulkPieceBytes + 4096)
    #expect(pending >= limits.outputHighWaterBytes)
  }
}
