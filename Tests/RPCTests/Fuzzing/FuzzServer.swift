import Base
import Logging
import Messages

@testable import RPC

/// A server without sockets, with a route of each shape, whose time is simulated: what happens depends on
/// nothing but the bytes that it is given.
final class FuzzServer {
  let time = SimulatedTime(dice: SplitMix64(seed: 1))
  let loop: EventLoop
  let server: Server

  init(limits: ConnectionLimits = FuzzServer.limits) throws {
    loop = EventLoop(simulation: time)
    time.ambient = loop
    var configuration = ServerConfiguration(
      address: Address(host: "127.0.0.1", port: 0), cluster: "test")
    configuration.limits = limits
    configuration.permissions = PermissionTable([
      EchoMethods.echoOnce.name: [.master], SlaveCloudMethods.listShadows.name: [.master],
      SlaveCloudMethods.putShadow.name: [.master], SlaveCloudMethods.getShadow.name: [.master],
      EchoMethods.echoBulk.name: [.master],
    ])
    server = Server(
      configuration: configuration, tls: try .server(Self.credentials), router: Self.router,
      group: EventLoopGroup(loops: [loop]), logger: Self.logger)
  }

  static var logger: Logger {
    var logger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }
    logger.logLevel = .critical
    return logger
  }

  /// Small, so that short inputs reach every bound.
  static var limits: ConnectionLimits {
    var limits = ConnectionLimits()
    limits.maximumFrameBytes = 64 << 10
    limits.streamWindowBytes = 32 << 10
    limits.connectionWindowBytes = 64 << 10
    limits.maximumStreams = 8
    limits.bulkPieceBytes = 8 << 10
    limits.outputHighWaterBytes = 16 << 10
    return limits
  }

  private static var router: Router {
    var router = Router()
    router.immediate(EchoMethods.echoOnce) { request, _ in request }
    router.unary(SlaveCloudMethods.listShadows) { request, _ in
      var reply = ListShadowsReply()
      reply.names = [request.after]
      return reply
    }
    router.streaming(SlaveCloudMethods.putShadow) { call in
      let header = try await call.receiveMessage()
      let body = try await call.receiveBulk(count: header.bodyBytes, maximum: 1 << 20)
      var reply = PutShadowReply()
      reply.existed = body.count.isMultiple(of: 2)
      try await call.send(reply)
    }
    router.streaming(SlaveCloudMethods.getShadow) { call in
      let request = try await call.receiveMessage()
      var header = GetShadowHeader()
      header.bodyBytes = UInt64(request.name.first ?? 0) << 10
      try await call.send(header)
      try await call.send(bulk: [UInt8](repeating: 9, count: Int(header.bodyBytes)))
    }
    router.streaming(EchoMethods.echoBulk) { call in
      while let part = try await call.receive() {
        switch part {
        case .message(let header): try await call.send(header)
        // Some answer before they have read everything.
        case .bulk(let bytes) where bytes.first == 0xee: return
        case .bulk(let bytes): try await call.send(bulk: bytes)
        }
      }
    }
    return router
  }

  /// A connection of a peer that has shaken hands.
  func connect() -> (ScriptedTransport, Connection) {
    let transport = ScriptedTransport(loop: loop)
    server.serve(transport)
    guard let connection = transport.owner as? Connection else {
      preconditionFailure("the server did not take the transport")
    }
    return (transport, connection)
  }

  /// Until nothing is left to do at this time.
  func run() { _ = time.run(until: { true }) }

  /// The simulation is over.
  func stop() { time.end() }

  /// Nobody's: made for this file, trusted by nobody, good for a hundred years.
  private static let credentials = Credentials(
    certificatePEM: certificate,
    privateKeyPEM: """
      -----BEGIN PRIVATE KEY-----
      MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGDuQvMkeuxfn6Pbs
      RTJCypa2EBHHjGl2kgcxpnjSrsuhRANCAAS1tfxMZvhTKDPP2oQ5LquHeyUI/r1A
      d9gSCNwj/7UXePTkMk4NCH7HA90agISS+oQm89NBpewjoXnasD+Y886b
      -----END PRIVATE KEY-----
      """,
    authorityPEM: certificate)

  private static let certificate = """
    -----BEGIN CERTIFICATE-----
    MIIBmTCCAUCgAwIBAgIUNKn7vCWX2fTWYqrhs2NDt4Au+RwwCgYIKoZIzj0EAwIw
    DzENMAsGA1UEAwwEZnV6ejAgFw0yNjExMjcwMTMzMTFaGA8yMTI2MTEwMzAxMzMx
    MVowDzENMAsGA1UEAwwEZnV6ejBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLW1
    /Exm+FMoM8/ahDkuq4d7JQj+vUB32BII3CP/tRd49OQyTg0IfscD3RqAhJL6hCbz
    00Gl7COhedqwP5jzzpujeDB2MB0GA1UdDgQWBBRHw0REIqpabh00Or4Q6zXh04/q
    rzAfBgNVHSMEGDAWgBRHw0REIqpabh00Or4Q6zXh04/qrzAPBgNVHRMBAf8EBTAD
    AQH/MCMGA1UdEQQcMBqGGHNmbWVkaXI6Ly90ZXN0L3Njcy9zY3MtMTAKBggqhkjO
    PQQDAgNHADBEAiAwRoWejQ00zYbaO8k9uDYTAmH5B9VIH08ZMWrXmLLItgIgayjX
    Yh4XXDq6hCBWPPhtZF6efpy5IiI5NW4zp7Uo9Fw=
    -----END CERTIFICATE-----
    """
}
