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
  @Flag(name: .long, help: "Each known bug in turn: in how many seeds is it seen?")
  var mutants = false
  @Flag(name: .long, help: "Print what happens.")
  var verbose = false
  @Flag(name: .long, help: "One JSON object on standard output.")
  var json = false

  func validate() throws {
    guard seeds >= 1 else { throw ValidationError("--seeds must be at least 1") }
    guard (0...1024).contains(threads) else { throw ValidationError("--threads: 0 to 1024") }
  }

  func run() async throws {
    var configuration = Simulation.Configuration()
    configuration.isVerbose = verbose
    if mutants {
      try await huntMutants(configuration)
      return
    }
    configuration.mutant = mutant
    let campaign = await Campaign.run(
      seeds: from...(from + seeds - 1), threads: threads, configuration: configuration)
    print(json ? campaign.json : campaign.text)
    for violation in campaign.violations.prefix(10) {
      print("  \(violation)")
      print("    again: \(Campaign.replay(violation, mutant: mutant))")
    }
    if !campaign.violations.isEmpty { throw ExitCode(1) }
  }

  private func huntMutants(_ configuration: Simulation.Configuration) async throws {
    var isAllFound = true
    for mutant in SimulationMutant.allCases {
      var configuration = configuration
      configuration.mutant = mutant
      let campaign = await Campaign.run(
        seeds: from...(from + seeds - 1), threads: threads, configuration: configuration)
      let found = campaign.violations.count
      let isSeen = campaign.violations.contains { mutant.seenBy.contains($0.kind) }
      isAllFound = isAllFound && isSeen
      if json {
        print("{\"mutant\":\"\(mutant.rawValue)\",\"seeds\":\(seeds),\"found\":\(found)}")
      } else {
        let name = mutant.rawValue.padding(to: 30)
        let kinds = campaign.kinds.map { "\($0.kind.rawValue) \($0.seeds)" }
        print("\(name) seen in \(found) of \(seeds) seeds: \(kinds.joined(separator: ", "))")
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
