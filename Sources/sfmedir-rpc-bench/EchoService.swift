import Logging
import Messages
import RPC

/// Gives back what it is sent.
enum EchoService {
  static let maximumBulkBytes = 64 << 20

  static let permissions = PermissionTable([
    EchoMethods.echoOnce.name: [.master],
    EchoMethods.echoBulk.name: [.master],
  ])

  static var router: Router {
    var router = Router()
    router.immediate(EchoMethods.echoOnce) { request, _ in request }
    router.streaming(EchoMethods.echoBulk) { call in
      let header = try await call.receiveMessage()
      let body = try await call.receiveBulk(count: header.bodyBytes, maximum: maximumBulkBytes)
      try await call.send(header)
      try await call.send(bulk: body)
    }
    return router
  }

  static func server(
    _ tls: TLSContext, port: UInt16, group: EventLoopGroup,
    change: (inout ServerConfiguration) -> Void = { _ in }
  ) throws -> Server {
    var configuration = ServerConfiguration(
      address: Address(host: "127.0.0.1", port: port), cluster: CertificateFolder.cluster)
    configuration.permissions = permissions
    configuration.maximumConnections = 20_000
    configuration.maximumHandshakes = 20_000
    change(&configuration)
    let server = Server(
      configuration: configuration, tls: tls, router: router, group: group, logger: quietLogger)
    try server.start()
    return server
  }

  static var quietLogger: Logger {
    var logger = Logger(label: "rpc-bench")
    logger.logLevel = .error
    return logger
  }

  static func channel(_ tls: TLSContext, port: UInt16, group: EventLoopGroup) -> Channel {
    Channel(
      address: Address(host: "127.0.0.1", port: port), tls: tls,
      expecting: PeerExpectation(cluster: CertificateFolder.cluster, role: .slave), group: group,
      logger: quietLogger)
  }
}
