import ArgumentParser

struct DevCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dev",
    abstract: "A whole cluster on this machine, with its state in one folder.",
    discussion: """
      Real daemons, one process each, that talk mutual TLS over 127.0.0.1: a key control entity \
      (kce-1), slaves (scs-1, ...), two masters (mcs-1, mcs-2) and their witness (witness-1), an image \
      owner (mo-1), an image user (mu-1).

      EXAMPLE
        sfmedir dev up
        sfmedir upload scans/
        sfmedir dev kill scs-3
        sfmedir query case.dcm
        sfmedir dev down
      """,
    subcommands: [
      DevUpCommand.self, DevDownCommand.self, DevStatusCommand.self, DevKillCommand.self,
      DevRestartCommand.self, DevLogsCommand.self,
    ])
}

struct DevOptions: ParsableArguments, Sendable {
  @Option(help: ArgumentHelp("The cluster's folder.", valueName: "folder"))
  var dir = "./sfmedir-dev"

  @Flag(help: "Show what the connections do, on standard error.") var verbose = false

  var folder: DevFolder { DevFolder(dir) }

  func load(_ output: Output) throws -> DevCluster {
    try DevCluster.load(folder, logger: WarningLog.logger(output: output, verbose: verbose))
  }
}

struct DevUpCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "up",
    abstract: "Make the cluster where there is none, and start what does not run.",
    discussion: """
      EXAMPLE
        sfmedir dev up --slaves 5

      JSON: a line {"type":"node"} for each daemon with node, role, pid, address, state, log; then \
      one {"type":"cluster"} with dir, config, nodes, started.

      Exit codes: 0 every daemon answers; 66 a program or the model is missing; 69 a daemon does not \
      answer; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var dev: DevOptions

  @Option(
    help: ArgumentHelp(
      "Slaves of a new cluster (default: 5); one that exists may get more of them.",
      valueName: "count"))
  var slaves: Int?

  @Option(help: ArgumentHelp("Image owners of a new cluster (default: 1).", valueName: "count"))
  var owners: Int?

  @Option(
    help: ArgumentHelp(
      "Masters of a new cluster: 1, or 2 with a witness (default: 2).", valueName: "count"))
  var masters: Int?

  @Option(help: ArgumentHelp("Image users of a new cluster (default: 1).", valueName: "count"))
  var users: Int?

  @Option(
    help: ArgumentHelp(
      "r: shadows that give an image back, with --shadows (default: random per image).",
      valueName: "r"))
  var threshold: Int?

  @Option(help: ArgumentHelp("s: shadows of each image, with --threshold.", valueName: "s"))
  var shadows: Int?

  @Option(
    help: ArgumentHelp(
      "Slaves without a shadow of an image, for repairs (default: 1; 0 with few slaves).",
      valueName: "count"))
  var spareSlaves: Int?

  @Option(
    help: ArgumentHelp("Lost slaves that every image survives (default: 1).", valueName: "count"))
  var tolerance: Int?

  @Option(
    help: ArgumentHelp(
      "How long a slave may be silent until its shadows are rebuilt (default: 600).",
      valueName: "seconds"))
  var repairAfter: Int?

  @Flag(help: "Turn repair, draining and rebalancing off.") var noCare = false

  @Option(
    help: ArgumentHelp(
      "The model for hash codes (default: $SFMEDIR_MODEL, else the one that comes with the program).",
      valueName: "file"))
  var model: String?

  @Option(help: ArgumentHelp("How long the daemons may take to answer.", valueName: "seconds"))
  var wait = 60

  func validate() throws {
    for (name, value, range) in [
      ("--slaves", slaves, DevPlan.fewestSlaves...64), ("--owners", owners, 1...16),
      ("--users", users, 1...16), ("--masters", masters, 1...2), ("--wait", wait, 1...3600),
      ("--threshold", threshold, 2...8),
      ("--spare-slaves", spareSlaves, 0...60), ("--tolerance", tolerance, 1...60),
      ("--repair-after", repairAfter, 1...2_592_000),
    ] {
      guard value == nil || range.contains(value!) else {
        throw ValidationError(
          "\(name) is \(range.lowerBound) to \(range.upperBound), not \(value!)")
      }
    }
    _ = try sharing()
  }

  func sharing() throws -> DevSharing? {
    switch (threshold, shadows) {
    case (nil, nil): return nil
    case (let threshold?, let shadows?):
      guard shadows > threshold, shadows <= slaves ?? DevWishes.usualSlaves else {
        throw ValidationError(
          "--shadows is more than --threshold and at most the number of slaves, not \(shadows)")
      }
      var sharing = DevSharing()
      sharing.threshold = threshold
      sharing.shadows = shadows
      return sharing
    default: throw ValidationError("--threshold and --shadows go together")
    }
  }

  /// Nil where nothing is said about it.
  private var care: DevCare? {
    guard spareSlaves != nil || tolerance != nil || repairAfter != nil || noCare else {
      return nil
    }
    var care = DevCare()
    (care.spareSlaves, care.tolerance) = (spareSlaves, tolerance)
    (care.repairAfterSeconds, care.isOff) = (repairAfter, noCare)
    return care
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    let folder = dev.folder
    try Files.createDirectories(folder.path)
    let lock = try folder.lock()
    defer { lock.release() }
    let wishes = DevWishes(
      slaves: slaves, owners: owners, users: users, masters: masters, sharing: try sharing(),
      care: care,
      model: model)
    let (cluster, started) = try await DevCluster.up(
      folder, wishes: wishes, waitSeconds: wait,
      logger: WarningLog.logger(output: output, verbose: dev.verbose)
    ) { output.remark($0) }
    let rows = cluster.plan.nodes.map { ($0, DevHealth.ok) }
    DevTable.show(rows, cluster, to: output)
    output.emit([
      "type": "cluster", "dir": .string(folder.path), "config": .string(folder.client(1)),
      "nodes": JSONValue(cluster.plan.nodes.count), "started": JSONValue(started.count),
    ])
    output.print()
    output.print(
      "\(Units.count(started.count, "daemon")) started; shadows: \(sharingText(cluster))")
    let isDefault = folder == DevFolder("./sfmedir-dev")
    let option = isDefault ? "" : "--config \(folder.client(1)) "
    output.print("next: sfmedir upload \(option)FILES...   end: sfmedir dev down --dir \(dev.dir)")
    return .success
  }

  private func sharingText(_ cluster: DevCluster) -> String { cluster.plan.sharing.description }
}

struct DevDownCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "down",
    abstract: "Stop all daemons of the cluster; what they store stays.",
    discussion: """
      EXAMPLE
        sfmedir dev down --wipe

      JSON: a line {"type":"node"} for each daemon with node, outcome (stopped, killed, was not \
      running); then one {"type":"cluster"} with dir, wiped.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var dev: DevOptions

  @Flag(help: "Remove the cluster with everything stored in it.") var wipe = false

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try dev.load(output)
    let lock = try cluster.folder.lock()
    defer { lock.release() }
    let outcomes = try cluster.stop(cluster.plan.nodes)
    for (node, outcome) in outcomes {
      output.emit([
        "type": "node", "node": .string(node.name), "outcome": .string(outcome.rawValue),
      ])
      if outcome == .killed {
        output.remark("\(node.name) did not stop in time and was killed")
      }
    }
    if wipe { try cluster.folder.wipe() }
    output.emit([
      "type": "cluster", "dir": .string(cluster.folder.path), "wiped": .bool(wipe),
    ])
    let stopped = outcomes.count { $0.outcome != .notRunning }
    let rest = wipe ? "; \(cluster.folder.path) removed" : ""
    output.print("\(Units.count(stopped, "daemon")) stopped\(rest)")
    return .success
  }
}

struct DevStatusCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show every daemon: process, address, whether it answers.",
    discussion: """
      EXAMPLE
        sfmedir dev status

      JSON: a line {"type":"node"} for each daemon with node, role, pid, address, state (ok, problem, \
      silent, stopped), log, and problem.

      Exit codes: 0 all are well; 1 some are not.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var dev: DevOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try dev.load(output)
    let rows = await DevTable.examine(cluster)
    DevTable.show(rows, cluster, to: output)
    return rows.allSatisfy { $0.1 == .ok } ? .success : .someFailed
  }
}

struct DevKillCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "kill",
    abstract: "End a daemon at once, as a crash would (SIGKILL).",
    discussion: """
      EXAMPLE
        sfmedir dev kill scs-3

      JSON: one line {"type":"node"} with node, outcome (killed, was not running).
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var dev: DevOptions

  @Argument(help: "The node, for instance scs-3.") var node: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try dev.load(output)
    let node = try cluster.node(self.node)
    let killed = try cluster.processes.kill(node)
    let outcome = killed ? "killed" : DevProcesses.StopOutcome.notRunning.rawValue
    output.emit(["type": "node", "node": .string(node.name), "outcome": .string(outcome)])
    output.print("\(node.name) \(outcome)")
    return .success
  }
}

struct DevRestartCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "restart",
    abstract: "Stop a daemon properly, start it, and wait until it answers.",
    discussion: """
      EXAMPLE
        sfmedir dev restart scs-3

      JSON: one line {"type":"node"} with node, role, pid, address, state, log.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var dev: DevOptions

  @Argument(help: "The node, for instance scs-3.") var node: String

  @Option(help: ArgumentHelp("How long it may take to answer.", valueName: "seconds"))
  var wait = 60

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try dev.load(output)
    let node = try cluster.node(self.node)
    let lock = try cluster.folder.lock()
    defer { lock.release() }
    try cluster.processes.checkExecutables([node])
    try cluster.stop([node])
    _ = try cluster.processes.start(node)
    let clock = Deadline(seconds: wait)
    try await cluster.readiness().waitUntilReady(
      [node], processes: cluster.processes, deadlineNanoseconds: clock.nanoseconds)
    DevTable.show([(node, .ok)], cluster, to: output)
    return .success
  }
}

struct DevLogsCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "logs",
    abstract: "Show the last lines of a daemon's log.",
    discussion: """
      EXAMPLE
        sfmedir dev logs mcs-1 -n 100

      JSON: a line {"type":"log"} for each line with node, line.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var dev: DevOptions

  @Argument(help: "The node, for instance mcs-1.") var node: String

  @Option(name: [.customShort("n"), .long], help: "How many lines, at most 1000.")
  var lines = 40

  func validate() throws {
    guard (1...1000).contains(lines) else {
      throw ValidationError("-n is 1 to 1000, not \(lines)")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try dev.load(output)
    let node = try cluster.node(self.node)
    for line in cluster.folder.lastLogLines(node.name, count: lines) {
      output.print(line)
      output.emit(["type": "log", "node": .string(node.name), "line": .string(line)])
    }
    return .success
  }
}
