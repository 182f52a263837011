import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Peers that speak the protocol, to do harm with it.
@Suite(.serialized, .timeLimit(.minutes(3))) struct AbuseCallTests {
  private static let bulk = FrameType.bulk.rawValue
  private static let message = FrameType.message.rawValue
  private static let cancel = FrameType.cancel.rawValue
  private static let ping = frame(FrameType.ping.rawValue, [UInt8](repeating: 5, count: 8))

  private static func repeated(_ bytes: [UInt8], _ count: Int) -> [UInt8] {
    Array(repeatElement(bytes, count: count).joined())
  }

  @Test func aPingFloodIsAnsweredWithGoAway() async throws {
    let fortress = try Fortress()
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker())
    await peer.send(helloFrame() + Self.repeated(Self.ping, 20_000))
    _ = await peer.waitUntilClosed()
    let said = try #require(try peer.goAway())
    #expect(said.status == StatusCode.resourceExhausted.rawValue)
    #expect(said.message == "too many pings")
    await fortress.ended("TooManyPings", 1)
    try await fortress.survived()
  }

  /// Sends calls until the server hangs up.
  private func callUntilDropped(_ fortress: Fortress, _ method: String, limit: UInt32) async throws
  {
    let peer = try await DeafPeer(fortress, tls: fortress.attacker())
    var isOpen = await peer.send(helloFrame())
    var stream: UInt32 = 1
    while isOpen, stream < limit {
      var calls: [UInt8] = []
      for _ in 0..<200 {
        calls += headerFrame(method, stream: stream)
        stream += 1
      }
      isOpen = await peer.send(calls)
    }
    #expect(!isOpen, "\(stream) calls, and nobody minds")
    peer.socket.close()
  }

  /// Refusals go out at once and wait for nobody; a peer that takes none of them is dropped at 4 MiB.
  @Test func aPeerThatReadsNoRefusalsIsDropped() async throws {
    let fortress = try Fortress()
    try await callUntilDropped(fortress, "nobody/knows", limit: 1_000_000)
    await fortress.ended("NotReading", 1)
    try await fortress.survived()
  }

  /// So is one that leaves good ends of calls lying, which are twelve bytes each.
  @Test func aPeerThatReadsNoTrailersIsDropped() async throws {
    let fortress = try Fortress()
    try await callUntilDropped(fortress, AbuseMethods.nothing.name, limit: 4_000_000)
    await fortress.ended("NotReading", 1)
    try await fortress.survived()
  }

  /// Bulk for a peer that never reads: the calls end, then the silent connection.
  @Test func bulkForADeafPeerIsHeldAtItsWindow() async throws {
    var limits = Fortress.limits
    limits.slowReaderMilliseconds = 300
    limits.keepaliveMilliseconds = 500
    limits.keepaliveTimeoutMilliseconds = 500
    let fortress = try Fortress(limits: limits)
    let peer = try await DeafPeer(fortress, tls: fortress.attacker())
    var request = GetShadowRequest()
    request.name = [1]
    var isOpen = await peer.send(helloFrame())
    for stream in 1...8 as ClosedRange<UInt32> where isOpen {
      isOpen = await peer.send(
        headerFrame(SlaveCloudMethods.getShadow.name, stream: stream)
          + frame(Self.message, stream: stream, flags: 1, request.encoded()))
    }
    #expect(isOpen)
    await fortress.ended("Silent", 1)
    peer.socket.close()
    try await fortress.survived(serving: false)
  }

  /// Answers without credit wait here: they count, and with too many of them no call is taken. Three have credit.
  @Test func answersThatNobodyTakesAreBounded() async throws {
    let fortress = try Fortress(configure: { $0.maximumUnreadBytes = 256 << 10 })
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker())
    var bytes = helloFrame(connectionWindow: 400_000)
    for stream in 1...30 as ClosedRange<UInt32> {
      bytes += headerFrame(AbuseMethods.large.name, stream: stream)
      bytes += frame(Self.message, stream: stream, flags: 1)
    }
    await peer.send(bytes + Self.ping)
    await eventually { peer.frames().contains { $0.header.type == .pong } }
    #expect(fortress.count("CallOverloaded") == 24)
    #expect(fortress.server.waitingBytes == 3 * 100_004)
    peer.close()
    try await fortress.survived()
  }

  /// A handler that answers before it has read everything leaves nothing behind.
  @Test func whatAHandlerLeavesUnreadIsForgotten() async throws {
    var limits = Fortress.limits
    limits.connectionWindowBytes = 256 << 10
    let fortress = try Fortress(limits: limits)
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker())
    await peer.send(helloFrame())
    let piece = frame(Self.bulk, stream: 1, [UInt8](repeating: 1, count: 50_000))
    await peer.send(
      headerFrame(AbuseMethods.stuck.name, stream: 1) + Self.repeated(piece, 4))
    await eventually { fortress.server.unreadBytes == 4 * 50_064 }
    await fortress.release.open()
    await eventually { fortress.server.runningCalls == 0 && fortress.server.unreadBytes == 0 }
    // Their credit came back: as much again does not overrun the connection's window.
    var again = piece
    again[11] = 3
    await peer.send(headerFrame(AbuseMethods.nothing.name, stream: 3) + Self.repeated(again, 4))
    await peer.send(Self.ping)
    await eventually { peer.frames().contains { $0.header.type == .pong } }
    #expect(try peer.goAway() == nil)
    let credit = peer.frames().filter { $0.header.type == .window && $0.header.stream == 0 }
    #expect(credit.count == 3)
    peer.close()
    try await fortress.survived()
  }

  /// The handlers do not stop: what they cost is bounded, and others hear so at once.
  @Test func openAndCancelDoesNotMultiplyHandlers() async throws {
    let fortress = try Fortress(configure: { $0.maximumRunningCalls = 50 })
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker())
    var bytes = helloFrame()
    for stream in 1...3000 as ClosedRange<UInt32> {
      bytes += headerFrame(AbuseMethods.stuck.name, stream: stream)
      bytes += frame(Self.cancel, stream: stream)
    }
    await peer.send(bytes + Self.ping)
    await eventually { peer.frames().contains { $0.header.type == .pong } }
    #expect(fortress.server.runningCalls == 50)
    #expect(fortress.count("CallOverloaded") == 2950)
    await fortress.release.open()
    await eventually { fortress.server.runningCalls == 0 }
    peer.close()
    try await fortress.survived()
  }

  /// Two bytes on the wire, a hundred and more in memory.
  @Test func messagesThatSwellAreRefused() async throws {
    let fortress = try Fortress()
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker())
    await peer.send(
      helloFrame() + headerFrame(AbuseMethods.swell.name, stream: 1)
        + frame(Self.message, stream: 1, flags: 1, Self.repeated([0x0a, 0], 500_000)))
    await eventually { peer.frames().contains { $0.header.type == .trailer } }
    let trailer = try #require(peer.frames().first { $0.header.type == .trailer })
    let error = try Trailer(decoding: trailer.payload)
    #expect(error.status == StatusCode.invalidArgument.rawValue)
    #expect(error.message.contains("more than 16777216 bytes of memory"))
    // The same in a header is a violation: metadata without end.
    await peer.send(
      frame(FrameType.header.rawValue, stream: 3, Self.repeated([0x22, 0], 500_000)))
    _ = await peer.waitUntilClosed()
    #expect(try peer.goAway()?.message.contains("of memory") == true)
    await fortress.ended("Violation", 1)
    try await fortress.survived()
  }

  /// Empty pieces cost their sender as much as they cost the receiver.
  @Test func aFloodOfEmptyPiecesOverrunsTheWindow() async throws {
    let fortress = try Fortress()
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker())
    await peer.send(
      helloFrame() + headerFrame(AbuseMethods.stuck.name, stream: 1)
        + Self.repeated(frame(Self.bulk, stream: 1), 40_000))
    _ = await peer.waitUntilClosed()
    #expect(try peer.goAway()?.message.contains("stream 1 overran its window") == true)
    await fortress.release.open()
    await fortress.ended("Violation", 1)
    try await fortress.survived()
  }

  /// Sentences of a peer are not written to the log at length, or over and over.
  @Test func aPeersLastWordsDoNotFillTheLog() async throws {
    let fortress = try Fortress()
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker())
    var goAway = GoAway()
    goAway.status = StatusCode.internalError.rawValue
    goAway.message = String(repeating: "x", count: 10_000)
    await peer.send(
      helloFrame() + headerFrame(AbuseMethods.stuck.name, stream: 1)
        + Self.repeated(frame(FrameType.goAway.rawValue, goAway.encoded()), 50) + Self.ping)
    await eventually { peer.frames().contains { $0.header.type == .pong } }
    let lines = fortress.log.lines.filter { $0.contains("xxx") }
    #expect(lines.count == 1 && lines[0].utf8.count < 500)
    await fortress.release.open()
    peer.close()
    try await fortress.survived()
  }

  /// Loops end with their group, also under a channel that nobody closed: its calls hear so, and nothing stays.
  @Test func aLoopThatEndsTakesItsSocketsAlong() async throws {
    let fortress = try Fortress()
    let tls = try fortress.attacker()
    weak var loop: EventLoop?
    do {
      let group = EventLoopGroup(count: 1)
      loop = group.loops[0]
      let channel = Channel(
        address: Address(host: "127.0.0.1", port: fortress.server.port), tls: tls,
        expecting: PeerExpectation(cluster: "test", role: .slave), group: group,
        logger: fortress.harness.logger)
      let waiting = Task {
        try await channel.unary(
          AbuseMethods.stuckOnce, Empty(), CallOptions(timeout: .seconds(100)))
      }
      await eventually { fortress.server.runningCalls == 1 }
      loop?.stop()
      let outcome = await waiting.result
      let error = #expect(throws: RPCError.self) { try outcome.get() }
      #expect(error?.reason == CloseReason.cut)
    }
    await eventually { loop == nil }
    await fortress.release.open()
    try await fortress.survived()
  }
}
