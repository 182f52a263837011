import Base
import Messages

@testable import RPC

/// One call of a simulated client: drawn, made, judged.
struct SimulatedCall: Sendable {
  enum Shape: UInt64, CaseIterable {
    case status, list, put, get, getInPieces, echo

    var isUnary: Bool { self == .status || self == .list }
  }

  /// The answer was wrong, which no status says.
  struct Wrong: Error { let what: String }

  let shape: Shape
  let order: SimulatedOrder
  let options: CallOptions

  static func draw(_ time: SimulatedTime) -> SimulatedCall {
    let shape = Shape(rawValue: time.random(in: 0...UInt64(Shape.allCases.count - 1)))!
    let manner = SimulatedOrder.Manner(rawValue: UInt8(time.random(in: 0...9)))
    // Most bodies are small, some fill every window several times.
    let most = [100, 5000, 300_000][Int(time.random(in: 0...2))]
    let bytes = SimulatedBytes.draw(time, atMost: shape == .list ? 10_000 : most)
    var options = CallOptions(
      timeout: .nanoseconds(
        Int64(
          time.random(in: 0...2) == 0
            ? time.random(in: 1_000_000...2_000_000_000) : Simulation.longTimeoutNanoseconds)))
    options.waitsForReady = time.random(in: 0...1) == 0
    return SimulatedCall(
      shape: shape, order: SimulatedOrder(manner ?? .whole, bytes.offset, bytes.count),
      options: options)
  }

  func make(on channel: Channel, _ time: SimulatedTime) async throws {
    switch shape {
    case .status:
      let reply = try await channel.unary(SlaveCloudMethods.slaveStatus, Empty(), options)
      try expect(reply.shadows == 42)
    case .list:
      var request = ListShadowsRequest()
      request.after = order.bytes
      let reply = try await channel.unary(SlaveCloudMethods.listShadows, request, options)
      try expect(reply.names == [order.bytes])
    case .put: try await put(on: channel)
    case .get, .getInPieces: try await get(on: channel, time)
    case .echo: try await echo(on: channel, time)
    }
  }

  private func expect(_ isRight: Bool, _ what: String = "a wrong answer") throws {
    if !isRight { throw Wrong(what: "\(shape): \(what)") }
  }

  private func put(on channel: Channel) async throws {
    let call = try await channel.open(SlaveCloudMethods.putShadow, options)
    do {
      var header = PutShadowHeader()
      header.name = order.name
      header.bodyBytes = UInt64(order.count)
      try await call.send(header)
      try await call.send(bulk: order.bytes)
      try await call.finishSending()
    } catch {
      // An answer that came before all was sent counts; else this throws the call's end.
    }
    try expect(try await call.receiveOnly().existed, "the server has other bytes")
    try expect(order.manner != .refusesInTheMiddle, "a refusal was lost")
  }

  private func get(on channel: Channel, _ time: SimulatedTime) async throws {
    let call = try await channel.open(SlaveCloudMethods.getShadow, options)
    var request = GetShadowRequest()
    request.name = order.name
    try await call.sendLast(request)
    guard let header = try await call.receiveMessage() else { throw Wrong(what: "no header") }
    try expect(header.bodyBytes == UInt64(order.count))
    guard shape == .getInPieces else {
      let bytes = try await call.receiveBulk(count: header.bodyBytes, maximum: 1 << 20)
      try expect(bytes == order.bytes, "other bytes")
      try expect(try await call.receive() == nil, "more than announced")
      return
    }
    var received: [UInt8] = []
    while case .bulk(let bytes) = try await call.receive() {
      received += bytes
      try await time.sleep(nanoseconds: time.random(in: 0...Self.longestPauseNanoseconds))
      // Dropping the call is a way to end it.
      if time.random(in: 0...40) == 0 { return }
    }
    try expect(received == order.bytes, "other bytes in pieces")
  }

  static let longestPauseNanoseconds: UInt64 = 20_000_000

  private func echo(on channel: Channel, _ time: SimulatedTime) async throws {
    let call = try await channel.open(ImageUserMethods.queryImages, options)
    for round in 0..<time.random(in: 0...5) {
      var header = QueryImagesHeader()
      header.fileBytes = round
      try await call.send(header)
      try expect(try await call.receiveMessage()?.fileBytes == round, "another round")
      let bytes = SimulatedBytes.slice(order.offset, min(order.count, 20_000))
      try await call.send(bulk: bytes)
      let back = try await call.receiveBulk(count: UInt64(bytes.count), maximum: 1 << 20)
      try expect(back == bytes, "another echo")
    }
    try await call.finishSending()
    try expect(try await call.receive() == nil, "more than was sent")
  }
}
