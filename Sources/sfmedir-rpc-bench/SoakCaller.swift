import Base
import Messages
import RPC

/// One caller of a soak: random calls one after the other, each ended in a random way.
struct SoakCaller {
  private var generator: SplitMix64
  private let until: UInt64
  private let tally: SoakTally
  /// Calls after which it takes another connection, and drops this one with what is under way.
  private static let callsPerChannel = 400

  init(seed: UInt64, until: UInt64, tally: SoakTally) {
    generator = SplitMix64(seed: seed)
    self.until = until
    self.tally = tally
  }

  mutating func run(_ connect: () -> Channel) async {
    var channel = connect()
    var calls = 0
    while SystemClock().monotonicNanoseconds() < until {
      await tally.waitWhileResting()
      calls += 1
      if calls % Self.callsPerChannel == 0 {
        channel.close()
        channel = connect()
      }
      await one(channel)
    }
    channel.close()
  }

  private mutating func one(_ channel: Channel) async {
    let number = tally.begin()
    let size = sizes.randomElement(using: &generator) ?? 1
    let body = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: size)
    // Some deadlines are over before the answer can come.
    let isShort = Int.random(in: 0..<8, using: &generator) == 0
    let timeout: Duration =
      isShort ? .microseconds(Int.random(in: 1...3000, using: &generator)) : .seconds(30)
    let kind = Int.random(in: 0..<10, using: &generator)
    let patience = UInt64.random(in: 0...3_000_000, using: &generator)
    let abandonsAfter = Int.random(in: 0...3, using: &generator)
    let tally = tally
    let task = Task {
      let outcome: Result<[UInt8], RPCError>
      if size < Load.bulkFromBytes {
        outcome = await Self.unary(body, channel, timeout)
      } else {
        outcome = await Self.bulk(
          body, channel, timeout, abandonsAfter: kind == 1 ? abandonsAfter : 9)
      }
      tally.end(number, outcome, expected: body)
    }
    if kind == 0 {
      try? await Task.sleep(nanoseconds: patience)
      task.cancel()
    }
    await task.value
  }

  private var sizes: [Int] {
    [0, 1, 100, 1024, 1024, 1024, 10_000, 60_000, 70_000, 300_000, 3_000_000]
  }

  private static func unary(
    _ body: [UInt8], _ channel: Channel, _ timeout: Duration
  ) async -> Result<[UInt8], RPCError> {
    var message = EchoMessage()
    message.payload = body
    do throws(RPCError) {
      return .success(
        try await channel.unary(EchoMethods.echoOnce, message, CallOptions(timeout: timeout))
          .payload)
    } catch {
      return .failure(error)
    }
  }

  /// Walks away after so many steps: the call is dropped where it stands.
  private static func bulk(
    _ body: [UInt8], _ channel: Channel, _ timeout: Duration, abandonsAfter: Int
  ) async -> Result<[UInt8], RPCError> {
    do throws(RPCError) {
      let call = try await channel.open(EchoMethods.echoBulk, CallOptions(timeout: timeout))
      var header = EchoBulkHeader()
      header.bodyBytes = UInt64(body.count)
      try await call.send(header)
      if abandonsAfter == 0 { throw RPCError(.cancelled, "walked away") }
      try await call.send(bulk: body)
      if abandonsAfter == 1 { throw RPCError(.cancelled, "walked away") }
      try await call.finishSending()
      guard let answer = try await call.receiveMessage() else {
        throw RPCError(.dataLoss, "no answer")
      }
      if abandonsAfter == 2 { throw RPCError(.cancelled, "walked away") }
      let bytes = try await call.receiveBulk(
        count: answer.bodyBytes, maximum: EchoService.maximumBulkBytes)
      guard try await call.receive() == nil else { throw RPCError(.dataLoss, "more came") }
      return .success(bytes)
    } catch {
      return .failure(error)
    }
  }
}
