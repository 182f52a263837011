import ArgumentParser
import Base
import Messages
import RPC

struct NodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node",
    abstract: "Slaves and masters that go, come and are replaced.",
    discussion: """
      A drained slave serves what it has until every shadow has been copied elsewhere; one that is \
      replaced is gone, and what it had is rebuilt from the others at once. Both are decisions in the \
      masters' log: they survive restarts.

      EXAMPLE
        sfmedir node list
        sfmedir node drain scs-3 --wait
        sfmedir node replace scs-4 --with scs-11
        sfmedir node masters
        sfmedir node transfer mcs-2
      """,
    subcommands: [
      NodeListCommand.self, NodeDrainCommand.self, NodeReplaceCommand.self,
      NodeActivateCommand.self, NodeForgetCommand.self, NodeScrubCommand.self,
      NodeMastersCommand.self, NodeTransferCommand.self,
    ],
    defaultSubcommand: NodeListCommand.self)
}

struct NodeListCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract:
      "List the slaves: where they stand, what was decided about them, how full and how sound they are.",
    discussion: """
      EXAMPLE
        sfmedir node list

      JSON: a line {"type":"slave"} for each with the keys of 'sfmedir status'.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try await connection.connect(output)
    let state = try await MasterCalls(cluster, connection.timeouts).status()
    var table = Table([
      .init("slave"), .init("zone"), .init("rack"), .init("host"), .init("condition"),
      .init("shadows", .right), .init("stored", .right), .init("free", .right),
      .init("bad", .right), .init("last full scrub"),
    ])
    for slave in state.slaves {
      output.emit(ClusterReport.line(of: slave))
      table.add([
        slave.node, SlaveText.domain(slave.zone, unless: slave.rack),
        SlaveText.domain(slave.rack, unless: slave.host),
        SlaveText.domain(slave.host, unless: slave.node), SlaveText.condition(of: slave),
        "\(slave.shadows)", Units.bytes(slave.storedBytes), Units.bytes(slave.freeBytes),
        "\(slave.badShadows)", Units.time(milliseconds: slave.lastFullScrubMilliseconds),
      ])
    }
    output.print(table)
    return .success
  }
}

struct NodeDrainCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "drain",
    abstract: "Move everything off a slave, which serves on meanwhile.",
    discussion: """
      It gets no new shadows. Once it is empty it may be stopped, and forgotten after that; \
      'sfmedir node activate' takes the decision back.

      EXAMPLE
        sfmedir node drain scs-3 --wait

      JSON: one line {"type":"slave"} with node, condition, replacement, placed_shadows, \
      garbage_shadows.

      Exit codes: 0; 66 no such slave; 75 with --wait: shadows are left that no other slave can take; \
      see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var wish: SlaveWish

  @Argument(help: "The slave.") var slave: String

  func execute(_ output: Output) async throws -> ExitStatus {
    try await wish.decide(slave, .draining, connection, output)
  }
}

struct NodeReplaceCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "replace",
    abstract: "Declare a slave lost, or put a new master or witness in a lost one's place.",
    discussion: """
      What a lost slave had is rebuilt on others at once. Nothing on it counts any more, also where it \
      still answers. A new slave stands in the masters' configuration before it can take over.

      With --address, the lost node is a master or the witness. The new one has another name, its log \
      was made by 'sfmedir-mcs --initialize --join', and it runs. It votes once both majorities agree; \
      its state comes from the leader.

      EXAMPLE
        sfmedir node replace scs-4 --with scs-11 --wait
        sfmedir node replace mcs-1 --with mcs-3 --address 10.0.0.7:7070

      JSON: for a slave one line {"type":"slave"} with node, condition, replacement, placed_shadows, \
      garbage_shadows; for a master or the witness what 'sfmedir node masters' writes.

      Exit codes: 0; 66 no such node; 75 with --wait: shadows are left that cannot be rebuilt; \
      see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var wish: SlaveWish

  @Option(
    help: ArgumentHelp(
      "Where the new master or witness is reached, host:port.", valueName: "address"))
  var address: String?

  @Argument(help: "The node that is lost.") var node: String

  func validate() throws {
    guard let address else { return }
    guard Address(address) != nil else {
      throw ValidationError("--address is '\(address)', which is not host:port")
    }
    guard wish.replacement != nil, !wish.wait else {
      throw ValidationError("--address goes with --with, and without --wait")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    guard let address, let new = wish.replacement else {
      return try await wish.decide(node, .lost, connection, output)
    }
    let cluster = try await connection.connect(output)
    let leader = try await LeaderCalls(cluster, connection.timeouts)
    var request = ReplaceMemberRequest()
    (request.oldNode, request.newNode, request.address) = (node, new, address)
    _ = try await leader.call(
      ConsensusMethods.replaceMember, request, during: "putting \(new) in the place of \(node)")
    // It is done, whoever can be asked about it now.
    if let after = try? await LeaderCalls(cluster, connection.timeouts) {
      VoterReport.show(after.status, to: output)
    }
    output.print("\(new) has taken the place of \(node); take \(node) out of all configurations")
    return .success
  }
}

struct NodeActivateCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "activate",
    abstract: "Let a slave take shadows again that was drained or declared lost.",
    discussion: """
      What it still has of images that were rebuilt elsewhere meanwhile is removed from it.

      EXAMPLE
        sfmedir node activate scs-3

      JSON: one line {"type":"slave"} with node, condition, replacement, placed_shadows, \
      garbage_shadows.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "The slave.") var slave: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let calls = MasterCalls(try await connection.connect(output), connection.timeouts)
    try await calls.set(slave, .active, replacement: "")
    let state = try await calls.slave(slave)
    output.emit(SlaveWish.line(of: state))
    output.print("\(slave) is active")
    return .success
  }
}

struct NodeForgetCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "forget",
    abstract: "Forget a slave that is stopped and will not come back.",
    discussion: """
      Refused while images have shadows there. Take it out of the masters' configuration afterwards.

      EXAMPLE
        sfmedir node forget scs-3

      JSON: one line {"type":"slave"} with node.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "The slave.") var slave: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let calls = MasterCalls(try await connection.connect(output), connection.timeouts)
    var request = ForgetSlaveRequest()
    request.slave = slave
    _ = try await calls.call(
      MasterCloudMethods.forgetSlave, request, during: "forgetting \(slave)")
    output.emit(["type": "slave", "node": .string(slave)])
    output.print("\(slave) is forgotten")
    return .success
  }
}

struct NodeScrubCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "scrub",
    abstract: "Let a slave read everything that it has stored again, now.",
    discussion: """
      At its configured rate. What it finds the master rebuilds; 'sfmedir status' shows both.

      EXAMPLE
        sfmedir node scrub scs-3

      JSON: one line {"type":"slave"} with node.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "The slave.") var slave: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try await connection.connect(output)
    let timeout = connection.timeouts.small
    let directory = DaemonDirectory(cluster: cluster, timeout: timeout)
    guard let target = try await directory.slaves().first(where: { $0.node == slave }) else {
      throw CommandFailure(
        .notFound, "the master has no slave '\(slave)'",
        advice: "'sfmedir node list' lists the slaves")
    }
    do {
      _ = try await target.channel.unary(
        SlaveCloudMethods.startScrub, Empty(), CallOptions(timeout: timeout))
    } catch {
      throw CommandFailure(error, during: "asking \(slave) to scrub")
    }
    output.emit(["type": "slave", "node": .string(slave)])
    output.print("\(slave) reads everything again; see 'sfmedir node list'")
    return .success
  }
}

/// Options of the commands that empty a slave.
struct SlaveWish: ParsableArguments, Sendable {
  @Option(
    name: .customLong("with"),
    help: ArgumentHelp("The slave that gets its shadows where possible.", valueName: "slave"))
  var replacement: String?

  @Flag(help: "Wait until nothing is left there, with progress.") var wait = false

  static func line(of slave: SlaveHealth) -> JSONObject {
    [
      "type": "slave", "node": .string(slave.node),
      "condition": .string(SlaveText.name(of: slave.condition)),
      "replacement": .string(slave.replacement), "placed_shadows": JSONValue(slave.placedShadows),
      "garbage_shadows": JSONValue(slave.garbageShadows),
    ]
  }

  func decide(
    _ slave: String, _ condition: SlaveCondition, _ connection: ConnectionOptions,
    _ output: Output
  ) async throws -> ExitStatus {
    let calls = MasterCalls(try await connection.connect(output), connection.timeouts)
    try await calls.set(slave, condition, replacement: replacement ?? "")
    var state = try await calls.slave(slave)
    if wait {
      state = try await waitUntilEmpty(slave, condition, calls, output)
      output.emit(Self.line(of: state))
      output.print("nothing is left on \(slave)")
      return .success
    }
    output.emit(Self.line(of: state))
    let left = Units.count(Int(clamping: state.placedShadows), "shadow")
    output.print(
      "\(slave) is \(SlaveText.name(of: condition)), \(left) to go; see 'sfmedir status'")
    return .success
  }

  /// Passes without any progress after which there is none to be expected.
  private static let fruitlessPasses: UInt64 = 3

  /// Returns when no image has a shadow there, and a slave that answers has deleted what it had.
  private func waitUntilEmpty(
    _ slave: String, _ condition: SlaveCondition, _ calls: MasterCalls, _ output: Output
  ) async throws -> SlaveHealth {
    let line = CareLine(output: output)
    defer { line.finish() }
    var least = UInt64.max
    var passesAtLeast: UInt64 = 0
    while true {
      let status = try await calls.status()
      guard let state = status.slaves.first(where: { $0.node == slave }),
        state.condition == condition
      else {
        throw CommandFailure(
          .temporary, "somebody decided otherwise about \(slave) meanwhile",
          advice: "'sfmedir node list' shows what holds now")
      }
      let garbage = state.reachable && condition == .draining ? state.garbageShadows : 0
      if state.placedShadows == 0, garbage == 0 { return state }
      let care = status.care ?? CareStatus()
      guard !care.off else {
        throw CommandFailure(
          .temporary, "repair is turned off: nothing leaves \(slave)",
          advice: "'care = true' in the master's configuration turns it on")
      }
      line.show(care)
      let left = state.placedShadows + garbage
      if left < least { (least, passesAtLeast) = (left, care.passes) }
      if state.placedShadows > 0, care.passes >= passesAtLeast + Self.fruitlessPasses {
        throw CommandFailure(
          .temporary,
          "\(Units.count(Int(clamping: state.placedShadows), "shadow")) of \(slave) cannot be placed"
            + (care.lastProblem.isEmpty ? "" : ": \(care.lastProblem)"),
          advice: "'sfmedir endangered' lists the images, 'sfmedir why ID' says what one waits for")
      }
      try await Task.sleep(for: .milliseconds(500))
    }
  }
}
