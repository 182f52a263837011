import ArgumentParser
import Logging

/// Options of every command.
public struct OutputOptions: ParsableArguments, Sendable {
  @Flag(help: "Print one JSON object a line, with stable keys (docs/command-line.md).")
  public var json = false

  public init() {}
}

/// Options of every command that talks to a cluster.
public struct ConnectionOptions: ParsableArguments, Sendable {
  @Option(
    help: ArgumentHelp(
      "The client's configuration (default: $SFMEDIR_CONFIG, ./sfmedir-dev/cli.toml, ~/.config/sfmedir/cli.toml).",
      valueName: "file"))
  public var config: String?

  @Option(help: ArgumentHelp("Give up on a call after this time.", valueName: "seconds"))
  public var timeout: Int?

  @Flag(help: "Show what the connection does, on standard error, and trace the calls.")
  public var verbose = false

  public init() {}

  public mutating func validate() throws {
    if let timeout, !(1...3600).contains(timeout) {
      throw ValidationError("--timeout is 1 to 3600 seconds, not \(timeout)")
    }
  }

  var timeouts: CallTimeouts { CallTimeouts(chosenSeconds: timeout) }

  func connect(_ output: Output) async throws -> ClusterConnection {
    let configuration = try ClientConfiguration.load(option: config)
    let trace = CommandTrace(verbose: verbose)
    if let trace { output.remark("trace \(trace.id)") }
    return try await ClusterConnection.open(
      configuration, logger: WarningLog.logger(output: output, verbose: verbose),
      interceptors: trace.map { [$0] } ?? [])
  }
}

/// Options of every command that asks the masters what is there.
struct AgeOptions: ParsableArguments, Sendable {
  @Option(
    help: ArgumentHelp(
      "Let any master answer, from a state at most so old (default: the leader, as of now).",
      valueName: "seconds"))
  var maxAge: Double?

  mutating func validate() throws {
    if let maxAge, !(0.001...86_400).contains(maxAge) {
      throw ValidationError("--max-age is 0.001 to 86400 seconds, not \(maxAge)")
    }
  }

  /// 0: as of now.
  var milliseconds: UInt64 { maxAge.map { UInt64(($0 * 1000).rounded()) } ?? 0 }
}

/// A command whose errors are told in one way, with an exit code.
protocol ToolCommand: AsyncParsableCommand, Sendable {
  var outputOptions: OutputOptions { get }
  /// Throws what makes the whole command fail; items that fail are told by the command itself,
  /// which then returns `someFailed`.
  func execute(_ output: Output) async throws -> ExitStatus
}

extension ToolCommand {
  mutating func run() async throws {
    let output = Output(json: outputOptions.json)
    let command = self
    let status: ExitStatus
    do {
      status = try await Interruption.cancelling { try await command.execute(output) }
    } catch {
      var failure = CommandFailure(error)
      if Interruption.happened { failure = CommandFailure(.interrupted, "interrupted") }
      output.fail(failure)
      throw ExitCode(failure.status.rawValue)
    }
    if Interruption.happened { throw ExitCode(ExitStatus.interrupted.rawValue) }
    if status != .success { throw ExitCode(status.rawValue) }
  }
}
