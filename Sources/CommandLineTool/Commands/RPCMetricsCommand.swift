import ArgumentParser
import Messages
import RPC

struct RPCMetricsCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "metrics",
    abstract: "Show what daemons have counted of each method: calls, failures, durations, bytes.",
    discussion: """
      Counted since the daemon started. Durations are known to about 6 %, the longest exactly. Without \
      --all the table leaves out methods that were never called.

      EXAMPLE
        sfmedir rpc metrics --node mcs

      JSON: a line {"type":"method_metrics"} for each method with role, node, address, method, calls, \
      in_flight, statuses (calls by status), received_bytes, sent_bytes, p50_us, p90_us, p99_us, \
      max_us; {"type":"daemon"} with error for each daemon that does not answer.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var daemon: DaemonOptions

  @Flag(help: "Also methods that were never called.") var all = false

  func execute(_ output: Output) async throws -> ExitStatus {
    let timeout = connection.timeouts.small
    let directory = DaemonDirectory(cluster: try await connection.connect(output), timeout: timeout)
    let targets = try await directory.targets(daemon, everySlave: true)
    let answers = await DaemonDirectory.ask(targets) { (target) async throws(RPCError) in
      try await target.channel.unary(
        ReflectionMethods.methodMetrics, Empty(), CallOptions(timeout: timeout)
      ).methods
    }
    var unanswered = UnansweredDaemons()
    var table = Table([
      .init("daemon"), .init("method"), .init("calls", .right), .init("in flight", .right),
      .init("failed", .right), .init("p50", .right), .init("p90", .right), .init("p99", .right),
      .init("longest", .right), .init("received", .right), .init("sent", .right),
    ])
    for answer in answers {
      switch answer.result {
      case .failure(let error): unanswered.note(error, answer.target, output)
      case .success(let methods):
        unanswered.noteAnswer()
        for figures in methods {
          if all || figures.calls > 0 { table.add(Self.cells(of: figures, answer.target)) }
          var line = Self.line(of: figures)
          answer.target.add(to: &line)
          output.emit(line)
        }
      }
    }
    if !table.rows.isEmpty { output.print(table) }
    return try unanswered.finish(output)
  }

  static func cells(of figures: MethodFigures, _ target: DaemonTarget) -> [String] {
    let durations = [
      figures.p50Nanoseconds, figures.p90Nanoseconds, figures.p99Nanoseconds,
      figures.maximumNanoseconds,
    ]
    let hasEnded = !figures.statuses.isEmpty
    return [
      target.node.isEmpty ? target.role.rawValue : target.node, figures.method,
      "\(figures.calls)", "\(figures.inFlight)", "\(failed(figures))",
    ] + durations.map { hasEnded ? Units.duration(nanoseconds: $0) : "-" } + [
      Units.bytes(figures.receivedBytes), Units.bytes(figures.sentBytes),
    ]
  }

  private static func failed(_ figures: MethodFigures) -> UInt64 {
    figures.statuses.reduce(0) { $1.status == StatusCode.ok.rawValue ? $0 : $0 &+ $1.calls }
  }

  static func line(of figures: MethodFigures) -> JSONObject {
    var statuses = JSONObject()
    for count in figures.statuses {
      let name = StatusCode(rawValue: count.status)?.description ?? "\(count.status)"
      statuses[name] = JSONValue(count.calls)
    }
    func microseconds(_ nanoseconds: UInt64) -> JSONValue { JSONValue(Double(nanoseconds) / 1000) }
    return [
      "type": "method_metrics", "method": .string(figures.method),
      "calls": JSONValue(figures.calls), "in_flight": JSONValue(figures.inFlight),
      "statuses": .object(statuses), "received_bytes": JSONValue(figures.receivedBytes),
      "sent_bytes": JSONValue(figures.sentBytes), "p50_us": microseconds(figures.p50Nanoseconds),
      "p90_us": microseconds(figures.p90Nanoseconds),
      "p99_us": microseconds(figures.p99Nanoseconds),
      "max_us": microseconds(figures.maximumNanoseconds),
    ]
  }
}

extension Units {
  /// "850 ns", "12.3 us", "4.5 ms", and seconds above.
  static func duration(nanoseconds: UInt64) -> String {
    let value = Double(nanoseconds)
    if value < 1000 { return "\(nanoseconds) ns" }
    if value < 999_950 { return "\(fixed(value / 1e3, digits: 1)) us" }
    if value < 999_950_000 { return "\(fixed(value / 1e6, digits: 1)) ms" }
    return duration(seconds: value / 1e9)
  }
}
