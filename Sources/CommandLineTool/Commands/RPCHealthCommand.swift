import ArgumentParser
import Base
import Messages
import RPC

struct RPCHealthCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "health",
    abstract: "Ask daemons whether they take calls, once or until interrupted.",
    discussion: """
      Without --node or --address every daemon is asked. A service is named in full \
      ("sfmedir.v1.MasterCloud"); without one the daemon as a whole is meant.

      EXAMPLE
        sfmedir rpc health
        sfmedir rpc health sfmedir.v1.MasterCloud --watch

      JSON: a line {"type":"health"} with role, node, address, service, status (SERVING, NOT_SERVING, \
      SERVICE_UNKNOWN, UNREACHABLE), problem for each daemon, with --watch also for each change.

      Exit codes: 0 all are serving; 1 some are not; 66 no daemon has the service; 69 none answers; \
      see docs/command-line.md. With --watch those of the statuses at the end of --timeout, or 130.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var daemon: DaemonOptions

  @Argument(help: "The service; without it the whole daemon.") var service: String = ""

  @Flag(help: "Go on and tell each change, until interrupted or for --timeout seconds.")
  var watch = false

  func execute(_ output: Output) async throws -> ExitStatus {
    let timeout = connection.timeouts.small
    let directory = DaemonDirectory(cluster: try await connection.connect(output), timeout: timeout)
    let targets = try await directory.targets(daemon, everySlave: true)
    if watch {
      let end = connection.timeout.map {
        SystemClock().monotonicNanoseconds() + UInt64($0) * 1_000_000_000
      }
      let observations = await HealthWatch(service: service, endNanoseconds: end).run(targets) {
        output.emit($0.line(service: service))
        output.print(
          "\(Units.time(milliseconds: SystemClock().wallMilliseconds()))  \($0.target.title)  "
            + printable($0.text))
      }
      return observations.allSatisfy(\.isServing) ? .success : .someFailed
    }
    let observations = await DaemonDirectory.each(targets) { [service] target in
      await HealthObservation.check(target, service, timeout)
    }
    return try report(observations, output)
  }

  private func report(
    _ observations: [HealthObservation], _ output: Output
  ) throws -> ExitStatus {
    let failures = observations.compactMap(\.failure)
    if failures.count == observations.count, let first = failures.first { throw first }
    // The service is one of some daemons only, unless a daemon was named.
    let known = observations.filter { $0.status != .serviceUnknown }
    guard known.contains(where: { $0.error == nil }) else {
      throw CommandFailure(
        .notFound, "no daemon has a service '\(service)'",
        advice: "'sfmedir rpc list' names the services, in full and before the '/'",
        code: "NO_SUCH_SERVICE")
    }
    var table = Table([.init("daemon"), .init("address"), .init("status"), .init("remark")])
    for observation in known {
      let target = observation.target
      table.add([
        target.node.isEmpty ? target.role.rawValue : target.node, "\(target.address)",
        observation.name, shortened(observation.error?.message ?? "", to: 70),
      ])
      output.emit(observation.line(service: service))
    }
    output.print(table)
    return known.allSatisfy(\.isServing) ? .success : .someFailed
  }
}

/// What one daemon said of its health, or that it said nothing.
struct HealthObservation: Sendable {
  let target: DaemonTarget
  /// Nil where it did not answer.
  var status: ServingStatus?
  /// Why it did not.
  var error: RPCError?

  var failure: CommandFailure? { error.map { CommandFailure($0, during: target.title) } }

  var isServing: Bool { status == .serving }

  var name: String {
    switch status {
    case nil: "UNREACHABLE"
    case .serving: "SERVING"
    case .notServing: "NOT_SERVING"
    case .serviceUnknown: "SERVICE_UNKNOWN"
    default: "UNKNOWN"
    }
  }

  var text: String { error.map { "\(name): \($0.message)" } ?? name }

  func line(service: String) -> JSONObject {
    var line: JSONObject = ["type": "health"]
    target.add(to: &line)
    line["service"] = .string(service)
    line["status"] = .string(name)
    line["problem"] = .string(error?.message ?? "")
    return line
  }

  static func check(
    _ target: DaemonTarget, _ service: String, _ timeout: Duration
  ) async -> HealthObservation {
    var request = HealthCheckRequest()
    request.service = service
    do {
      let reply = try await target.channel.unary(
        HealthMethods.check, request, CallOptions(timeout: timeout))
      return HealthObservation(target: target, status: reply.status)
    } catch {
      if error.code == .notFound {
        return HealthObservation(target: target, status: .serviceUnknown)
      }
      return HealthObservation(target: target, error: error)
    }
  }
}

/// Follows the health of several daemons, through their restarts.
struct HealthWatch: Sendable {
  let service: String
  /// Monotonic; nil where only an interruption ends it.
  let endNanoseconds: UInt64?
  /// Before a daemon that went away is asked again.
  var retryAfter = Duration.seconds(1)

  /// As long as a server lets a call be.
  private static let longestCall = Duration.seconds(3600)

  /// Returns the last observation of each; `tell` hears of the first and of each change.
  func run(
    _ targets: [DaemonTarget], tell: @escaping @Sendable (HealthObservation) -> Void
  ) async -> [HealthObservation] {
    let telling = Locked(())
    return await DaemonDirectory.each(targets) { target in
      await follow(target) { observation in telling.withLock { _ in tell(observation) } }
    }
  }

  private var remaining: Duration {
    guard let endNanoseconds else { return Self.longestCall }
    let now = SystemClock().monotonicNanoseconds()
    return min(
      Self.longestCall, .nanoseconds(endNanoseconds > now ? Int64(endNanoseconds - now) : 0))
  }

  private func follow(
    _ target: DaemonTarget, _ tell: (HealthObservation) -> Void
  ) async -> HealthObservation {
    var last = HealthObservation(target: target)
    var isFirst = true
    func note(_ next: HealthObservation) {
      if isFirst || next.status != last.status { tell(next) }
      (isFirst, last) = (false, next)
    }
    var request = HealthCheckRequest()
    request.service = service
    while !Task.isCancelled, remaining > .zero {
      do throws(RPCError) {
        let call = try await target.channel.open(
          HealthMethods.watch, CallOptions(timeout: remaining))
        try await call.sendLast(request)
        while let reply = try await call.receiveMessage() {
          note(HealthObservation(target: target, status: reply.status))
        }
      } catch {
        // The watch's own end, or ours, says nothing about the daemon.
        if error.code == .deadlineExceeded && last.status != nil { continue }
        if error.code == .cancelled && Task.isCancelled { break }
        note(HealthObservation(target: target, error: error))
      }
      try? await Task.sleep(for: min(retryAfter, max(remaining, .zero)))
    }
    return last
  }
}
