import Base
import Logging
import Messages
import TestSupport

@testable import RPC

/// What a client in another language talks to: routes for each call shape, in front of a shelf of shadows
/// in memory, and methods that end only by cancellation.
final class InteropServers: Sendable {
  /// How many calls of the methods that hang have begun, and how many were ended by their caller.
  struct Hung: Equatable { var begun = 0, ended = 0 }

  let authority: TestAuthority
  /// The second one lets strangers join, pings often, and shuts down when it is told to.
  let ordinary, draining: Server
  private let hung = Locked(Hung())
  private let shelf = Locked<[[UInt8]: [UInt8]]>([:])
  private let group = EventLoopGroup(count: 2)

  static let permissions = PermissionTable(
    [
      SlaveCloudMethods.slaveStatus.name: [.master],
      SlaveCloudMethods.listShadows.name: [.master],
      SlaveCloudMethods.putShadow.name: [.master],
      SlaveCloudMethods.getShadow.name: [.master],
      SlaveCloudMethods.deleteShadows.name: [.operatorTool],
      ImageUserMethods.queryImages.name: [.master],
      ImageUserMethods.getImage.name: [.master],
      ImageUserMethods.userStatus.name: [.master],
    ],
    open: [KeyControlMethods.join.name])

  init() throws {
    let authority = try TestAuthority()
    self.authority = authority
    var logger = Logger(label: "interop-tests")
    logger.logLevel = .critical
    let drain = Locked<Server?>(nil)
    let (hung, shelf, group) = (self.hung, self.shelf, self.group)
    let start = { (node: String, isDraining: Bool) throws -> Server in
      var configuration = ServerConfiguration(
        address: Address(host: "127.0.0.1", port: 0), cluster: "test")
      configuration.permissions = Self.permissions
      // Here a slow machine is no fault.
      configuration.limits.handshakeMilliseconds = 60_000
      // Asks soon and often, so that a test sees the client answer.
      if isDraining {
        configuration.limits.keepaliveMilliseconds = 200
        configuration.limits.keepaliveTimeoutMilliseconds = 4000
      }
      var router = Router()
      Self.shelfRoutes(&router, shelf)
      Self.otherRoutes(&router, hung, drain)
      let server = Server(
        configuration: configuration,
        tls: try .server(authority.credentials(.slave, node), admitsStrangers: isDraining),
        router: router, group: group, logger: logger)
      try server.start()
      return server
    }
    ordinary = try start("scs-1", false)
    draining = try start("scs-2", true)
    drain.withLock { $0 = draining }
  }

  var hungCalls: Hung { hung.withLock { $0 } }

  func stop() async {
    await ordinary.shutdown(graceMilliseconds: 0)
    await draining.shutdown(graceMilliseconds: 0)
  }

  private static func shelfRoutes(_ router: inout Router, _ shelf: Locked<[[UInt8]: [UInt8]]>) {
    router.unary(SlaveCloudMethods.listShadows) { request, context in
      var reply = ListShadowsReply()
      reply.names = [request.after, Array(context.identity.uri.utf8)]
      return reply
    }
    router.streaming(SlaveCloudMethods.putShadow) { call in
      let header = try await call.receiveMessage()
      let body = try await call.receiveBulk(count: header.bodyBytes, maximum: 64 << 20)
      // A name here is the beginning of the body's digest, so that the server checks the bytes too.
      guard Array(sha256(body).prefix(16)) == header.name else {
        throw RPCError(
          .invalidArgument, "the body is not what its name says", reason: "DigestMismatch")
      }
      var reply = PutShadowReply()
      reply.existed = shelf.withLock { $0.updateValue(body, forKey: header.name) } != nil
      try await call.send(reply)
    }
    router.streaming(SlaveCloudMethods.getShadow) { call in
      let request = try await call.receiveMessage()
      guard let body = shelf.withLock({ $0[request.name] }) else {
        throw RPCError(.notFound, "no shadow has this name", reason: "NoSuchShadow")
      }
      var header = GetShadowHeader()
      header.bodyBytes = UInt64(body.count)
      try await call.send(header)
      try await call.send(bulk: body)
    }
    router.unary(SlaveCloudMethods.deleteShadows) { _, _ in DeleteShadowsReply() }
  }

  private static func otherRoutes(
    _ router: inout Router, _ hung: Locked<Hung>, _ drain: Locked<Server?>
  ) {
    router.streaming(ImageUserMethods.queryImages) { call in
      var rank: UInt32 = 0
      while let part = try await call.receive() {
        switch part {
        case .message(let header):
          rank += 1
          var result = QueryResult()
          result.rank = rank
          result.fileBytes = header.fileBytes
          try await call.send(result)
        case .bulk(let bytes): try await call.send(bulk: bytes)
        }
      }
    }
    router.unary(SlaveCloudMethods.slaveStatus) { _, _ in
      try await hang(hung)
      return SlaveStatusReply()
    }
    // Never reads: what it is sent stays in its window.
    router.streaming(ImageUserMethods.getImage) { _ in try await hang(hung) }
    router.unary(KeyControlMethods.join) { _, _ in JoinReply() }
    router.unary(ImageUserMethods.userStatus) { _, _ in
      guard let server = drain.withLock({ $0 }) else { return NodeStatusReply() }
      Task { await server.shutdown(graceMilliseconds: 120_000) }
      return NodeStatusReply()
    }
  }

  private static func hang(_ hung: Locked<Hung>) async throws {
    hung.withLock { $0.begun += 1 }
    defer { hung.withLock { $0.ended += 1 } }
    try await Task.sleep(for: .seconds(3600))
  }
}
