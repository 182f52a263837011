import Base
import Logging
import Messages

@testable import RPC

/// Whole connections, server's and client's, whose peer is the fuzzer.
final class FuzzConnections {
  private let world: FuzzServer

  init() throws { world = try FuzzServer() }

  func stop() { world.stop() }

  /// How the peer's bytes arrive.
  private struct Delivery {
    var pieceBytes = Int.max

    func give(_ bytes: [UInt8], to transport: ScriptedTransport) {
      var rest = bytes[...]
      while !rest.isEmpty {
        transport.receiveFilling(rest.prefix(pieceBytes))
        rest = rest.dropFirst(pieceBytes)
      }
    }
  }

  /// One step that both sides know; the frames that it asks for, or nil where it is none of these.
  private func step(
    _ operation: UInt8, _ input: inout FuzzInput, _ delivery: inout Delivery,
    _ transport: ScriptedTransport
  ) -> Bool {
    switch operation {
    case 0...9:
      // A frame that is right in itself, mostly on a small stream.
      let stream = UInt32(input.byte())
      let choice = input.byte()
      let count = choice & 0x40 != 0 ? Int(choice & 0x3f) << 9 : Int(choice & 0x3f)
      var payload = Array(input.take(count))
      // Long ones need not be spelled out.
      if choice & 0x40 != 0, payload.count < count {
        payload += [UInt8](repeating: 1, count: count - payload.count)
      }
      delivery.give(
        frame(operation, stream: stream, flags: choice >> 7, payload), to: transport)
    case 10: delivery.give(Array(input.take(input.number() & 0x3fff)), to: transport)
    case 11:
      let piece = input.number() & 0x3fff
      delivery.pieceBytes = piece == 0 ? .max : piece
    case 12: world.time.advance(nanoseconds: UInt64(input.byte()) * 250_000_000)
    case 13:
      transport.isReading.toggle()
      if transport.isReading { transport.flush() }
    case 14: world.run()
    default: return false
    }
    return true
  }

  // MARK: the server

  func server(_ input: FuzzInput) -> String? {
    var input = input
    var (transport, connection): (ScriptedTransport, Connection?) = world.connect()
    weak let gone = connection
    if input.byte() & 1 == 0 { transport.receive(helloFrame(streamWindow: 16 << 10)) }
    var delivery = Delivery()
    while !input.isAtEnd, !transport.isClosed {
      let operation = input.byte() % 17
      if !step(operation, &input, &delivery, transport) {
        if operation == 15 {
          let stream = UInt32(input.byte())
          let methods = Self.methods
          let method = methods[Int(input.byte()) % methods.count]
          delivery.give(headerFrame(method, stream: stream), to: transport)
        } else {
          connection?.drain()
        }
      }
      if let problem = connection.flatMap(Self.creditProblem) { return problem }
    }
    transport.isReading = true
    world.run()
    if let problem = connection.flatMap(Self.creditProblem) { return problem }
    end(transport)
    if let connection, connection.streams.count > 0 { return "streams are left" }
    connection = nil
    transport = ScriptedTransport(loop: world.loop)
    if gone != nil { return "the connection is still there" }
    return serverProblem()
  }

  private static let methods = [
    EchoMethods.echoOnce.name, SlaveCloudMethods.listShadows.name,
    SlaveCloudMethods.putShadow.name, SlaveCloudMethods.getShadow.name, EchoMethods.echoBulk.name,
    "sfmedir.v1.Nobody/Knows",
  ]

  private func end(_ transport: ScriptedTransport) {
    transport.owner?.transportClosed(RPCError(.unavailable, "the input is over"))
    transport.close()
    world.run()
  }

  private func serverProblem() -> String? {
    let server = world.server
    if server.connectionCount != 0 { return "\(server.connectionCount) connections are left" }
    if server.runningCalls != 0 { return "\(server.runningCalls) handlers are left" }
    if server.unreadBytes != 0 { return "\(server.unreadBytes) bytes count as unread" }
    if server.waitingBytes != 0 { return "\(server.waitingBytes) bytes count as waiting" }
    return nil
  }

  /// What is not credit of the peer's any more lies unread in this connection's calls, and nowhere else.
  private static func creditProblem(_ connection: Connection) -> String? {
    guard !connection.isClosed else { return nil }
    let unread = connection.load.unreadBytes
    let window = connection.limits.connectionWindowBytes
    let accounted = connection.receiveCredit + connection.unreturnedCredit + unread
    if connection.receiveCredit < 0 || accounted != window {
      return "credit \(connection.receiveCredit) and \(connection.unreturnedCredit) to return, "
        + "\(unread) unread: not \(window)"
    }
    return nil
  }

  // MARK: the client

  /// Gives a channel transports whose other end is the fuzzer.
  private final class ScriptedConnector: Connector, @unchecked Sendable {
    var transports: [ScriptedTransport] = []
    let name = "fuzz"

    func endpoints(_ done: @escaping @Sendable (Result<[Endpoint], RPCError>) -> Void) {
      done(.success([.number(0)]))
    }

    func transport(to endpoint: Endpoint, on loop: EventLoop) throws(RPCError) -> Transport {
      let transport = ScriptedTransport(loop: loop)
      transports.append(transport)
      return transport
    }
  }

  func client(_ input: FuzzInput) -> String? {
    var input = input
    let connector = ScriptedConnector()
    let channel = Channel(
      address: Address(host: "fuzz", port: 1), connector: connector,
      expecting: PeerExpectation(cluster: "test", role: .master), loop: world.loop,
      logger: FuzzServer.logger, limits: FuzzServer.limits)
    let calls = Locked((begun: 0, ended: 0))
    let sendsHello = input.byte() & 1 == 0
    begin(0, channel, calls)
    world.run()
    if sendsHello { connector.transports.last?.receive(helloFrame(streamWindow: 16 << 10)) }
    var delivery = Delivery()
    while !input.isAtEnd {
      let operation = input.byte() % 17
      guard let transport = connector.transports.last else { break }
      if !step(operation, &input, &delivery, transport) {
        if operation == 15 {
          begin(input.byte(), channel, calls)
        } else if transport.isClosed {
          // Back-off is over, and the next connection begins.
          world.time.advance(nanoseconds: 10_000_000_000)
          begin(0, channel, calls)
          world.run()
          connector.transports.last?.receive(helloFrame(streamWindow: 16 << 10))
        }
      }
    }
    world.run()
    channel.close()
    for transport in connector.transports {
      let connection = transport.owner as? Connection
      if let problem = connection.flatMap(Self.clientCreditProblem) { return problem }
      end(transport)
      if let connection, connection.streams.count > 0 { return "streams are left" }
    }
    world.time.advance(nanoseconds: 120_000_000_000)
    let (begun, ended) = calls.withLock { $0 }
    return begun == ended ? nil : "\(begun) calls began, \(ended) ended"
  }

  private static func clientCreditProblem(_ connection: Connection) -> String? {
    guard !connection.isClosed else { return nil }
    return creditProblem(connection)
  }

  /// One call of some shape, which ends exactly once.
  private func begin(
    _ shape: UInt8, _ channel: Channel, _ calls: Locked<(begun: Int, ended: Int)>
  ) {
    calls.withLock { $0.begun += 1 }
    let loop = world.loop
    Task.immediate(executorPreference: loop) { @Sendable in
      let options = CallOptions(timeout: .seconds(30))
      do {
        switch shape % 4 {
        case 0: _ = try await channel.unary(EchoMethods.echoOnce, EchoMessage(), options)
        case 1:
          let call = try await channel.open(SlaveCloudMethods.putShadow, options)
          try await call.send(PutShadowHeader())
          try await call.send(bulk: [UInt8](repeating: 1, count: Int(shape) << 8))
          try await call.finishSending()
          _ = try await call.receiveOnly()
        case 2:
          let call = try await channel.open(SlaveCloudMethods.getShadow, options)
          try await call.sendLast(GetShadowRequest())
          guard let header = try await call.receiveMessage() else { break }
          _ = try await call.receiveBulk(count: header.bodyBytes, maximum: 1 << 20)
          while try await call.receive() != nil {}
        default:
          let call = try await channel.open(EchoMethods.echoBulk, options)
          try await call.send(EchoBulkHeader())
          _ = try await call.receive()
          call.cancel()
        }
      } catch {}
      calls.withLock { $0.ended += 1 }
    }
  }
}
