import ArgumentParser
import Base
import Messages

struct BenchMetadataCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "metadata",
    abstract:
      "Measure small replicated writes and linearizable reads of two masters and a witness.",
    discussion: """
      Starts a cluster of its own in a temporary folder (TMPDIR chooses the disk), and takes it away \
      afterwards. A write sets an owner's quota: an entry of the masters' log, durable at two voters and \
      applied before it is acknowledged. A read asks for images that miss shadows, of which there are none, and is answered as of now. \
      Every caller waits for its answer before it asks again; all share one connection.

      'make bench-metadata' measures etcd in the same run.

      EXAMPLE
        sfmedir bench metadata --json

      JSON: one line with puts and reads, lists of {callers, calls_per_s, p50_us, p99_us, errors}, then \
      seconds, build, version, date, machine.
      """)

  @OptionGroup var outputOptions: OutputOptions

  @Option(help: ArgumentHelp("Callers at once, one measurement for each.", valueName: "counts"))
  var callers = "1,16,64"

  @Option(help: ArgumentHelp("Of each measurement, after a second of warming up.", valueName: "s"))
  var seconds = 3.0

  @Option(help: ArgumentHelp("The model for hash codes, as for 'dev up'.", valueName: "file"))
  var model: String?

  @Flag(help: "Show what the connections do, on standard error.") var verbose = false

  private var callerCounts: [Int]? {
    let counts = callers.split(separator: ",").map { Int($0) }
    let known = counts.compactMap { $0 }
    return known.count == counts.count && !known.isEmpty && known.allSatisfy((1...1024).contains)
      ? known : nil
  }

  func validate() throws {
    guard callerCounts != nil else {
      throw ValidationError("--callers is a list of numbers from 1 to 1024, not '\(callers)'")
    }
    guard (0.1...600).contains(seconds) else {
      throw ValidationError("--seconds is 0.1 to 600, not \(seconds)")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    let (seconds, counts) = (seconds, callerCounts ?? [])
    typealias Row = (callers: Int, figures: MasterLoad.Figures)
    let (puts, reads) = try await DevCluster.temporarily(
      DevWishes(slaves: DevPlan.fewestSlaves, model: model), output: output, verbose: verbose
    ) { cluster in
      let connection = try await cluster.connect()
      let writes = QuotaWrites(masters: try connection.master())
      func measure(_ what: String, _ call: @escaping MasterLoad.Call) async -> [Row] {
        var rows: [Row] = []
        for count in counts {
          output.remark("\(what), \(Units.count(count, "caller"))")
          rows.append(
            (
              count,
              await MasterLoad(executor: connection.executor).run(
                callers: count, warmUpSeconds: 1, seconds: seconds, call)
            ))
        }
        return rows
      }
      let puts = await measure("writing") { try await writes.write($0, $1) }
      return (puts, await measure("reading") { try await writes.read($0, $1) })
    }
    var line: JSONObject = [
      "puts": .array(puts.map(Self.json)), "reads": .array(reads.map(Self.json)),
      "seconds": JSONValue(seconds),
    ]
    BenchContext.add(to: &line)
    output.emit(line)
    var table = Table([
      .init("what"), .init("callers", .right), .init("per second", .right), .init("median", .right),
      .init("99 %", .right), .init("failed", .right),
    ])
    for (what, rows) in [("write", puts), ("read", reads)] {
      for row in rows {
        let figures = row.figures
        table.add([
          what, "\(row.callers)", Units.fixed(figures.callsPerSecond, digits: 0),
          "\(figures.microseconds(50)) us", "\(figures.microseconds(99)) us", "\(figures.failed)",
        ])
      }
    }
    output.print(table)
    output.print(
      "two masters and a witness, \(Build.kind) build, \(BenchContext.machine())")
    return (puts + reads).allSatisfy { $0.figures.failed == 0 } ? .success : .someFailed
  }

  private static func json(_ callers: Int, _ figures: MasterLoad.Figures) -> JSONValue {
    .object([
      "callers": JSONValue(callers), "calls_per_s": JSONValue(figures.callsPerSecond),
      "p50_us": JSONValue(figures.microseconds(50)), "p99_us": JSONValue(figures.microseconds(99)),
      "errors": JSONValue(figures.failed),
    ])
  }
}
