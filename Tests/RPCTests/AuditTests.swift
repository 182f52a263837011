import Base
import Logging
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(1))) struct AuditTests {
  private let log = CapturedLog()

  private func harness() throws -> Harness {
    try Harness(
      interceptors: [
        AuditInterceptor(logger: log.logger), TracingInterceptor(logger: log.logger),
      ], serverLogger: log.logger
    ) { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in SlaveStatusReply() }
      router.unary(SlaveCloudMethods.listShadows) { _, _ in
        throw RPCError(.permissionDenied, "not these")
      }
      router.streaming(SlaveCloudMethods.putShadow) { call in
        let header = try await call.receiveMessage()
        _ = try await call.receiveBulk(count: header.bodyBytes, maximum: 1 << 20)
        if header.name == [1] { throw CaptureFailure() }
        try await call.send(PutShadowReply())
      }
    }
  }

  private struct CaptureFailure: Error {}

  private func put(_ channel: Channel, name: [UInt8], _ options: CallOptions) async throws {
    let call = try await channel.open(SlaveCloudMethods.putShadow, options)
    var header = PutShadowHeader()
    header.name = name
    header.bodyBytes = 5
    try await call.send(header)
    try await call.send(bulk: [1, 2, 3, 4, 5])
    try await call.finishSending()
    _ = try await call.receiveOnly()
  }

  private var audited: [String] { log.lines.filter { $0.contains("audit: ") } }

  @Test func changesAndRefusalsAreWrittenReadsAreNot() async throws {
    let harness = try harness()
    let channel = try harness.channel()
    var options = CallOptions(timeout: .seconds(30))
    _ = try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
    options.trace = .begin()
    let trace = try #require(options.trace).traceIDText
    try await put(channel, name: [0], options)
    await eventually { audited.count == 1 }
    let line = try #require(audited.first)
    #expect(line.hasPrefix("notice audit: call "))
    for part in [
      "method=sfmedir.v1.SlaveCloud/PutShadow", "caller=sfmedir://test/mcs/node-1", "status=OK",
      "trace=\(trace)", "duration_us=",
    ] {
      #expect(line.contains(part), "\(part) in \(line)")
    }
    let received = try #require(
      line.split(separator: " ").first { $0.hasPrefix("received_bytes=") })
    #expect(Int(received.dropFirst("received_bytes=".count)).map { $0 > 5 } == true)

    // Refused by its handler, though it changes nothing; by the table; for there being no such method.
    _ = await failure { () async throws(RPCError) in
      try await channel.unary(SlaveCloudMethods.listShadows, ListShadowsRequest(), options)
    }
    let user = try harness.channel(role: .imageUser)
    _ = await failure { () async throws(RPCError) in
      try await user.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
    }
    _ = await failure { () async throws(RPCError) in
      try await channel.unary(MasterCloudMethods.clusterStatus, Empty(), options)
    }
    await eventually { audited.count == 4 }
    let refused = audited.dropFirst()
    #expect(refused.allSatisfy { $0.hasPrefix("notice audit: call refused ") })
    #expect(refused.allSatisfy { $0.contains("trace=\(trace)") })
    #expect(audited[1].contains("ListShadows ") && audited[1].contains("status=PERMISSION_DENIED"))
    #expect(audited[2].contains("caller=sfmedir://test/mu/node-1"))
    #expect(audited[3].contains("status=UNIMPLEMENTED"))
    await harness.stop()
  }

  @Test func sampledCallsAndFailuresCarryTheirTrace() async throws {
    let harness = try harness()
    let channel = try harness.channel()
    var options = CallOptions(timeout: .seconds(30))
    let sampled = TraceContext.begin()
    options.trace = sampled
    _ = try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
    await eventually { log.contains("call traced") }
    let line = try #require(log.lines.first { $0.contains("call traced") })
    #expect(line.hasPrefix("debug "))
    #expect(line.contains("trace=\(sampled.traceIDText)"))
    #expect(line.contains("span=\(sampled.spanIDText)"))

    let unsampled = TraceContext.begin(isSampled: false)
    options.trace = unsampled
    await #expect(throws: RPCError.self) { try await put(channel, name: [1], options) }
    await eventually { audited.count == 1 }
    let failed = try #require(log.lines.first { $0.contains("handler failed") })
    #expect(failed.contains("trace=\(unsampled.traceIDText)"))
    #expect(audited[0].contains("status=INTERNAL"))
    #expect(log.lines.filter { $0.contains("call traced") }.count == 1)
    await harness.stop()
  }

  @Test func aFloodIsCountedNotWritten() throws {
    let clock = ManualClock()
    let audit = AuditInterceptor(logger: log.logger, clock: clock)
    let refused = RefusedCall(
      method: "a/b", caller: nil, error: RPCError(.unimplemented, "no"), metadata: [])
    for _ in 0..<10_000 { audit.refused(refused) }
    let allowed = AuditInterceptor.refusalsAtOnce
    #expect(audited.count == allowed + 1)
    #expect(audited.last?.hasPrefix("warning audit: too many calls, lines are left out") == true)

    // Refusals of strangers push out no change.
    let context = CallContext(
      method: "c/d", caller: try TestAuthority().identity(.master, "mcs-1"), deadlineNanoseconds: 0)
    let record = CallRecord(
      status: .ok, reason: "", durationNanoseconds: 1, receivedBytes: 2, sentBytes: 3)
    audit.ended(context, record)
    #expect(audited.last?.contains("method=c/d") == true)

    clock.advance(seconds: 1)
    audit.refused(refused)
    #expect(
      audited.dropLast().last
        == "warning audit: lines were left out count=\(10_000 - allowed) of=refusals")
    #expect(audited.last?.hasPrefix("notice audit: call refused") == true)
    // A second earns a few lines, not the whole allowance.
    let before = audited.count
    for _ in 0..<100 { audit.refused(refused) }
    #expect(audited.count == before + Int(AuditInterceptor.refusalsPerSecond))
  }
}
