import Base
import Logging
import Messages
import RPC
import TestSupport
import Testing

@testable import CommandLineTool

/// A server whose methods are called by what it says of them itself.
@Suite(.timeLimit(.minutes(1))) struct DynamicCallTests {
  private let server: Server
  private let target: DaemonTarget
  private let scratch: TemporaryDirectory
  private let options = CallOptions(timeout: .seconds(30))

  init() throws {
    scratch = try TemporaryDirectory("rpc")
    let authority = try TestAuthority()
    let group = EventLoopGroup(count: 1)
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    var configuration = ServerConfiguration(
      address: Address(host: "127.0.0.1", port: 0), cluster: "test")
    configuration.permissions = PermissionTable(
      Dictionary(
        PermissionTable.cluster.methods.map { ($0, [.operatorTool]) }, uniquingKeysWith: { $1 }))
    var router = Router()
    Self.routes(&router)
    _ = router.addHealthAndReflection()
    server = Server(
      configuration: configuration, tls: try .server(authority.credentials(.slave, "scs-1")),
      router: router, group: group, logger: logger)
    try server.start()
    let address = Address(host: "127.0.0.1", port: server.port)
    target = DaemonTarget(
      role: .slave, address: address, node: "scs-1",
      channel: Channel(
        address: address, tls: try .client(authority.credentials(.operatorTool, "op-1")),
        expecting: PeerExpectation(cluster: "test", role: .slave), group: group, logger: logger))
  }

  private static func routes(_ router: inout Router) {
    router.unary(MasterCloudMethods.hasImages) { request, context in
      var reply = HasImagesReply()
      reply.stored = request.imageIDs.map { $0.first == 1 }
      if let entry = context.metadata.first { reply.stored.append(entry.key == "k") }
      return reply
    }
    router.unary(KeyControlMethods.rotateKey) { request, _ in
      throw RPCError(.failedPrecondition, "kind \(request.kind.rawValue)", reason: "Testing")
    }
    // Counts messages and bytes of the request, whatever their order.
    router.streaming(SlaveCloudMethods.putShadow) { call in
      var (messages, bytes) = (0, 0)
      while let part = try await call.receive() {
        switch part {
        case .message(let message) where message.bodyBytes == 666:
          throw RPCError(.aborted, "after \(messages) messages")
        case .message: messages += 1
        case .bulk(let piece): bytes += piece.count
        }
      }
      var reply = PutShadowReply()
      reply.existed = messages == 2 && bytes == 100_000
      try await call.send(reply)
    }
    router.streaming(SlaveCloudMethods.getShadow) { call in
      _ = try await call.receiveMessage()
      for number in 1...3 {
        var reply = GetShadowHeader()
        reply.bodyBytes = UInt64(number)
        try await call.send(reply)
        try await call.send(bulk: [UInt8](repeating: UInt8(number), count: number))
      }
    }
    // Echoes each message and each piece at once, so that both directions are busy together.
    router.streaming(ImageUserMethods.queryImages) { call in
      while let part = try await call.receive() {
        switch part {
        case .message(let header):
          var result = QueryResult()
          result.rank = header.count
          result.problem = String(repeating: "x", count: 10)
          try await call.send(result)
        case .bulk(let piece): try await call.send(bulk: piece)
        }
      }
    }
  }

  private func method(_ name: String) async throws -> MethodDescription {
    let found = MethodDescription.named(
      name, in: try await target.methods(timeout: .seconds(30)))
    #expect(found.count == 1)
    return try #require(found.first)
  }

  private func call(
    _ name: String, _ json: String, bulk: [UInt8]? = nil, metadata: [String] = []
  ) async throws -> (messages: [String], bulk: [UInt8]) {
    let method = try await method(name)
    let schema = try await target.schema(
      of: [method.requestType, method.replyType], timeout: .seconds(30))
    var call = DynamicCall(
      method: method, schema: schema,
      requests: try JSONInput.messages(Array(json.utf8), several: method.clientStreams))
    if let bulk { call.bulkPath = try scratch.write("bulk", bulk) }
    var options = options
    options.metadata = try RPCCallCommand.metadata(metadata)
    var answers: (messages: [String], bulk: [UInt8]) = ([], [])
    try await call.perform(on: target.channel, options) { answer in
      switch answer {
      case .message(let message): answers.messages.append(message.line)
      case .bulk(let bytes): answers.bulk += bytes
      }
    }
    return answers
  }

  private func failure(_ name: String, _ json: String, bulk: [UInt8]? = nil) async
    -> CommandFailure?
  {
    do {
      _ = try await call(name, json, bulk: bulk)
      return nil
    } catch {
      return CommandFailure(error)
    }
  }

  @Test func unary() async throws {
    let answer = try await call("MasterCloud/HasImages", #"{"imageIds":["AQ==","Ag=="]}"#)
    #expect(answer.messages == [#"{"stored":[true,false]}"#])
    #expect(answer.bulk.isEmpty)
    let withMetadata = try await call("HasImages", "{}", metadata: ["k=v=w"])
    #expect(withMetadata.messages == [#"{"stored":[true]}"#])
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func clientStreaming() async throws {
    let bulk = SeededEntropy(seed: 1).bytes(100_000)
    let json = #"{"bodyBytes":"1"}"# + "\n\n" + #"{"body_bytes":2}"#
    let answer = try await call("PutShadow", json, bulk: bulk)
    #expect(answer.messages == [#"{"existed":true}"#])
    #expect(try await call("PutShadow", "").messages == ["{}"])
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func serverStreaming() async throws {
    let answer = try await call("GetShadow", "{}")
    #expect(
      answer.messages == [
        #"{"bodyBytes":"1"}"#, #"{"bodyBytes":"2"}"#, #"{"bodyBytes":"3"}"#,
      ])
    #expect(answer.bulk == [1, 2, 2, 3, 3, 3])
    await server.shutdown(graceMilliseconds: 0)
  }

  /// More than both windows hold: a client that only sent before it received would wait for ever.
  @Test func bothStreaming() async throws {
    let bulk = SeededEntropy(seed: 2).bytes(12 << 20)
    let answer = try await call("QueryImages", #"{"count":7}"#, bulk: bulk)
    #expect(answer.messages == [#"{"rank":7,"problem":"xxxxxxxxxx"}"#])
    #expect(answer.bulk == bulk)
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func errorsOfTheMethodComeThrough() async throws {
    let refused = await failure("RotateKey", #"{"kind":"KEY_KIND_IMAGE"}"#)
    #expect(refused?.code == "FAILED_PRECONDITION")
    #expect(refused?.reason == "Testing")
    // The server ends the call while bulk is still being sent.
    let aborted = await failure(
      "PutShadow", #"{"bodyBytes":666}"#, bulk: [UInt8](repeating: 0, count: 8 << 20))
    #expect(aborted?.code == "ABORTED")
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func whatDoesNotFitTheMethodIsToldBeforeTheCall() async throws {
    let unknown = await failure("HasImages", #"{"imageIDs":[]}"#)
    #expect(unknown?.status == .badInput)
    #expect(unknown?.code == "BAD_MESSAGE")
    #expect(unknown?.message.contains("imageIDs") == true)
    #expect(await failure("HasImages", "{")?.code == "BAD_JSON")
    #expect(await failure("HasImages", "{}\n{}")?.code == "BAD_JSON")
    #expect(await failure("PutShadow", "{}\n{]")?.message.contains("line 2") == true)
    #expect(await failure("HasImages", "{}", bulk: [1])?.status == .usage)
    #expect(await failure("HasImages", "{\"a\":\"\u{FFFD}\"}")?.code == "BAD_MESSAGE")
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func aFileThatIsNotThere() async throws {
    let method = try await method("PutShadow")
    let schema = try await target.schema(
      of: [method.requestType, method.replyType], timeout: .seconds(30))
    var call = DynamicCall(method: method, schema: schema, requests: [.object([:])])
    call.bulkPath = scratch.path("nowhere")
    await #expect(throws: FileError.self) {
      try await call.perform(on: target.channel, options) { _ in }
    }
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func schemasOfUnknownTypes() async throws {
    await #expect(throws: RPCError.self) {
      try await target.schema(of: ["sfmedir.v1.Nothing"], timeout: .seconds(30))
    }
    await server.shutdown(graceMilliseconds: 0)
  }

  @Test func methodsAreFoundByTheirEnd() async throws {
    let methods = try await target.methods(timeout: .seconds(30))
    #expect(MethodDescription.named("sfmedir.v1.SlaveCloud/PutShadow", in: methods).count == 1)
    #expect(MethodDescription.named("SlaveCloud/PutShadow", in: methods).count == 1)
    #expect(MethodDescription.named("PutShadow", in: methods).count == 1)
    #expect(MethodDescription.named("Shadow", in: methods).isEmpty)
    let answers = [
      DaemonAnswer(target: target, result: .success(methods)),
      DaemonAnswer(target: target, result: .success(methods)),
      DaemonAnswer(target: target, result: .failure(RPCError(.unavailable, "down"))),
    ]
    #expect(throws: CommandFailure.self) {
      try DaemonDirectory.find("PutShadow", in: answers, mustBeOne: true)
    }
    let found = try DaemonDirectory.find("PutShadow", in: answers, mustBeOne: false)
    #expect(found?.1.name == "PutShadow")
    #expect(try DaemonDirectory.find("Nothing", in: answers, mustBeOne: true) == nil)
    #expect(DaemonDirectory.nothing(named: "x", "method", answers).status == .notFound)
    #expect(
      DaemonDirectory.nothing(named: "x", "method", Array(answers.suffix(1))).status == .unavailable
    )
    await server.shutdown(graceMilliseconds: 0)
  }

  // MARK: health

  @Test func healthIsWatchedThroughTheEnd() async throws {
    let observed = Locked<[String]>([])
    let watch = Task { [target] in
      await HealthWatch(service: "", endNanoseconds: nil, retryAfter: .milliseconds(1)).run(
        [target]
      ) { observation in observed.withLock { $0.append(observation.name) } }
    }
    await eventually { observed.withLock { $0 == ["NOT_SERVING"] } }
    await server.shutdown(graceMilliseconds: 0)
    await eventually { observed.withLock { $0.count == 2 } }
    #expect(observed.withLock { $0 } == ["NOT_SERVING", "UNREACHABLE"])
    watch.cancel()
    #expect(await watch.value.map(\.isServing) == [false])
  }

  @Test func healthOfAnUnknownService() async throws {
    let observation = await HealthObservation.check(target, "nobody", .seconds(30))
    #expect(observation.name == "SERVICE_UNKNOWN")
    #expect(observation.error == nil)
    #expect(
      observation.line(service: "nobody").keys
        == ["type", "role", "node", "address", "service", "status", "problem"])
    await server.shutdown(graceMilliseconds: 0)
  }
}
