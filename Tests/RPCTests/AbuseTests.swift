import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Peers that mean harm before or beside the protocol: handshakes, sockets, numbers of connections.
@Suite(.serialized, .timeLimit(.minutes(3))) struct AbuseTests {
  private static func quickHandshake() -> ConnectionLimits {
    var limits = ConnectionLimits()
    limits.handshakeMilliseconds = 300
    return limits
  }

  @Test func slowHandshakesAreCutOff() async throws {
    let fortress = try Fortress(limits: Self.quickHandshake())
    let tls = try fortress.attacker()
    let hello = try clientHello(tls)
    let port = fortress.server.port
    // Nothing at all; a ClientHello byte by byte, never whole; half of one; all of TLS and no hello.
    let silent = try RawSocket(port: port)
    let slow = try RawSocket(port: port)
    let half = try RawSocket(port: port)
    half.send(hello.prefix(hello.count / 2))
    let mute = try RawPeer(fortress.harness, tls: tls)
    var next = 0
    await eventually {
      if next < hello.count - 1 {
        slow.send(hello[next..<next + 1])
        next += 1
      }
      return slow.isClosedByPeer()
    }
    await eventually { silent.isClosedByPeer() && half.isClosedByPeer() }
    #expect(await mute.waitUntilClosed() != nil)
    await fortress.ended("HandshakeTimeout", 4)
    #expect(fortress.count("Ready") == 0)
    mute.close()
    for socket in [silent, slow, half] { socket.close() }
    try await fortress.survived(serving: false)
  }

  @Test func bytesThatAreNoTLSEndTheHandshake() async throws {
    let fortress = try Fortress(limits: Self.quickHandshake())
    let entropy = SeededEntropy.announced()
    let hello = try clientHello(fortress.attacker())
    var attempts: [[UInt8]] = [Array("GET / HTTP/1.1\r\n\r\n".utf8), entropy.bytes(5000)]
    for _ in 0..<20 {
      var broken = hello
      // The record's own header stays right, so that what is inside is looked at.
      for _ in 0..<8 {
        broken[5 + Int(entropy.uniform(below: UInt64(hello.count - 5)))] ^=
          1
          << UInt8(
            entropy.uniform(below: 8))
      }
      attempts.append(broken)
    }
    for bytes in attempts {
      let socket = try RawSocket(port: fortress.server.port)
      socket.send(bytes[...])
      // A change may leave the greeting good; a second one in place of the Finished never is.
      socket.send(hello[...])
      await eventually { socket.isClosedByPeer() }
      socket.close()
    }
    // What still looks like a greeting, of which more must come, has its time.
    let ends = fortress.count("HandshakeFailed") + fortress.count("HandshakeTimeout")
    #expect(ends == attempts.count && fortress.count("HandshakeFailed") >= 2)
    try await fortress.survived(serving: false)
  }

  /// Wherever a connection is cut: in the greeting, in a certificate, in the middle of a record.
  @Test func resetsAnywhereAreEndsLikeAnyOther() async throws {
    let fortress = try Fortress()
    let tls = try fortress.attacker()
    let call = headerFrame(ImageUserMethods.queryImages.name, stream: 1)
    let bulk = frame(FrameType.bulk.rawValue, stream: 1, [UInt8](repeating: 3, count: 40_000))
    let limits = [1, 100, 400, 900, 1500, 10_000, 30_000, 40_000]
    for (index, limit) in limits.enumerated() {
      let relay = try Relay(to: fortress.server.port, after: limit, .reset)
      let peer = try RawPeer(fortress.harness, tls: tls, port: relay.port)
      let sending = Task {
        // The last three are cut long after hello, in a record of their own.
        if limit >= 10_000 { await peer.exchangeHellos() } else { await peer.send(helloFrame()) }
        await peer.send(call + bulk + bulk)
      }
      await eventually { fortress.count("Accepted") == index + 1 }
      if limit >= 10_000 { await sending.value }
      relay.fail()
      #expect(await peer.waitUntilClosed() != nil)
      await sending.value
      relay.stop()
      await eventually { fortress.server.connectionCount == 0 }
    }
    #expect(fortress.count("Ready") >= 3)
    let ends = ["PeerClosed", "HandshakeFailed", "TLSFailed"].reduce(0) { $0 + fortress.count($1) }
    #expect(ends == 8, "\(fortress.server.connectionCounters)")
    try await fortress.survived()
  }

  @Test func aPeerThatVanishesIsGivenUp() async throws {
    var limits = ConnectionLimits()
    limits.keepaliveMilliseconds = 300
    limits.keepaliveTimeoutMilliseconds = 300
    limits.handshakeMilliseconds = 60_000
    let fortress = try Fortress(limits: limits)
    // After the handshake and hello, in the middle of a bulk frame; no FIN, no reset.
    let relay = try Relay(to: fortress.server.port, after: 20_000, .vanish)
    let peer = try RawPeer(fortress.harness, tls: fortress.attacker(), port: relay.port)
    await peer.send(
      helloFrame() + headerFrame(ImageUserMethods.queryImages.name, stream: 1)
        + frame(FrameType.bulk.rawValue, stream: 1, [UInt8](repeating: 3, count: 100_000)))
    await eventually { fortress.count("Ready") == 1 }
    await fortress.ended("Silent", 1)
    relay.stop()
    peer.close()
    try await fortress.survived(serving: false)
  }

  @Test func moreConnectionsThanAllowedAreTurnedAway() async throws {
    let fortress = try Fortress(configure: { $0.maximumConnections = 4 })
    let tls = try fortress.attacker()
    var peers: [RawPeer] = []
    for _ in 0..<4 {
      let peer = try RawPeer(fortress.harness, tls: tls)
      await peer.exchangeHellos()
      peers.append(peer)
    }
    // All at once: the bound holds however fast they come.
    let others = try (0..<20).map { _ in try RawSocket(port: fortress.server.port) }
    for socket in others { await eventually { socket.isClosedByPeer() } }
    #expect(fortress.server.connectionCount == 4)
    await fortress.ended("TooManyConnections", 20)
    peers[0].close()
    await eventually { fortress.server.connectionCount == 3 }
    try await fortress.serves()
    for peer in peers { peer.close() }
    for socket in others { socket.close() }
    try await fortress.survived()
  }

  @Test func moreHandshakesThanAllowedAreTurnedAway() async throws {
    var limits = ConnectionLimits()
    limits.handshakeMilliseconds = 2000
    let fortress = try Fortress(limits: limits, configure: { $0.maximumHandshakes = 4 })
    let sockets = try (0..<24).map { _ in try RawSocket(port: fortress.server.port) }
    await fortress.ended("TooManyHandshakes", 20)
    // Those that were let in and say nothing make room in their time.
    for socket in sockets { await eventually { socket.isClosedByPeer() } }
    await fortress.ended("HandshakeTimeout", 4)
    for socket in sockets { socket.close() }
    try await fortress.survived()
  }

  /// In a process of its own, where descriptors and memory are nobody else's.
  @Test func tenThousandConnectionsLeaveNothingBehind() async throws {
    await #expect(processExitsWith: .success) {
      try await Self.dropTenThousand(Fortress(configure: { $0.maximumHandshakes = 1024 }))
      await eventually { loopThreads() == 0 }
    }
  }

  private static func dropTenThousand(_ fortress: Fortress) async throws {
    let tls = try fortress.attacker()
    let hello = try clientHello(tls)
    try await fortress.serves()
    await eventually { fortress.server.connectionCount == 0 }
    let memory = residentBytes()
    for batch in 0..<100 {
      // 96 go before TLS or in the middle of it, 4 after TLS or after hello.
      let sockets = try (0..<96).map { _ in try RawSocket(port: fortress.server.port) }
      for (index, socket) in sockets.enumerated() {
        if index.isMultiple(of: 3) { socket.send(hello[...]) }
        if index.isMultiple(of: 5) { socket.send(hello.prefix(60)) }
      }
      var peers: [RawPeer] = []
      for index in 0..<4 {
        let peer = try RawPeer(fortress.harness, tls: tls)
        if index.isMultiple(of: 2) { await peer.exchangeHellos() }
        peers.append(peer)
      }
      for (index, socket) in sockets.enumerated() {
        if (index + batch).isMultiple(of: 2) { socket.reset() } else { socket.close() }
      }
      for peer in peers { peer.close() }
      let accepted = UInt64(batch + 1) * 100 + 1
      await eventually { fortress.count("Accepted") == accepted }
      await eventually { fortress.server.connectionCount == 0 }
    }
    #expect(fortress.count("Ready") == 201)
    #expect(fortress.count("TooManyHandshakes") == 0)
    let grown = residentBytes() - memory
    #expect(grown < 64 << 20 || isSanitized, "\(grown) bytes more")
    try await fortress.survived()
  }

  /// Memory is taken for what has come, not for what was announced.
  @Test func announcedBytesTakeNoMemory() async throws {
    await #expect(processExitsWith: .success) {
      try await Self.announceMuch(Fortress(configure: { $0.maximumHandshakes = 1024 }))
      await eventually { loopThreads() == 0 }
    }
  }

  private static func announceMuch(_ fortress: Fortress) async throws {
    let tls = try fortress.attacker()
    try await fortress.serves()
    var put = PutShadowHeader()
    put.bodyBytes = 64 << 20
    let attack =
      headerFrame(SlaveCloudMethods.putShadow.name, stream: 1)
      + frame(FrameType.message.rawValue, stream: 1, put.encoded())
      // A whole mebibyte, of which one byte comes.
      + frame(FrameType.bulk.rawValue, stream: 1, [1], length: 1 << 20)
    let memory = residentBytes()
    var peers: [RawPeer] = []
    for _ in 0..<200 {
      let peer = try RawPeer(fortress.harness, tls: tls)
      await peer.exchangeHellos()
      await peer.send(attack)
      peers.append(peer)
    }
    await eventually { fortress.server.runningCalls == 200 }
    let grown = residentBytes() - memory
    // Two hundred times 64 KiB for both ends of a connection, where 200 MiB and more were announced.
    #expect(grown < 100 << 20 || isSanitized, "\(grown) bytes more")
    for peer in peers { peer.close() }
    try await fortress.survived()
  }
}
