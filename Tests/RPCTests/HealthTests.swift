import Base
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(1))) struct HealthTests {
  private static let service = "sfmedir.v1.MasterCloud"
  private let health: HealthService
  private let harness: Harness

  init() throws {
    let health = HealthService(services: [Self.service], maximumWatchers: 4)
    self.health = health
    harness = try Harness(permissions: .cluster) { $0.addHealth(health) }
  }

  private func check(_ service: String, role: Role = .slave) async throws -> ServingStatus {
    var request = HealthCheckRequest()
    request.service = service
    return try await harness.channel(role: role).unary(
      HealthMethods.check, request, CallOptions(timeout: .seconds(20))
    ).status
  }

  private func watch(
    _ service: String, on channel: Channel
  ) async throws -> ClientCall<HealthCheckRequest, HealthCheckResponse> {
    let call = try await channel.open(HealthMethods.watch, CallOptions(timeout: .seconds(50)))
    var request = HealthCheckRequest()
    request.service = service
    try await call.sendLast(request)
    return call
  }

  /// gRPC's numbers, since others' clients know them by heart.
  @Test func numbers() {
    #expect(ServingStatus.unknown.rawValue == 0)
    #expect(ServingStatus.serving.rawValue == 1)
    #expect(ServingStatus.notServing.rawValue == 2)
    #expect(ServingStatus.serviceUnknown.rawValue == 3)
    #expect(HealthMethods.check.name == "grpc.health.v1.Health/Check")
    #expect(HealthMethods.watch.name == "grpc.health.v1.Health/Watch")
    var response = HealthCheckResponse()
    response.status = .notServing
    #expect(response.encoded() == [0x08, 0x02])
    var request = HealthCheckRequest()
    request.service = "a"
    #expect(request.encoded() == [0x0a, 0x01, 0x61])
  }

  @Test func checkTellsTheStatusOfEachService() async throws {
    #expect(try await check("") == .notServing)
    #expect(try await check(Self.service) == .notServing)
    health.set(.serving, for: Self.service)
    #expect(try await check("") == .notServing)
    #expect(try await check(Self.service) == .serving)
    health.setAll(.serving)
    #expect(try await check("") == .serving)
    health.set(.serving, for: "later")
    #expect(try await check("later") == .serving)
    await harness.stop()
  }

  @Test func checkOfAnUnknownServiceIsNotFound() async throws {
    let error = await #expect(throws: RPCError.self) { try await check("nobody") }
    #expect(error?.code == .notFound)
    await harness.stop()
  }

  @Test(arguments: Role.allCases) func everyRoleMayAsk(_ role: Role) async throws {
    #expect(try await check("", role: role) == .notServing)
    await harness.stop()
  }

  @Test func watchTellsTheStatusAndEachChange() async throws {
    let call = try await watch(Self.service, on: harness.channel())
    #expect(try await call.receiveMessage()?.status == .notServing)
    health.set(.serving, for: Self.service)
    #expect(try await call.receiveMessage()?.status == .serving)
    // The same again, and another service's change, are no change.
    health.set(.serving, for: Self.service)
    health.set(.serving, for: "")
    health.set(.notServing, for: Self.service)
    #expect(try await call.receiveMessage()?.status == .notServing)
    await harness.stop()
  }

  /// An unknown service may become known: the call goes on.
  @Test func watchOfAnUnknownServiceWaitsForIt() async throws {
    let call = try await watch("later", on: harness.channel())
    #expect(try await call.receiveMessage()?.status == .serviceUnknown)
    health.set(.serving, for: "later")
    #expect(try await call.receiveMessage()?.status == .serving)
    await harness.stop()
  }

  @Test func shutdownSaysNotServingAndEndsWatches() async throws {
    health.setAll(.serving)
    let channel = try harness.channel()
    let known = try await watch("", on: channel)
    let unknown = try await watch("nobody", on: channel)
    #expect(try await known.receiveMessage()?.status == .serving)
    #expect(try await unknown.receiveMessage()?.status == .serviceUnknown)
    health.shutDown()
    #expect(try await known.receiveMessage()?.status == .notServing)
    #expect(try await known.receiveMessage() == nil)
    #expect(try await unknown.receiveMessage() == nil)
    // What comes late changes nothing, and a watch that comes late is told and ends.
    health.setAll(.serving)
    health.set(.serving, for: "")
    #expect(try await check("") == .notServing)
    let late = try await watch("", on: channel)
    #expect(try await late.receiveMessage()?.status == .notServing)
    #expect(try await late.receiveMessage() == nil)
    #expect(health.watcherCount == 0)
    await harness.stop()
  }

  /// A reader that takes nothing gets the latest status later, not a queue of old ones.
  @Test func aSlowReaderGetsTheLatest() async throws {
    var limits = ConnectionLimits()
    limits.streamWindowBytes = 16 << 10
    let call = try await watch(Self.service, on: harness.channel(limits: limits))
    let rounds = 20_000
    #expect(try await call.receiveMessage()?.status == .notServing)
    for round in 0..<rounds {
      health.set(round.isMultiple(of: 2) ? .serving : .notServing, for: Self.service)
    }
    health.set(.serviceUnknown, for: Self.service)
    var received = 0
    while try await call.receiveMessage()?.status != .serviceUnknown { received += 1 }
    // The window has room for about 250 messages of 66 bytes.
    #expect(received < rounds / 2)
    await harness.stop()
  }

  @Test func watchersAreBoundedAndCountedOut() async throws {
    let channel = try harness.channel()
    var calls: [ClientCall<HealthCheckRequest, HealthCheckResponse>] = []
    for _ in 0..<4 {
      let call = try await watch("", on: channel)
      _ = try await call.receiveMessage()
      calls.append(call)
    }
    let refused = try await watch("", on: channel)
    let error = await failure { () async throws(RPCError) in try await refused.receiveMessage() }
    #expect(error?.code == .resourceExhausted)
    #expect(health.watcherCount == 4)
    calls.removeFirst().cancel()
    await eventually { health.watcherCount == 3 }
    let admitted = try await watch("", on: channel)
    #expect(try await admitted.receiveMessage()?.status == .notServing)
    calls = []
    admitted.cancel()
    await eventually { health.watcherCount == 0 }
    await harness.stop()
  }

  @Test func aNameTooLongIsRefused() async throws {
    let call = try await watch(String(repeating: "x", count: 257), on: harness.channel())
    let error = await failure { () async throws(RPCError) in try await call.receiveMessage() }
    #expect(error?.code == .invalidArgument)
    #expect(health.watcherCount == 0)
    await harness.stop()
  }
}
