import ArgumentParser
import Base

struct BenchFailoverCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "failover",
    abstract:
      "Kill the leading master again and again while others write, and see how long writes stop.",
    discussion: """
      Starts two masters and a witness of its own in a temporary folder (TMPDIR chooses the disk), and takes \
      them away afterwards. Four callers write without pause. The leader is killed (SIGKILL) and started \
      again, then the leadership is handed over as often, then every core is kept busy by other work \
      and nobody is to be elected.

      'make bench-failover' measures etcd in the same run.

      EXAMPLE
        sfmedir bench failover --json

      JSON: one line with first_write_ms_p50, first_write_ms_p99, first_write_ms_max (from the kill until a \
      write was acknowledged that began after it), first_write_ms (all of them), kills, transfer_ms_p50, \
      transfer_ms_max (the longest time without an acknowledgement about a handover), transfers, \
      acknowledged, lost (writes that were acknowledged and are not there), load_seconds, \
      elections_under_load, writes_per_s_under_load, build, version, date, machine.

      Exit codes: 0 nothing was lost; 1 something was.
      """)

  @OptionGroup var outputOptions: OutputOptions

  @Option(help: ArgumentHelp("Times that the leader is killed.", valueName: "count"))
  var kills = 20

  @Option(help: ArgumentHelp("Times that it hands over.", valueName: "count"))
  var transfers = 20

  @Option(help: ArgumentHelp("For which every core is kept busy.", valueName: "s"))
  var loadSeconds = 30.0

  @Option(help: ArgumentHelp("The model for hash codes, as for 'dev up'.", valueName: "file"))
  var model: String?

  @Flag(help: "Show what the connections do, on standard error.") var verbose = false

  func validate() throws {
    guard (1...1000).contains(kills), (0...1000).contains(transfers) else {
      throw ValidationError("--kills is 1 to 1000, --transfers 0 to 1000")
    }
    guard (0...3600).contains(loadSeconds) else {
      throw ValidationError("--load-seconds is 0 to 3600, not \(loadSeconds)")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    let (kills, transfers, seconds) = (kills, transfers, loadSeconds)
    let figures = try await DevCluster.temporarily(
      DevWishes(slaves: DevPlan.fewestSlaves, model: model), output: output, verbose: verbose
    ) {
      try await FailoverBench(cluster: $0, output: output).run(
        kills: kills, transfers: transfers, loadSeconds: seconds)
    }
    output.emit(figures.line)
    figures.print(to: output)
    return figures.lost == 0 ? .success : .someFailed
  }
}
