import Base
import Messages
import TestSupport

@testable import RPC

/// Bytes that both sides of a simulated call know.
enum SimulatedBytes {
  private static let pool = SeededEntropy(seed: 42).bytes(1 << 20)

  static func slice(_ offset: Int, _ count: Int) -> [UInt8] { Array(pool[offset..<offset + count]) }

  static func draw(_ time: SimulatedTime, atMost count: Int) -> (offset: Int, count: Int) {
    let count = Int(time.random(in: 0...UInt64(count)))
    return (Int(time.random(in: 0...UInt64(pool.count - count))), count)
  }
}

/// What a caller wants of the server; it travels as a shadow's name.
struct SimulatedOrder {
  enum Manner: UInt8, CaseIterable { case whole, answersEarly, refusesInTheMiddle, piecemeal }

  var manner: Manner
  var offset: Int
  var count: Int

  var name: [UInt8] {
    var bytes = [manner.rawValue]
    bytes.append(bigEndian: UInt32(offset))
    bytes.append(bigEndian: UInt32(count))
    return bytes
  }

  init(_ manner: Manner, _ offset: Int, _ count: Int) {
    self.manner = manner
    self.offset = offset
    self.count = count
  }

  init(name: [UInt8]) throws(RPCError) {
    guard name.count == 9, let manner = Manner(rawValue: name[0]) else {
      throw RPCError(.invalidArgument, "no order")
    }
    func number(_ start: Int) -> Int {
      name[start..<start + 4].reduce(0) { $0 << 8 | Int($1) }
    }
    self.init(manner, number(1), number(5))
  }

  var bytes: [UInt8] { SimulatedBytes.slice(offset, count) }
}

/// Handlers that take their time, answer early, fail in the middle, and never outlive their calls.
final class SimulatedService: ServerInterceptor, @unchecked Sendable {
  static let refusal = RPCError(.notFound, "enough of it", reason: "Enough")
  private let time: SimulatedTime
  private let complain: (String) -> Void
  private(set) var begun = 0
  private(set) var ended = 0

  init(_ time: SimulatedTime, complain: @escaping (String) -> Void) {
    self.time = time
    self.complain = complain
  }

  func begins(_ context: CallContext) throws(RPCError) { begun += 1 }
  func ended(_ context: CallContext, _ record: CallRecord) { ended += 1 }

  private func dawdle(_ milliseconds: UInt64 = 30) async throws {
    guard time.random(in: 0...2) > 0 else { return }
    try await time.sleep(nanoseconds: time.random(in: 0...milliseconds * 1_000_000))
  }

  private func watched<Result>(
    _ context: CallContext, _ body: () async throws -> Result
  ) async throws -> Result {
    defer {
      if time.nowNanoseconds > context.deadlineNanoseconds {
        complain("\(context.method) ran past its deadline")
      }
    }
    return try await body()
  }

  func register(on router: inout Router) {
    router.immediate(SlaveCloudMethods.slaveStatus) { _, _ in
      var reply = SlaveStatusReply()
      reply.shadows = 42
      return reply
    }
    router.unary(SlaveCloudMethods.listShadows) { [self] request, context in
      try await watched(context) {
        try await dawdle()
        var reply = ListShadowsReply()
        reply.names = [request.after]
        return reply
      }
    }
    router.streaming(SlaveCloudMethods.putShadow) { [self] call in
      try await watched(call.context) { try await put(call) }
    }
    router.streaming(SlaveCloudMethods.getShadow) { [self] call in
      try await watched(call.context) { try await get(call) }
    }
    router.streaming(ImageUserMethods.queryImages) { [self] call in
      try await watched(call.context) { try await echo(call) }
    }
  }

  private func put(_ call: ServerCall<PutShadowHeader, PutShadowReply>) async throws {
    let header = try await call.receiveMessage()
    let order = try SimulatedOrder(name: header.name)
    try await dawdle()
    var received: [UInt8] = []
    switch order.manner {
    case .whole:
      received = try await call.receiveBulk(count: header.bodyBytes, maximum: 1 << 20)
    case .answersEarly: received = order.bytes
    case .refusesInTheMiddle:
      _ = try await call.receive()
      throw Self.refusal
    case .piecemeal:
      while case .bulk(let bytes) = try await call.receive() {
        received += bytes
        try await dawdle(5)
      }
    }
    var reply = PutShadowReply()
    reply.existed = received == order.bytes
    try await call.send(reply)
  }

  private func get(_ call: ServerCall<GetShadowRequest, GetShadowHeader>) async throws {
    let order = try SimulatedOrder(name: try await call.receiveMessage().name)
    var header = GetShadowHeader()
    header.bodyBytes = UInt64(order.count)
    try await call.send(header)
    try await dawdle()
    let bytes = order.bytes
    guard order.manner != .whole else {
      try await call.send(bulk: bytes)
      return
    }
    let half = bytes.count / 2
    try await call.send(bulk: Array(bytes[..<half]))
    if order.manner == .refusesInTheMiddle { throw Self.refusal }
    try await dawdle()
    try await call.send(bulk: Array(bytes[half...]))
  }

  private func echo(_ call: ServerCall<QueryImagesHeader, QueryResult>) async throws {
    while let part = try await call.receive() {
      try await dawdle(5)
      switch part {
      case .message(let header):
        var result = QueryResult()
        result.fileBytes = header.fileBytes
        try await call.send(result)
      case .bulk(let bytes): try await call.send(bulk: bytes)
      }
    }
  }
}
