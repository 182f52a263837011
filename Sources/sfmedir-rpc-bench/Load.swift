import ArgumentParser
import Base
import Foundation
import Messages
import RPC

struct Load: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Calls in a closed loop; prints one JSON line.",
    discussion: "Payloads of 64 KiB and more travel as bulk, smaller ones inside a message.")

  @OptionGroup var certificates: CertificateFolder
  @Option(help: "The server's port on this machine.") var port: UInt16
  @Option(help: "Bytes each way.") var payload = 1024
  @Option(help: "Callers; each sends its next call when the last returned.") var concurrency = 1
  @Option(help: "Connections that the callers share.") var connections = 1
  @Option(help: "Seconds that count.") var seconds = 5.0
  @Option(help: "Seconds before that do not.") var warmup = 1.0
  @Option(help: "Microseconds a busy loop looks again before it sleeps.")
  var busyPoll: UInt64 = EventLoopGroup.defaultBusyPollMicroseconds

  static let bulkFromBytes = 64 << 10

  func validate() throws {
    guard payload >= 0, payload <= EchoService.maximumBulkBytes, concurrency > 0, connections > 0,
      seconds > 0, warmup >= 0
    else { throw ValidationError("payload, concurrency, connections and seconds must be positive") }
  }

  func run() async throws {
    let cores = max(1, ProcessInfo.processInfo.activeProcessorCount)
    let group = EventLoopGroup(count: min(cores, connections), busyPollMicroseconds: busyPoll)
    let tls = try certificates.client()
    let channels = (0..<min(connections, concurrency)).map { _ in
      EchoService.channel(tls, port: port, group: group)
    }
    let body = [UInt8](repeating: 0x5a, count: payload)
    for channel in channels { try await Self.echo(body, channel) }
    let start = SystemClock().monotonicNanoseconds()
    let from = start + UInt64(warmup * 1e9)
    let until = from + UInt64(seconds * 1e9)
    let cpuBefore = Self.processorSeconds()
    let callers = await withTaskGroup(of: Caller.self) { tasks in
      for number in 0..<concurrency {
        let channel = channels[number % channels.count]
        tasks.addTask(executorPreference: channel.executor) {
          var caller = Caller(from: from, until: until)
          await caller.run(body, channel)
          return caller
        }
      }
      return await tasks.reduce(into: [Caller]()) { $0.append($1) }
    }
    report(callers, cpuSeconds: Self.processorSeconds() - cpuBefore)
  }

  /// One call; what comes back must be what went.
  static func echo(_ body: [UInt8], _ channel: Channel) async throws(RPCError) {
    let options = CallOptions(timeout: .seconds(30))
    if body.count < bulkFromBytes {
      var message = EchoMessage()
      message.payload = body
      let reply = try await channel.unary(EchoMethods.echoOnce, message, options)
      guard reply.payload.count == body.count else { throw RPCError(.dataLoss, "another size") }
      return
    }
    let call = try await channel.open(EchoMethods.echoBulk, options)
    var header = EchoBulkHeader()
    header.bodyBytes = UInt64(body.count)
    try await call.send(header)
    try await call.send(bulk: body)
    try await call.finishSending()
    guard let answer = try await call.receiveMessage() else {
      throw RPCError(.dataLoss, "no answer")
    }
    let echoed = try await call.receiveBulk(
      count: answer.bodyBytes, maximum: EchoService.maximumBulkBytes)
    guard echoed.count == body.count, try await call.receive() == nil else {
      throw RPCError(.dataLoss, "another size")
    }
  }

  private static func processorSeconds() -> Double {
    var usage = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &usage)
    return Double(usage.tv_sec) + Double(usage.tv_nsec) / 1e9
  }

  private func report(_ callers: [Caller], cpuSeconds: Double) {
    let times = callers.flatMap(\.nanoseconds).sorted()
    let errors = callers.reduce(0) { $0 + $1.errors }
    if let error = callers.compactMap(\.lastError).first {
      FileHandle.standardError.write(Data("a call failed: \(error)\n".utf8))
    }
    func quantile(_ part: Double) -> String {
      guard !times.isEmpty else { return "null" }
      let index = min(times.count - 1, Int(Double(times.count) * part))
      return String(format: "%.1f", Double(times[index]) / 1e3)
    }
    let rate = Double(times.count) / seconds
    let megabytes = rate * 2 * Double(payload) / 1e6
    print(
      #"{"peer": "sfmedir", "tls": "mtls 1.3", "payload": \#(payload), "#
        + #""concurrency": \#(concurrency), "connections": \#(min(connections, concurrency)), "#
        + #""calls": \#(times.count), "errors": \#(errors), "seconds": \#(seconds), "#
        + String(format: #""calls_per_s": %.1f, "MBps": %.1f, "#, rate, megabytes)
        + #""p50_us": \#(quantile(0.5)), "p90_us": \#(quantile(0.9)), "#
        + #""p99_us": \#(quantile(0.99)), "max_us": \#(quantile(1)), "#
        + String(format: #""client_cpu_s": %.3f}"#, cpuSeconds))
  }
}

/// One caller's calls.
struct Caller: Sendable {
  let from: UInt64
  let until: UInt64
  var nanoseconds: [UInt64] = []
  var errors = 0
  var lastError: RPCError?
  private static let givesUpAfter = 100

  init(from: UInt64, until: UInt64) {
    self.from = from
    self.until = until
    nanoseconds.reserveCapacity(1 << 16)
  }

  mutating func run(_ body: [UInt8], _ channel: Channel) async {
    let clock = SystemClock()
    var began = clock.monotonicNanoseconds()
    while began < until, errors < Self.givesUpAfter {
      do throws(RPCError) {
        try await Load.echo(body, channel)
        let ended = clock.monotonicNanoseconds()
        if ended >= from && ended <= until { nanoseconds.append(ended - began) }
        began = ended
      } catch {
        errors += 1
        lastError = error
        began = clock.monotonicNanoseconds()
      }
    }
  }
}
