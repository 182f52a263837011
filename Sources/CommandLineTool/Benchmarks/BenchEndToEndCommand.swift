import ArgumentParser
import Base
import Glibc

struct BenchEndToEndCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "e2e",
    abstract: "Measure a whole cluster on this machine: store every image of a folder, query each.",
    discussion: """
      Starts a cluster of its own in a temporary folder, with the daemons beside this program, and \
      takes it away afterwards. All images are uploaded, 4 at once; then each of them (at most 200) \
      is a query, one after another, for 5 results with their originals.

      EXAMPLE
        sfmedir bench e2e --images scans/ --json

      JSON: one line with upload_images_per_second, query_ms_p50, query_ms_p99, first_result_ms_p50 \
      (until the first result and its original have come), stored_bytes_per_byte (shadows on all \
      slaves by bytes of the originals), disk_bytes_per_byte (what the slaves' files take), images, \
      not_images, bytes, queries, results_per_query, slaves, sharing, build, version, date, machine.
      """)

  @OptionGroup var outputOptions: OutputOptions

  @Option(help: ArgumentHelp("The images; sub-folders too.", valueName: "folder"))
  var images: String

  @Option(help: ArgumentHelp("Slaves of the cluster.", valueName: "count"))
  var slaves = 5

  @Option(help: ArgumentHelp("The model for hash codes, as for 'dev up'.", valueName: "file"))
  var model: String?

  @Flag(help: "Show what the connections do, on standard error.") var verbose = false

  func validate() throws {
    guard (DevPlan.fewestSlaves...64).contains(slaves) else {
      throw ValidationError("--slaves is \(DevPlan.fewestSlaves) to 64, not \(slaves)")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    var collector = FileCollector(recursive: true)
    collector.add(images)
    if let failure = collector.failures.first { throw CommandFailure(failure) }
    guard !collector.items.isEmpty else {
      throw CommandFailure(.notFound, "there are no images in \(images)")
    }
    let figures = try await DevCluster.temporarily(
      DevWishes(slaves: slaves, model: model), output: output, verbose: verbose
    ) {
      try await EndToEndBench(cluster: $0, items: collector.items, output: output).run()
    }
    output.emit(figures.line)
    figures.print(to: output)
    return .success
  }
}
