import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// What a server takes on is bounded however a peer orders its frames.
@Suite(.timeLimit(.minutes(2))) struct LoadTests {
  private static let echo = SlaveCloudMethods.listShadows.name

  /// All headers first, then all requests: the bound on running handlers holds all the same.
  @Test func headersThatComeBeforeTheirRequestsDoNotPassTheLimit() async throws {
    let gate = Gate()
    let harness = try Harness(
      configure: { $0.maximumRunningCalls = 2 },
      routes: { router in
        router.unary(SlaveCloudMethods.listShadows) { _, _ in
          await gate.wait()
          return ListShadowsReply()
        }
      })
    let peer = try RawPeer(
      harness, tls: .client(harness.authority.credentials(.master, "node-1")))
    let calls: ClosedRange<UInt32> = 1...6
    await peer.send(helloFrame() + calls.flatMap { headerFrame(Self.echo, stream: $0) })
    await peer.send(calls.flatMap { frame(FrameType.message.rawValue, stream: $0, flags: 1) })
    await eventually { peer.frames().filter { $0.header.type == .trailer }.count >= 4 }
    #expect(harness.server.runningCalls == 2)
    let refused = peer.frames().filter { $0.header.type == .trailer }
    for frame in refused {
      let trailer = try Trailer(decoding: frame.payload)
      #expect(trailer.status == StatusCode.resourceExhausted.rawValue && trailer.notStarted)
    }
    await gate.open()
    await eventually { peer.frames().filter { $0.header.type == .trailer }.count == 6 }
    await eventually { harness.server.runningCalls == 0 }
    peer.close()
    await harness.stop()
  }

  /// A request that has not ended is counted and keeps its credit, so that windows bound it.
  @Test func requestsThatDoNotEndAreCounted() async throws {
    let harness = try Harness { router in
      router.immediate(SlaveCloudMethods.listShadows) { _, _ in ListShadowsReply() }
    }
    let peer = try RawPeer(
      harness, tls: .client(harness.authority.credentials(.master, "node-1")))
    var request = ListShadowsRequest()
    request.after = [UInt8](repeating: 1, count: 100_000)
    let calls: ClosedRange<UInt32> = 1...8
    let bytes = calls.flatMap {
      headerFrame(Self.echo, stream: $0)
        + frame(FrameType.message.rawValue, stream: $0, request.encoded())
    }
    await peer.send(helloFrame() + bytes)
    await eventually { harness.server.unreadBytes >= 8 * 100_000 }
    await peer.send(calls.flatMap { frame(FrameType.bulk.rawValue, stream: $0, flags: 1) })
    await eventually { peer.frames().filter { $0.header.type == .trailer }.count == 8 }
    #expect(harness.server.unreadBytes == 0)
    peer.close()
    await harness.stop()
  }

  /// A channel keeps its loops alive, though nobody else does.
  @Test func aChannelKeepsItsGroup() async throws {
    let harness = try Harness { router in
      router.immediate(SlaveCloudMethods.listShadows) { _, _ in ListShadowsReply() }
    }
    let channel = Channel(
      address: Address(host: "127.0.0.1", port: harness.server.port),
      tls: try .client(harness.authority.credentials(.master, "node-1")),
      expecting: PeerExpectation(cluster: "test", role: .slave), group: EventLoopGroup(count: 1),
      logger: harness.logger)
    _ = try await channel.unary(
      SlaveCloudMethods.listShadows, ListShadowsRequest(), CallOptions(timeout: .seconds(60)))
    channel.close()
    await harness.stop()
  }

  /// Peers without a certificate have few places and do not keep them.
  @Test func strangersHaveFewPlaces() async throws {
    var limits = ConnectionLimits()
    limits.strangerAgeMilliseconds = 1000
    let harness = try Harness(
      limits: limits, admitsStrangers: true, configure: { $0.maximumStrangers = 2 },
      routes: { _ in })
    let tls = try TLSContext.stranger(authorityPEM: harness.authority.certificatePEM)
    let peers = try (0..<3).map { _ in try RawPeer(harness, tls: tls) }
    for peer in peers { await peer.send(helloFrame()) }
    // One is turned away, or came when another was old already; all are shown out.
    for peer in peers { _ = await peer.waitUntilClosed() }
    let turnedAway = peers.filter { $0.frames().first?.header.type == .goAway }.count
    #expect(harness.server.connectionCounters["TooManyStrangers", default: 0] == UInt64(turnedAway))
    #expect(turnedAway <= 1)
    await eventually { harness.server.connectionCount == 0 }
    await harness.stop()
  }

  /// What no credit will ever let pass fails at once, not at its deadline.
  @Test func aMessageAboveThePeersWindowIsRefusedByItsSender() async throws {
    var limits = ConnectionLimits()
    limits.streamWindowBytes = 32 << 10
    let harness = try Harness(limits: limits) { router in
      router.immediate(SlaveCloudMethods.listShadows) { _, _ in ListShadowsReply() }
    }
    let channel = try harness.channel()
    var request = ListShadowsRequest()
    request.after = [UInt8](repeating: 1, count: 40_000)
    let error = await failure { () async throws(RPCError) in
      try await channel.unary(
        SlaveCloudMethods.listShadows, request, CallOptions(timeout: .seconds(3000)))
    }
    #expect(error?.code == .resourceExhausted)
    request.after = [UInt8](repeating: 1, count: 20_000)
    _ = try await channel.unary(
      SlaveCloudMethods.listShadows, request, CallOptions(timeout: .seconds(60)))
    await harness.stop()
  }
}
