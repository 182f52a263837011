import ArgumentParser
import Simulator

@main
struct Root: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sfmedir-simulate",
    abstract: "Plays the masters' consensus on simulated machines, checks histories of real ones.",
    subcommands: [SimulateCommand.self, CheckCommand.self],
    defaultSubcommand: SimulateCommand.self)
}

struct SimulateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "play",
    abstract:
      "Plays the masters' consensus under simulated faults, a whole cluster from each seed.",
    discussion: """
      Two masters, a witness and their clients run on simulated clocks, network and disks. Each seed is one run; the same
      seed gives the same run. Every step is checked: one leader a term, nothing committed changes or is lost, what
      clients saw is linearizable, reads at followers are no older than they say, and once the faults stop all agree.

      Example:
        sfmedir-simulate --seeds 2000
        sfmedir-simulate --from 4711 --seeds 1 --verbose
        sfmedir-simulate --mutants --seeds 200
        sfmedir-simulate --mutants --mutant forgetsVote

      JSON: one line with seeds, seeds_per_second, operations, unknown_operations (of unknown outcome), committed \
      (entries), elections, crashes, cuts, snapshots, replacements, stale_reads (reads at followers), fingerprint (the \
      same where the same was played), seen_in (in how many seeds something was seen), seen_by (for each check that saw \
      something, in how many seeds: two_leaders, lost_commit, went_back, log_matching, state, history, staleness, halt, \
      start, recovery, simulator), violations (a list with seed, time_milliseconds, kind (the check), text, again (the \
      command that plays it again)). With --mutants a line for each bug with mutant, seeds, seen_in, seen_by, \
      expected_by (the checks of which one has to see it), seen (whether one has).

      Exit status: 0 nothing found (with --mutants: every bug found), 1 otherwise, 64 usage.
      """)

  @Option(name: .long, help: "How many seeds.")
  var seeds: UInt64 = 200
  @Option(name: .long, help: "The first seed.")
  var from: UInt64 = 1
  @Option(name: .long, help: "Threads; 0 for one a processor.")
  var threads = 0
  @Option(name: .long, help: "Put this known bug into the code; the simulator has to see it.")
  var mutant: SimulationMutant?
  @Flag(
    name: .long, help: "Each known bug in turn, or that of --mutant: in how many seeds is it seen?")
  var mutants = false
  @Flag(name: .long, help: "Print what happens.")
  var verbose = false
  @Flag(name: .long, help: "JSON on standard output, one object a line.")
  var json = false

  func validate() throws {
    guard seeds >= 1 else { throw ValidationError("--seeds must be at least 1") }
    guard !from.addingReportingOverflow(seeds - 1).overflow else {
      throw ValidationError("--from and --seeds: the last seed is at most \(UInt64.max)")
    }
    guard !(verbose && json) else {
      throw ValidationError("--verbose prints text on standard output, --json does not")
    }
    guard (0...1024).contains(threads) else { throw ValidationError("--threads: 0 to 1024") }
  }

  /// The last seed there is may be the last one of them.
  private var range: ClosedRange<UInt64> { from...(from + (seeds - 1)) }

  func run() async throws {
    var configuration = Simulation.Configuration()
    configuration.isVerbose = verbose
    if mutants {
      try await huntMutants(configuration)
      return
    }
    configuration.mutant = mutant
    let campaign = await Campaign.run(
      seeds: range, threads: threads, configuration: configuration)
    if json {
      print(try campaign.json(mutant: mutant))
    } else {
      print(campaign.text)
      for violation in campaign.violations.prefix(10) {
        print("  \(violation)")
        print("    again: \(Campaign.replay(violation, mutant: mutant))")
      }
    }
    if !campaign.violations.isEmpty { throw ExitCode(1) }
  }

  private func huntMutants(_ configuration: Simulation.Configuration) async throws {
    var isAllFound = true
    for mutant in self.mutant.map({ [$0] }) ?? SimulationMutant.allCases {
      var configuration = configuration
      configuration.mutant = mutant
      let campaign = await Campaign.run(
        seeds: range, threads: threads, configuration: configuration)
      isAllFound = isAllFound && campaign.hasSeen(mutant)
      if json {
        print(try campaign.json(of: mutant))
      } else {
        let name = mutant.rawValue.padding(to: 30)
        let kinds = campaign.kinds.map { "\($0.kind.rawValue) \($0.seeds)" }
        let count = campaign.violations.count
        print("\(name) seen in \(count) of \(seeds) seeds: \(kinds.joined(separator: ", "))")
      }
    }
    if !isAllFound { throw ExitCode(1) }
  }
}

extension SimulationMutant: ExpressibleByArgument {}

extension String {
  fileprivate func padding(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
}
