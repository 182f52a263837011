import Base
import CWire
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(1))) struct ReflectionTests {
  private let harness: Harness
  private let channel: Channel

  init() throws {
    harness = try Harness(permissions: .cluster) { router in
      router.addReflection()
      router.unary(KeyControlMethods.listKeys) { _, _ in ListKeysReply() }
      router.streaming(SlaveCloudMethods.putShadow) { _ in }
      router.streaming(ImageUserMethods.queryImages) { _ in }
      router.unary(KeyControlMethods.join) { _, _ in JoinReply() }
    }
    channel = try harness.channel(role: .operatorTool)
  }

  private let options = CallOptions(timeout: .seconds(20))

  private func describe(_ names: [String]) async throws(RPCError) -> DescribeTypesReply {
    var request = DescribeTypesRequest()
    request.names = names
    return try await channel.unary(ReflectionMethods.describeTypes, request, options)
  }

  @Test func methodsAreListedWithTypesShapesAndRoles() async throws {
    let reply = try await channel.unary(ReflectionMethods.listMethods, Empty(), options)
    let names = reply.methods.map { "\($0.service)/\($0.name)" }
    #expect(
      names == [
        "sfmedir.v1.ImageUser/QueryImages", "sfmedir.v1.KeyControl/Join",
        "sfmedir.v1.KeyControl/ListKeys", "sfmedir.v1.Reflection/DescribeTypes",
        "sfmedir.v1.Reflection/ListMethods", "sfmedir.v1.Reflection/MethodMetrics",
        "sfmedir.v1.SlaveCloud/PutShadow",
      ])
    func method(_ name: String) throws -> MethodDescription {
      try #require(reply.methods.first { $0.name == name })
    }
    let keys = try method("ListKeys")
    #expect(keys.requestType == "sfmedir.v1.Empty")
    #expect(keys.replyType == "sfmedir.v1.ListKeysReply")
    #expect(!keys.clientStreams && !keys.serverStreams && !keys.open)
    #expect(keys.roles == ["operator"])
    #expect(keys.idempotency == .noSideEffects)
    let shadow = try method("PutShadow")
    #expect(shadow.clientStreams && !shadow.serverStreams)
    #expect(shadow.roles == ["mcs"])
    let query = try method("QueryImages")
    #expect(query.clientStreams && query.serverStreams)
    #expect(try method("Join").open)
    #expect(try method("Join").idempotency == .unknown)
    #expect(shadow.idempotency == .idempotent)
    await harness.stop()
  }

  @Test func typesComeWithAllThatTheyMention() async throws {
    let reply = try await describe(["sfmedir.v1.ListKeysReply"])
    #expect(
      reply.messages.map(\.name) == ["sfmedir.v1.KeySummary", "sfmedir.v1.ListKeysReply"])
    #expect(reply.enums.map(\.name) == ["sfmedir.v1.KeyKind"])
    let list = reply.messages[1].fields[0]
    #expect(list.name == "keys" && list.number == 1 && list.label == .repeated)
    #expect(list.type == .message && list.typeName == "sfmedir.v1.KeySummary")
    let kind = try #require(reply.messages[0].fields.first { $0.name == "kind" })
    #expect(kind.type == .enum && kind.typeName == "sfmedir.v1.KeyKind")
    #expect(kind.label == .singular && !kind.packed)
    let image = try #require(reply.enums[0].values.first { $0.name == "KEY_KIND_IMAGE" })
    #expect(image.number == KeyKind.image.rawValue)
    let stored = try await describe(["sfmedir.v1.HasImagesReply"]).messages[0].fields[0]
    #expect(stored.type == .bool && stored.packed)
    let health = try await describe(["grpc.health.v1.HealthCheckResponse"])
    #expect(health.enums.map(\.name) == ["grpc.health.v1.HealthCheckResponse.ServingStatus"])
    #expect(health.enums[0].values.map(\.number) == [0, 1, 2, 3])
    await harness.stop()
  }

  @Test func wrongNamesAreErrors() async throws {
    let unknown = await failure { () async throws(RPCError) in
      try await describe(["sfmedir.v1.Empty", "sfmedir.v1.Nothing"])
    }
    #expect(unknown?.code == .notFound)
    #expect(unknown?.message.contains("sfmedir.v1.Nothing") == true)
    for names in [[], [String](repeating: "sfmedir.v1.Empty", count: 65)] {
      let error = await failure { () async throws(RPCError) in try await describe(names) }
      #expect(error?.code == .invalidArgument)
    }
    await harness.stop()
  }

  /// Every type of every method can be had, and all of them together fit one answer by far.
  @Test func everyCompiledTypeIsDescribed() throws {
    for index in 0..<sfm_registered_method_count {
      let entry = sfm_registered_method_at(index).pointee
      for index in 0..<Int(entry.service.pointee.n_methods) {
        let method = entry.service.pointee.methods[index]
        for type in [method.input, method.output] {
          let name = String(cString: type!.pointee.name)
          #expect(try CompiledTypes.describe([name]).messages.contains { $0.name == name })
        }
      }
    }
    #expect(CompiledTypes.messageNames.count == registeredMessageTypes.count)
    let all = try CompiledTypes.describe(CompiledTypes.messageNames)
    #expect(all.messages.count == registeredMessageTypes.count)
    #expect(all.messages.flatMap(\.fields).allSatisfy { $0.type != .unspecified })
    #expect(all.encoded().count < ConnectionLimits().maximumFrameBytes / 8)
  }

  @Test func figuresAreThoseOfTheServer() async throws {
    let metrics = harness.server.methodMetrics
    let index = try #require(metrics.index(of: KeyControlMethods.listKeys.name))
    for _ in 0..<3 { metrics.began(index) }
    metrics.ended(
      index, status: .ok, durationNanoseconds: 2_000_000, receivedBytes: 10, sentBytes: 20)
    metrics.ended(
      index, status: .notFound, durationNanoseconds: 4_000_000, receivedBytes: 1, sentBytes: 0)
    let reply = try await channel.unary(ReflectionMethods.methodMetrics, Empty(), options)
    #expect(reply.methods.map(\.method) == metrics.methods)
    let figures = try #require(
      reply.methods.first { $0.method == KeyControlMethods.listKeys.name })
    #expect(figures.calls == 3)
    #expect(figures.inFlight == 1)
    #expect(figures.statuses.map(\.status) == [0, 5])
    #expect(figures.statuses.map(\.calls) == [1, 1])
    #expect(figures.receivedBytes == 11)
    #expect(figures.sentBytes == 20)
    #expect((1_880_000...2_120_000).contains(figures.p50Nanoseconds))
    #expect(figures.maximumNanoseconds == 4_000_000)
    await harness.stop()
  }

  @Test(arguments: Role.allCases.filter { $0 != .operatorTool })
  func onlyAnOperatorMayLookInside(_ role: Role) async throws {
    let channel = try harness.channel(role: role)
    for method in [ReflectionMethods.listMethods.name, ReflectionMethods.methodMetrics.name] {
      let method = Method<Empty, Empty>(method, clientStreams: false, serverStreams: false)
      let error = await failure { () async throws(RPCError) in
        try await channel.unary(method, Empty(), options)
      }
      #expect(error?.code == .permissionDenied)
    }
    await harness.stop()
  }

  /// One table, and the methods of the schemas: neither has what the other lacks. No daemon serves the echo.
  @Test func theTableAndTheSchemasAgree() {
    var names: Set<String> = []
    for index in 0..<sfm_registered_method_count {
      let entry = sfm_registered_method_at(index).pointee
      if String(cString: entry.file) == "echo" { continue }
      names.insert(
        String(cString: entry.service.pointee.name) + "/" + String(cString: entry.method))
    }
    #expect(PermissionTable.cluster.methods == names)
  }

  @Test func servicesOfARouter() throws {
    var router = Router()
    router.unary(KeyControlMethods.listKeys) { _, _ in ListKeysReply() }
    router.unary(KeyControlMethods.join) { _, _ in JoinReply() }
    #expect(router.services == ["sfmedir.v1.KeyControl"])
    let health = router.addHealthAndReflection()
    #expect(
      router.services == [
        "grpc.health.v1.Health", "sfmedir.v1.KeyControl", "sfmedir.v1.Reflection",
      ]
    )
    var request = HealthCheckRequest()
    request.service = "sfmedir.v1.KeyControl"
    #expect(try health.check(request).status == .notServing)
  }
}
