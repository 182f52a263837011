import ArgumentParser
import Base

struct BenchCareCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "care",
    abstract:
      "Break a whole cluster on this machine while it is queried, and measure how it heals.",
    discussion: """
      Starts a cluster of its own in a temporary folder and stores synthetic images in it. Queries run \
      one after another, first in quiet. Then two slaves are killed for good, every shadow of a third \
      is damaged on its disk, and a fourth is drained, all at once, with the queries going on. At the \
      end every image has to have all the shadows that it had at first, each read and compared, and \
      every original has to come back.

      EXAMPLE
        sfmedir bench care --json

      JSON: one line with images, slaves, sharing, repair_seconds (from the first kill until nothing was \
      left to do), detection_seconds (of those, until slaves were given up), repaired_shadows, \
      rebuilt_shadows, copied_shadows, repaired_bytes, repair_mbps (10^6 bytes a second, of the time \
      after detection), query_ms_p50_quiet, query_ms_p99_quiet, query_ms_p50_repair, \
      query_ms_p99_repair, p99_ratio, queries_quiet, queries_repair, queries_failed, images_not_whole, \
      images_lost, build, version, date, machine.

      Exit codes: 0 every image is whole; 1 some are not.
      """)

  @OptionGroup var outputOptions: OutputOptions

  @Option(help: ArgumentHelp("Images to store.", valueName: "count"))
  var images = 2000

  @Option(help: ArgumentHelp("Slaves of the cluster, at least 9.", valueName: "count"))
  var slaves = 10

  @Option(help: "Another seed gives other pictures.") var seed: UInt64 = 1

  @Option(help: ArgumentHelp("Queries in quiet, before anything breaks.", valueName: "count"))
  var queries = 600

  @Option(help: ArgumentHelp("The model for hash codes, as for 'dev up'.", valueName: "file"))
  var model: String?

  @Flag(help: "Show what the connections do, on standard error.") var verbose = false

  func validate() throws {
    guard (9...64).contains(slaves) else {
      throw ValidationError("--slaves is 9 to 64, not \(slaves)")
    }
    guard (10...100_000).contains(images) else {
      throw ValidationError("--images is 10 to 100000, not \(images)")
    }
    guard (10...1_000_000).contains(queries) else {
      throw ValidationError("--queries is 10 to 1000000, not \(queries)")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    var care = DevCare()
    // Two are lost and one is damaged at the same time. None of the four gets a shadow any more: the damaged one is not trusted.
    (care.tolerance, care.spareSlaves) = (3, 4)
    care.repairAfterSeconds = CareBench.repairAfterSeconds
    let (images, seed, queries) = (images, seed, queries)
    let figures = try await DevCluster.temporarily(
      // One master: on two cores, three voters would be measured more than the slaves.
      DevWishes(slaves: slaves, masters: 1, care: care, model: model), output: output,
      verbose: verbose
    ) { cluster in
      let items = try CareBench.pictures(images, seed: seed, in: cluster.folder.path + "/pictures")
      return try await CareBench(
        cluster: cluster, items: items, quietQueries: queries, output: output
      ).run()
    }
    output.emit(figures.line)
    figures.print(to: output)
    return figures.isWhole ? .success : .someFailed
  }
}
