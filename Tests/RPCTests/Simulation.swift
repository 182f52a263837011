import Base
import Logging
import Messages
import TestSupport

@testable import RPC

/// Clients, a server that comes and goes, and a network that breaks, all from one seed, and what must hold
/// whatever happens.
final class Simulation: @unchecked Sendable {
  /// What a run showed.
  struct Outcome {
    var problems: [String]
    var digest: UInt64
    var lines: [String]
    var statuses: [StatusCode: Int]
  }

  static let longTimeoutNanoseconds: UInt64 = 120_000_000_000
  private static let calls = 30
  private static let second: UInt64 = 1_000_000_000
  private static let address = Address(host: "scs-1", port: 1)

  let seed: UInt64
  let time: SimulatedTime
  let network: SimulatedNetwork
  /// A quarter of the seeds has nothing go wrong, and then nothing may.
  let hasFaults: Bool
  private let log = CapturedLog()
  private let limits: ConnectionLimits
  private let serverLoops: EventLoopGroup
  private let clientLoops: EventLoopGroup
  private var channels: [Channel] = []
  private var servers: [Server] = []
  private var services: [SimulatedService] = []
  private var isStopping = false
  private var running: Set<Int> = []
  private var callsMade = 0
  private var problems: [String] = []
  private var statuses: [StatusCode: Int] = [:]

  init(seed: UInt64, keepsText: Bool = false, hasFaults: Bool? = nil) {
    self.seed = seed
    time = SimulatedTime(dice: SeededGenerator(SeededEntropy(seed: seed)))
    self.hasFaults = hasFaults ?? (time.random(in: 0...3) > 0)
    var conditions = SimulatedNetwork.Conditions()
    conditions.delayNanoseconds = 50_000...time.random(in: 100_000...30_000_000)
    conditions.bytesPerSecond = time.random(in: 0...1) == 0 ? 0 : 2_000_000
    network = SimulatedNetwork(time: time, conditions: conditions, keepsText: keepsText)
    var limits = ConnectionLimits()
    limits.maximumFrameBytes = (16 << 10) << Int(time.random(in: 0...2))
    limits.streamWindowBytes = (16 << 10) << Int(time.random(in: 0...3))
    limits.connectionWindowBytes = limits.streamWindowBytes << Int(time.random(in: 0...2))
    limits.bulkPieceBytes = (4 << 10) << Int(time.random(in: 0...3))
    limits.outputHighWaterBytes = 16 << 10
    // In some, connections are replaced by and by, and no unary call may notice.
    if time.random(in: 0...2) == 0 {
      limits.maximumAgeMilliseconds = time.random(in: 300...5000)
    }
    self.limits = limits
    serverLoops = time.makeLoops(count: 2)
    clientLoops = time.makeLoops(count: 2)
  }

  func run() -> Outcome {
    startServer()
    for number in 1...3 { channels.append(makeChannel(number)) }
    let begin = time.nowNanoseconds
    for id in 0..<Self.calls {
      time.schedule(atNanoseconds: begin + time.random(in: 0...3 * Self.second)) { [self] in
        makeCall(id)
      }
    }
    if hasFaults { scheduleFaults() }
    let end = begin + 2 * Self.longTimeoutNanoseconds
    if !hasFaults {
      // Handlers hear at once of callers who gave up, and not only by their deadlines.
      time.run(until: { callsMade == Self.calls && running.isEmpty }, limitNanoseconds: end)
      time.advance(nanoseconds: 5 * Self.second)
      let left = servers.map(\.runningCalls).reduce(0, +)
      if left > 0 { complain("\(left) handlers outlive their callers") }
    }
    time.run(limitNanoseconds: end)
    if !running.isEmpty { complain("calls \(running.sorted()) never end") }
    healAndCallAgain()
    stop()
    let outcome = Outcome(
      problems: problems, digest: network.transcript.digest, lines: network.transcript.lines,
      statuses: statuses)
    time.end()
    return outcome
  }

  private func complain(_ what: String) {
    network.note("PROBLEM: \(what)")
    problems.append(what)
  }

  // MARK: the sides

  private func startServer() {
    var configuration = ServerConfiguration(address: Self.address, cluster: "test")
    configuration.permissions = Harness.permissions
    configuration.limits = limits
    let service = SimulatedService(time) { [unowned self] in complain($0) }
    configuration.interceptors = [service]
    var router = Router()
    service.register(on: &router)
    let server = Server(
      inProcess: configuration, router: router, group: serverLoops, logger: log.logger)
    services.append(service)
    servers.append(server)
    do {
      try network.listen(
        server, as: Identity(cluster: "test", role: .slave, node: "scs-1")!, at: Self.address)
    } catch {
      complain("\(error)")
    }
  }

  private func makeChannel(_ number: Int) -> Channel {
    network.channel(
      from: "mcs-\(number)", as: Identity(cluster: "test", role: .master, node: "mcs-\(number)"),
      to: Self.address, expecting: PeerExpectation(cluster: "test", role: .slave),
      group: clientLoops, logger: log.logger, limits: limits)
  }

  // MARK: calls

  private func makeCall(_ id: Int) {
    let channel = channels[Int(time.random(in: 0...UInt64(channels.count - 1)))]
    let call = SimulatedCall.draw(time)
    callsMade += 1
    let cancelsAfter = time.random(in: 0...5) == 0 ? time.random(in: 0...Self.second) : nil
    let task = start(id, call, channel)
    if let cancelsAfter {
      time.schedule(afterNanoseconds: cancelsAfter) { [self] in
        guard running.contains(id) else { return }
        network.note("call \(id) is given up")
        task.cancel()
      }
    }
  }

  @discardableResult
  private func start(
    _ id: Int, _ call: SimulatedCall, _ channel: Channel, mustSucceed: Bool = false
  ) -> Task<Void, Never> {
    network.note("call \(id) begins: \(call.shape) \(call.order) \(call.options.timeout)")
    running.insert(id)
    let began = time.nowNanoseconds
    // On the channel's loop or on another: both ways of calling.
    let loop = clientLoops.nextLoop()
    return Task(executorPreference: loop) { [self] in
      var failure: (any Error)?
      do { try await call.make(on: channel, time) } catch { failure = error }
      ended(id, call, began, failure, mustSucceed: mustSucceed)
    }
  }

  private func ended(
    _ id: Int, _ call: SimulatedCall, _ began: UInt64, _ failure: (any Error)?, mustSucceed: Bool
  ) {
    guard running.remove(id) != nil else {
      complain("call \(id) ended twice")
      return
    }
    network.note("call \(id) ended: \(failure.map { "\($0)" } ?? "OK")")
    let deadline = began + call.options.timeoutNanoseconds
    // What came in time may be read at leisure.
    let isSlow = call.shape == .getInPieces
    let slack = isSlow ? SimulatedCall.longestPauseNanoseconds : 0
    if time.nowNanoseconds > deadline + slack, !isSlow || failure != nil {
      complain("call \(id) ended after its deadline")
    }
    guard let failure else {
      statuses[.ok, default: 0] += 1
      return
    }
    let isGoingAway = (failure as? RPCError)?.wasNotStarted == true && !call.shape.isUnary
    if mustSucceed, !isGoingAway { complain("call \(id) on a healed network: \(failure)") }
    // The reader's own pauses notice a cancellation first.
    let error =
      failure as? RPCError ?? (failure is CancellationError ? RPCError(.cancelled, "") : nil)
    guard let error else {
      complain("call \(id): \(failure)")
      return
    }
    statuses[error.code, default: 0] += 1
    let isRight =
      switch error.code {
      case .cancelled: Task.isCancelled
      // No fault lasts as long as the long ones.
      case .deadlineExceeded:
        time.nowNanoseconds >= deadline
          && call.options.timeoutNanoseconds < Self.longTimeoutNanoseconds
      case .unavailable:
        hasFaults
          || error.wasNotStarted && error.reason == "Draining" && !call.shape.isUnary
      case .aborted: hasFaults && error.reason == "SlowReader"
      case .notFound: call.order.manner == .refusesInTheMiddle && error.reason == "Enough"
      default: false
      }
    if !isRight { complain("call \(id) must not end so: \(error)") }
  }

  // MARK: faults

  private func scheduleFaults() {
    let begin = time.nowNanoseconds
    for _ in 0..<time.random(in: 1...6) {
      time.schedule(atNanoseconds: begin + time.random(in: 0...4 * Self.second)) { [self] in
        fault()
      }
    }
  }

  private func fault() {
    let client = "mcs-\(time.random(in: 1...3))"
    let lasts =
      time.random(in: 0...2) > 0
      ? time.random(in: 1_000_000...3 * Self.second) : time.random(in: 0...60 * Self.second)
    switch time.random(in: 0...5) {
    case 0, 1:
      let ways = [(client, "scs-1"), ("scs-1", client)]
      // One way, or both.
      let kind = Int(time.random(in: 0...2))
      for way in kind == 2 ? ways[...] : ways[kind...kind] {
        network.cut(from: way.0, to: way.1)
        time.schedule(afterNanoseconds: lasts) { [self] in network.heal(from: way.0, to: way.1) }
      }
    case 2, 3:
      let open = network.openConnections
      guard !open.isEmpty else { return }
      let witness = SimulatedNetwork.Witness.allCases[Int(time.random(in: 0...2))]
      network.breakConnection(
        open[Int(time.random(in: 0...UInt64(open.count - 1)))], seenBy: witness)
    case 4:
      network.setRefusing("scs-1", true)
      time.schedule(afterNanoseconds: lasts) { [self] in network.setRefusing("scs-1", false) }
    default: restartServer(after: lasts)
    }
  }

  private func restartServer(after pause: UInt64) {
    guard !isStopping, let server = servers.last, !server.isShutDown else { return }
    let grace = time.random(in: 0...2000)
    network.note("the server shuts down within \(grace) ms")
    shutDown(server, graceMilliseconds: grace)
    time.schedule(afterNanoseconds: max(pause, 1_000_000)) { [self] in
      guard server.isShutDown else { return }
      network.note("a new server starts")
      startServer()
    }
  }

  private func shutDown(_ server: Server, graceMilliseconds: UInt64) {
    let id = -servers.count
    running.insert(id)
    Task(executorPreference: serverLoops.nextLoop()) { [self] in
      await server.shutdown(graceMilliseconds: graceMilliseconds)
      running.remove(id)
      if server.connectionCount > 0 { complain("a server that is shut down has connections") }
    }
  }

  // MARK: the end

  /// Whatever has happened: once the network is whole, calls of every shape succeed at once.
  private func healAndCallAgain() {
    isStopping = true
    network.healAll()
    // A connection that is half open dies by its keepalive until then.
    time.advance(nanoseconds: 60 * Self.second)
    let options = CallOptions(timeout: .seconds(30))
    for (number, channel) in channels.enumerated() {
      for shape in SimulatedCall.Shape.allCases where shape != .getInPieces {
        let count = shape == .list ? 5000 : 200_000
        let call = SimulatedCall(
          shape: shape, order: SimulatedOrder(.whole, number * 1000, count), options: options)
        start(1000 + number * 10 + Int(shape.rawValue), call, channel, mustSucceed: true)
      }
    }
    time.run(until: { running.isEmpty }, limitNanoseconds: time.nowNanoseconds + 60 * Self.second)
    if !running.isEmpty { complain("calls \(running.sorted()) are stuck on a healed network") }
  }

  private func stop() {
    for channel in channels { channel.close() }
    if let server = servers.last { shutDown(server, graceMilliseconds: 20_000) }
    time.run(limitNanoseconds: time.nowNanoseconds + 100 * Self.second)
    for (number, server) in servers.enumerated() {
      let name = "server \(number + 1)"
      if server.connectionCount != 0 { complain("\(name): \(server.connectionCount) connections") }
      if server.runningCalls != 0 { complain("\(name): \(server.runningCalls) handlers run") }
      if server.unreadBytes != 0 { complain("\(name): \(server.unreadBytes) bytes unread") }
      let service = services[number]
      if service.begun != service.ended {
        complain("\(name): \(service.begun) calls began, \(service.ended) ended")
      }
    }
    if !running.isEmpty { complain("\(running.sorted()) still run") }
    let open = network.openConnections
    if !open.isEmpty { complain("connections \(open) are open") }
    for line in log.lines where line.contains("protocol violation") { complain(line) }
  }
}
