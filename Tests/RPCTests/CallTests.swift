import Base
import Messages
import TestSupport
import Testing

@testable import RPC

@Suite(.timeLimit(.minutes(2))) struct CallTests {
  static func echoRoutes(_ router: inout Router) {
    router.unary(SlaveCloudMethods.listShadows) { request, context in
      var reply = ListShadowsReply()
      reply.names = [request.after, Array(context.identity.uri.utf8)]
      return reply
    }
    router.streaming(SlaveCloudMethods.putShadow) { call in
      let header = try await call.receiveMessage()
      let body = try await call.receiveBulk(count: header.bodyBytes, maximum: 64 << 20)
      var reply = PutShadowReply()
      reply.existed = sha256(body) == header.name
      try await call.send(reply)
    }
    router.streaming(SlaveCloudMethods.getShadow) { call in
      let request = try await call.receiveMessage()
      let bytes = SeededEntropy(seed: UInt64(request.name[0])).bytes(5_000_000)
      var header = GetShadowHeader()
      header.bodyBytes = UInt64(bytes.count)
      try await call.send(header)
      try await call.send(bulk: bytes)
    }
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
  }

  @Test func aUnaryCallReachesItsHandlerWithTheCallersIdentity() async throws {
    let harness = try Harness(routes: Self.echoRoutes)
    let channel = try harness.channel()
    var request = ListShadowsRequest()
    request.after = [1, 2, 3]
    let reply = try await channel.unary(
      SlaveCloudMethods.listShadows, request, CallOptions(timeout: .seconds(30)))
    #expect(reply.names == [[1, 2, 3], Array("sfmedir://test/mcs/node-1".utf8)])
    await harness.stop()
  }

  @Test func bulkBytesArriveWholeInBothDirections() async throws {
    let harness = try Harness(routes: Self.echoRoutes)
    let channel = try harness.channel()
    let body = SeededEntropy(seed: 7).bytes(20_000_000)
    let put = try await channel.open(
      SlaveCloudMethods.putShadow, CallOptions(timeout: .seconds(60)))
    var header = PutShadowHeader()
    header.name = sha256(body)
    header.bodyBytes = UInt64(body.count)
    try await put.send(header)
    try await put.send(bulk: body)
    try await put.finishSending()
    #expect(try await put.receiveOnly().existed)

    let get = try await channel.open(
      SlaveCloudMethods.getShadow, CallOptions(timeout: .seconds(60)))
    var request = GetShadowRequest()
    request.name = [9]
    try await get.sendLast(request)
    let announced = try #require(try await get.receiveMessage())
    let bytes = try await get.receiveBulk(count: announced.bodyBytes, maximum: 8 << 20)
    #expect(bytes == SeededEntropy(seed: 9).bytes(5_000_000))
    #expect(try await get.receive() == nil)
    await harness.stop()
  }

  @Test func manyCallsOfAllSizesShareOneConnection() async throws {
    let harness = try Harness(routes: Self.echoRoutes)
    let channel = try harness.channel()
    let entropy = SeededEntropy.announced()
    let sizes = (0..<60).map { _ in Int(entropy.uniform(below: 400_000)) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (index, size) in sizes.enumerated() {
        group.addTask {
          let call = try await channel.open(
            ImageUserMethods.queryImages, CallOptions(timeout: .seconds(90)))
          let bytes = SeededEntropy(seed: UInt64(index)).bytes(size)
          var header = QueryImagesHeader()
          header.fileBytes = UInt64(size)
          // Sent while the echo comes back: neither side may wait for the other.
          async let sending: Void = {
            try await call.send(header)
            try await call.send(bulk: bytes)
            try await call.finishSending()
          }()
          let result = try #require(try await call.receiveMessage())
          let echo = try await call.receiveBulk(count: result.fileBytes, maximum: size)
          try await sending
          #expect(echo == bytes)
          #expect(try await call.receive() == nil)
        }
      }
      try await group.waitForAll()
    }
    #expect(harness.server.connectionCount == 1)
    await harness.stop()
  }

  @Test func aHandlersErrorComesBackWithItsCodeAndReason() async throws {
    let harness = try Harness { router in
      router.unary(SlaveCloudMethods.listShadows) { _, _ in
        throw RPCError(.dataLoss, "shadow 3 is gone", reason: "DamagedRecord")
      }
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in throw SecretTrouble() }
    }
    let channel = try harness.channel()
    let options = CallOptions(timeout: .seconds(30))
    let known = await failure { () async throws(RPCError) in
      try await channel.unary(SlaveCloudMethods.listShadows, ListShadowsRequest(), options)
    }
    #expect(known == RPCError(.dataLoss, "shadow 3 is gone", reason: "DamagedRecord"))
    // What the server did not mean to say stays there.
    let unknown = await failure { () async throws(RPCError) in
      try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
    }
    #expect(unknown?.code == .internalError)
    #expect(unknown?.message.contains("password") == false)
    await harness.stop()
  }

  private struct SecretTrouble: Error, CustomStringConvertible {
    var description: String { "password=hunter2" }
  }

  @Test func theDeadlineReachesTheServerAndEndsItsHandler() async throws {
    let remaining = Locked<Duration?>(nil)
    let ended = Gate()
    let harness = try Harness { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, context in
        remaining.withLock { $0 = context.remaining }
        do {
          try await Task.sleep(for: .seconds(3600))
        } catch {
          await ended.open()
          throw error
        }
        return SlaveStatusReply()
      }
    }
    let channel = try harness.channel()
    // On a slow machine a deadline may pass before the call reaches the handler: then once more.
    while remaining.withLock({ $0 }) == nil && !Task.isCancelled {
      let error = await failure { () async throws(RPCError) in
        try await channel.unary(
          SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: .milliseconds(300)))
      }
      #expect(error?.code == .deadlineExceeded)
    }
    await ended.wait()
    let seen = try #require(remaining.withLock { $0 })
    #expect(seen > .zero && seen <= .milliseconds(300))
    await harness.stop()
  }

  @Test func cancellingTheTaskCancelsTheHandler() async throws {
    let (started, ended) = (Gate(), Gate())
    let harness = try Harness { router in
      router.streaming(SlaveCloudMethods.getShadow) { call in
        _ = try await call.receiveMessage()
        await started.open()
        do {
          try await Task.sleep(for: .seconds(3600))
        } catch {
          await ended.open()
          throw error
        }
      }
    }
    let channel = try harness.channel()
    let task = Task {
      let call = try await channel.open(
        SlaveCloudMethods.getShadow, CallOptions(timeout: .seconds(3000)))
      try await call.sendLast(GetShadowRequest())
      _ = try await call.receive()
    }
    await started.wait()
    task.cancel()
    await #expect(throws: RPCError(.cancelled, "the caller cancelled")) { try await task.value }
    await ended.wait()
    await harness.stop()
  }

  @Test func aServerThatGivesUpFreesAWaitingSender() async throws {
    let harness = try Harness { router in
      router.streaming(SlaveCloudMethods.putShadow) { call in
        _ = try await call.receiveMessage()
        throw RPCError(.resourceExhausted, "full")
      }
    }
    let channel = try harness.channel()
    let call = try await channel.open(
      SlaveCloudMethods.putShadow, CallOptions(timeout: .seconds(60)))
    try await call.send(PutShadowHeader())
    // Far beyond the window: without the server's answer this would wait for ever.
    let error = await failure { () async throws(RPCError) in
      try await call.send(bulk: [UInt8](repeating: 1, count: 50_000_000))
    }
    #expect(error == RPCError(.resourceExhausted, "full"))
    await harness.stop()
  }

  @Test func aReaderThatStopsHoldsTheSenderAtItsWindow() async throws {
    let sent = Locked(0)
    let ended = Gate()
    let harness = try Harness { router in
      router.streaming(SlaveCloudMethods.getShadow) { call in
        _ = try await call.receiveMessage()
        do {
          for _ in 0..<1000 {
            try await call.send(bulk: [UInt8](repeating: 0, count: 100_000))
            sent.withLock { $0 += 100_000 }
          }
        } catch {
          await ended.open()
          throw error
        }
      }
    }
    var limits = ConnectionLimits()
    limits.streamWindowBytes = 1 << 20
    let channel = try harness.channel(limits: limits)
    let call = try await channel.open(
      SlaveCloudMethods.getShadow, CallOptions(timeout: .seconds(100)))
    try await call.sendLast(GetShadowRequest())
    // Never reads. Ten pieces fill the window; however often the connection is used after that,
    // there is no eleventh.
    await eventually { sent.withLock { $0 } == 1_000_000 }
    for _ in 0..<20 {
      let refused = await failure { () async throws(RPCError) in
        try await channel.unary(
          SlaveCloudMethods.listShadows, ListShadowsRequest(), CallOptions(timeout: .seconds(30)))
      }
      #expect(refused?.code == .unimplemented)
    }
    #expect(sent.withLock { $0 } == 1_000_000)
    call.cancel()
    await ended.wait()
    // The connection and other calls on it are well.
    let other = try await channel.open(
      SlaveCloudMethods.getShadow, CallOptions(timeout: .seconds(30)))
    try await other.sendLast(GetShadowRequest())
    guard case .bulk = try await other.receive() else {
      Issue.record("no bytes on the second call")
      return
    }
    other.cancel()
    await harness.stop()
  }

  @Test func aReaderThatTakesNothingIsCutOff() async throws {
    var limits = ConnectionLimits()
    limits.slowReaderMilliseconds = 200
    let failure = Locked<RPCError?>(nil)
    let ended = Gate()
    let harness = try Harness(limits: limits) { router in
      router.streaming(SlaveCloudMethods.getShadow) { call in
        _ = try await call.receiveMessage()
        do {
          while true { try await call.send(bulk: [UInt8](repeating: 0, count: 100_000)) }
        } catch {
          failure.withLock { $0 = error as? RPCError }
          await ended.open()
          throw error
        }
      }
    }
    let channel = try harness.channel()
    let call = try await channel.open(
      SlaveCloudMethods.getShadow, CallOptions(timeout: .seconds(100)))
    try await call.sendLast(GetShadowRequest())
    await ended.wait()
    #expect(failure.withLock { $0?.reason } == "SlowReader")
    await harness.stop()
  }

  /// Both sides must count the same for every frame, or windows drift apart over a long life.
  @Test func emptyMessagesCostWhatTheReceiverCounts() async throws {
    let reading = Gate()
    let harness = try Harness(limits: Self.smallConnection) { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in SlaveStatusReply() }
      router.streaming(SlaveCloudMethods.putShadow) { call in
        let header = try await call.receiveMessage()
        await reading.wait()
        _ = try await call.receiveBulk(count: header.bodyBytes, maximum: 1 << 24)
        try await call.send(PutShadowReply())
      }
    }
    let channel = try harness.channel(limits: Self.smallConnection)
    for _ in 0..<3000 {
      _ = try await channel.unary(
        SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: .seconds(60)))
    }
    let call = try await channel.open(
      SlaveCloudMethods.putShadow, CallOptions(timeout: .seconds(60)))
    var header = PutShadowHeader()
    header.bodyBytes = 500_000
    try await call.send(header)
    async let sending: Void = {
      try await call.send(bulk: [UInt8](repeating: 1, count: 500_000))
      try await call.finishSending()
    }()
    // The window is full before the reader begins; more than that would be a violation.
    for _ in 0..<5 {
      _ = try await channel.open(
        SlaveCloudMethods.slaveStatus, CallOptions(timeout: .seconds(60)))
    }
    await reading.open()
    try await sending
    _ = try await call.receiveOnly()
    #expect(harness.server.connectionCount == 1)
    await harness.stop()
  }

  private static var smallConnection: ConnectionLimits {
    var limits = ConnectionLimits()
    limits.connectionWindowBytes = 64 << 10
    return limits
  }

  @Test func repliesThatNobodyReadGiveTheirCreditBack() async throws {
    let harness = try Harness { router in
      router.unary(SlaveCloudMethods.slaveStatus) { _, _ in SlaveStatusReply() }
      router.streaming(SlaveCloudMethods.getShadow) { call in
        _ = try await call.receiveMessage()
        try await call.send(GetShadowHeader())
        try await call.send(bulk: [UInt8](repeating: 1, count: 20_000))
      }
    }
    let channel = try harness.channel(limits: Self.smallConnection)
    let options = CallOptions(timeout: .seconds(60))
    // Twenty times the window of the whole connection.
    for _ in 0..<64 {
      let call = try await channel.open(SlaveCloudMethods.getShadow, options)
      try await call.sendLast(GetShadowRequest())
      _ = try await call.receiveMessage()
      for _ in 0..<3 {
        _ = try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
      }
    }
    await harness.stop()
  }

  @Test func aMessageLargerThanAFrameIsRefusedByItsSender() async throws {
    let harness = try Harness(routes: Self.echoRoutes)
    let channel = try harness.channel()
    var request = ListShadowsRequest()
    request.after = [UInt8](repeating: 1, count: 2 << 20)
    let error = await failure { () async throws(RPCError) in
      try await channel.unary(
        SlaveCloudMethods.listShadows, request, CallOptions(timeout: .seconds(30)))
    }
    #expect(error?.code == .resourceExhausted)
    await harness.stop()
  }

  @Test func announcedLengthsBindTheSender() async throws {
    let harness = try Harness(routes: Self.echoRoutes)
    let channel = try harness.channel()
    for (announced, sent) in [(10, 9), (10, 11), (1 << 40, 10)] {
      let call = try await channel.open(
        SlaveCloudMethods.putShadow, CallOptions(timeout: .seconds(120)))
      var header = PutShadowHeader()
      header.bodyBytes = UInt64(announced)
      let error = await failure { () async throws(RPCError) in
        try await call.send(header)
        try await call.send(bulk: [UInt8](repeating: 0, count: sent))
        try await call.finishSending()
        return try await call.receiveOnly()
      }
      #expect(error?.code == (announced > 1 << 30 ? .resourceExhausted : .invalidArgument))
    }
    await harness.stop()
  }
}
