import Base
import Messages
import TestSupport
import Testing

@testable import RPC

/// Every line of the page's table of violations (docs/formats/wire.md), at both sides: the sentence of the
/// go-away, the end of the connection, and what must not be taken for a violation.
@Suite struct ViolationTests {
  private static let (hello, header, message, bulk, trailer) = (
    FrameType.hello.rawValue, FrameType.header.rawValue, FrameType.message.rawValue,
    FrameType.bulk.rawValue, FrameType.trailer.rawValue
  )
  private static let (cancel, window, ping, goAway) = (
    FrameType.cancel.rawValue, FrameType.window.rawValue, FrameType.ping.rawValue,
    FrameType.goAway.rawValue
  )
  private static let echo = EchoMethods.echoBulk.name
  private static let open = headerFrame(echo, stream: 1)
  private static let most: [UInt8] = [255, 255, 255, 255]
  private static let eight = [UInt8](repeating: 0, count: 8)

  private static func hello(_ change: (inout Hello) -> Void) -> [UInt8] {
    var hello = Hello()
    hello.protocolVersion = 1
    (hello.maximumFrameBytes, hello.streamWindowBytes) = (1 << 20, 1 << 20)
    hello.connectionWindowBytes = 1 << 20
    change(&hello)
    return frame(Self.hello, hello.encoded())
  }

  /// What a client sends after hello, and what the server says of it.
  private static let toServer: [(String, [UInt8], String)] = [
    ("an unknown type", frame(10), "unknown frame type 10"),
    ("an unknown flag", frame(message, stream: 1, flags: 2), "unknown flags 2"),
    ("both flags", frame(message, stream: 1, flags: 3), "unknown flags 3"),
    ("reserved bytes", frame(ping, eight, reserved: 0x100), "reserved bytes are 256"),
    (
      "more than announced", frame(bulk, stream: 1, length: 65_537),
      "a frame of 65537 bytes, at most 65536"
    ),
    ("far more than announced", frame(99, length: .max), "unknown frame type 99"),
    ("a second hello", helloFrame(), "a second hello"),
    ("a header that is none", frame(header, stream: 1, [0xff]), "header frame: the bytes are not"),
    (
      "a method that is no text", frame(header, stream: 1, [0x0a, 2, 0xff, 0xfe]),
      "header frame: a text field is not UTF-8"
    ),
    (
      "a key that is no text",
      frame(header, stream: 1, [0x0a, 1, 0x61, 0x22, 3, 0x0a, 1, 0xff]),
      "header frame: a text field is not UTF-8"
    ),
    ("a go-away that is none", frame(goAway, [0x0a]), "goAway frame: the bytes are not"),
    ("a ping of 7 bytes", frame(ping, [UInt8](repeating: 0, count: 7)), "a ping has 8 bytes"),
    ("an empty ping", frame(ping), "a ping has 8 bytes"),
    ("a window of 3 bytes", frame(window, [0, 0, 1]), "a window frame has 4 bytes, not 3"),
    ("a window of 5 bytes", frame(window, stream: 1, [0, 0, 0, 1, 0]), "has 4 bytes, not 5"),
    ("a trailer", open + frame(trailer, stream: 1), "a client sent a trailer"),
    ("stream 0", headerFrame(echo, stream: 0), "stream 0 after stream 0"),
    ("a stream again", open + headerFrame(echo, stream: 1), "stream 1 after stream 1"),
    (
      "a stream below", headerFrame(echo, stream: 7) + headerFrame(echo, stream: 6),
      "stream 6 after stream 7"
    ),
    (
      "a stream that is over again",
      open + frame(cancel, stream: 1) + headerFrame(echo, stream: 1), "stream 1 after stream 1"
    ),
    ("a message above", open + frame(message, stream: 2, [1]), "unknown stream 2"),
    ("bulk above", open + frame(bulk, stream: .max, [1]), "unknown stream 4294967295"),
    ("an end above", open + frame(bulk, stream: 2, flags: 1), "unknown stream 2"),
    ("a cancel above", open + frame(cancel, stream: 2), "unknown stream 2"),
    ("credit above", open + frame(window, stream: 2, [0, 0, 0, 1]), "unknown stream 2"),
    ("a message on 0", frame(message, [1]), "unknown stream 0"),
    ("bulk on 0", frame(bulk, [1]), "unknown stream 0"),
    ("an end on 0", frame(bulk, flags: 1), "unknown stream 0"),
    ("a cancel of 0", frame(cancel), "unknown stream 0"),
    (
      "bulk after the end", headerFrame(echo, stream: 1, ends: true) + frame(bulk, stream: 1, [1]),
      "data after the end of stream 1"
    ),
    (
      "a message after the end",
      open + frame(bulk, stream: 1, flags: 1, [1]) + frame(message, stream: 1),
      "data after the end of stream 1"
    ),
    (
      "an end after the end",
      open + frame(bulk, stream: 1, flags: 1) + frame(bulk, stream: 1, flags: 1),
      "stream 1 ended twice"
    ),
    (
      "a call's window",
      headerFrame(stuck, stream: 1)
        + frame(bulk, stream: 1, [UInt8](repeating: 0, count: (32 << 10) - 63)),
      "stream 1 overran its window by 1 bytes"
    ),
    (
      "the connection's window",
      (1...3).flatMap { id in
        headerFrame(stuck, stream: id) + frame(bulk, stream: id)
          + frame(bulk, stream: id, [UInt8](repeating: 0, count: (22 << 10) - 64))
      }, "the connection's window is overrun by 2240 bytes"
    ),
    (
      "credit for the connection that overflows", frame(window, most) + frame(window, most),
      "window overflow"
    ),
    (
      "credit for a call that overflows", open + frame(window, stream: 1, most),
      "window overflow on stream 1"
    ),
  ]

  /// Its handler takes the first part that comes, later; what follows that lies unread until then.
  private static let stuck = SlaveCloudMethods.putShadow.name

  @Test(arguments: toServer.indices) func aClientIsToldSo(_ index: Int) throws {
    let (name, bytes, sentence) = Self.toServer[index]
    let world = try FuzzServer()
    defer { world.stop() }
    // Whole, byte by byte, and with direct filling.
    for pieceBytes in [Int.max, 1, 5000] {
      let (transport, connection) = world.connect()
      var rest = (helloFrame() + bytes)[...]
      while !rest.isEmpty {
        transport.receiveFilling(rest.prefix(pieceBytes))
        rest = rest.dropFirst(pieceBytes)
      }
      world.run()
      try Self.expectGoAway(transport, "protocol violation: \(sentence)", name)
      #expect(connection.isClosed && connection.streams.count == 0)
    }
    #expect(world.server.connectionCounters["Violation"] == 3)
    #expect(world.server.connectionCount == 0 && world.server.runningCalls == 0)
    #expect(world.server.unreadBytes == 0)
  }

  private static func expectGoAway(
    _ transport: ScriptedTransport, _ sentence: String, _ name: String
  ) throws {
    let frames = transport.frames
    #expect(transport.isClosed, "\(name): the connection is open")
    let last = try #require(frames.last, "\(name): nothing was said")
    #expect(last.header.type == .goAway, "\(name)")
    let said = try GoAway(decoding: last.payload)
    #expect(said.status == StatusCode.internalError.rawValue)
    #expect(
      said.message.hasPrefix(sentence) || said.message.contains(sentence.dropFirst(20)),
      "\(name): \(said.message)")
  }

  /// What comes first is looked at most strictly.
  @Test func openingsThatAreNone() throws {
    let world = try FuzzServer()
    defer { world.stop() }
    let cases: [(String, [UInt8], String)] = [
      ("a header first", Self.open, "the first frame is header, not hello"),
      ("a ping first", frame(Self.ping, Self.eight), "the first frame is ping, not hello"),
      ("hello on a stream", frame(Self.hello, stream: 1), "the first frame is hello, not hello"),
      ("version 0", frame(Self.hello), "protocol version 0, this side speaks 1"),
      ("version 2", helloFrame(version: 2), "protocol version 2, this side speaks 1"),
      ("a small frame", Self.hello { $0.maximumFrameBytes = (16 << 10) - 1 }, "limits in hello"),
      ("a large frame", Self.hello { $0.maximumFrameBytes = 1 << 30 | 1 }, "limits in hello"),
      ("no credit for calls", Self.hello { $0.streamWindowBytes = 0 }, "limits in hello"),
      ("too much credit", Self.hello { $0.streamWindowBytes = .max }, "limits in hello"),
      ("no credit", Self.hello { $0.connectionWindowBytes = 5 }, "limits in hello"),
      ("a hello that is none", frame(Self.hello, [0xff]), "hello frame: the bytes are not"),
    ]
    for (name, bytes, sentence) in cases {
      let (transport, _) = world.connect()
      transport.receive(bytes)
      world.run()
      try Self.expectGoAway(transport, "protocol violation: \(sentence)", name)
    }
    // A go-away in place of hello is no violation: the peer turned this side away.
    let (transport, _) = world.connect()
    transport.receive(frame(Self.goAway))
    world.run()
    #expect(transport.isClosed && !transport.frames.contains { $0.header.type == .goAway })
    #expect(world.server.connectionCounters["Violation"] == UInt64(cases.count))
    #expect(world.server.connectionCounters["Refused"] == 1)
  }

  @Test func aServerIsToldSo() throws {
    let cases: [(String, [UInt8], String)] = [
      ("a call", Self.open, "a server opened a call"),
      ("a cancel", frame(Self.cancel, stream: 1), "a server cancelled a call"),
      (
        "an end", frame(Self.message, stream: 1, flags: 1, [1]),
        "a server ends a call with a trailer"
      ),
      ("an end on a ping", frame(Self.ping, flags: 1, Self.eight), "a server ends a call with a"),
      ("a trailer above", frame(Self.trailer, stream: 3), "unknown stream 3"),
      ("a trailer on 0", frame(Self.trailer), "unknown stream 0"),
      (
        "a trailer that is none", frame(Self.trailer, stream: 1, [0xff]), "trailer frame: the bytes"
      ),
      ("bulk above", frame(Self.bulk, stream: 3, [1]), "unknown stream 3"),
      ("a second hello", helloFrame(), "a second hello"),
      (
        "a call's window",
        frame(Self.bulk, stream: 1, [UInt8](repeating: 0, count: (32 << 10) - 63)),
        "stream 1 overran its window by 1 bytes"
      ),
    ]
    for (name, bytes, sentence) in cases {
      let time = SimulatedTime(dice: SplitMix64(seed: 1))
      let loop = EventLoop(simulation: time)
      time.ambient = loop
      defer { time.end() }
      let transport = ScriptedTransport(loop: loop)
      let connection = Connection(
        loop: loop, side: .client, transport: transport, limits: FuzzServer.limits,
        logger: FuzzServer.logger)
      connection.start()
      transport.receive(helloFrame())
      let streams = [1, 2].compactMap { _ in
        connection.open("test", [], deadlineNanoseconds: .max)
      }
      #expect(streams.count == 2)
      transport.receive(bytes)
      _ = time.run(until: { true })
      try Self.expectGoAway(transport, "protocol violation: \(sentence)", name)
      // Every call of the connection ended, with the reason.
      for stream in streams {
        guard case .finished(let error) = stream.finish else {
          Issue.record("\(name): a call goes on")
          continue
        }
        #expect(error?.reason == "Violation")
      }
    }
  }

  /// What crosses the end of a call was under way, and other things that look odd and are right.
  @Test func whatIsNoViolation() throws {
    let world = try FuzzServer()
    defer { world.stop() }
    let (transport, connection) = world.connect()
    let late: [[UInt8]] = [
      frame(Self.message, stream: 1, [1]), frame(Self.bulk, stream: 1, [1]),
      frame(Self.bulk, stream: 1, flags: 1), frame(Self.bulk, stream: 1, flags: 1),
      frame(Self.cancel, stream: 1, [1, 2, 3]), frame(Self.window, stream: 1, Self.most),
      frame(FrameType.pong.rawValue, [1]), frame(Self.window, [0, 0, 0, 0]),
      frame(Self.ping, stream: 9, flags: 1, Self.eight),
      // A number that was skipped counts as over.
      headerFrame(Self.echo, stream: 10), frame(Self.bulk, stream: 5, [1]),
      frame(Self.bulk, stream: 10, [], length: 0),
    ]
    transport.receive(helloFrame() + Self.open + frame(Self.cancel, stream: 1))
    for bytes in late { transport.receive(bytes) }
    world.run()
    #expect(!transport.isClosed)
    #expect(connection.streams.count == 1)
    #expect(transport.frames.filter { $0.header.type == .pong }.count == 1)
    transport.owner?.transportClosed(RPCError(.unavailable, "over"))
    world.run()
  }
}
