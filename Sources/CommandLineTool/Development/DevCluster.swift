import Base
import Glibc
import Logging
import RPC

/// What a new cluster on one machine shall be like; nil: as it is, or the usual.
struct DevWishes: Sendable {
  var slaves: Int?
  var owners: Int?
  var users: Int?
  var masters: Int?
  var sharing: DevSharing?
  var care: DevCare?
  var model: String?

  static let usualSlaves = 5
}

/// A whole cluster on this machine: real daemons, their state in one folder.
struct DevCluster: Sendable {
  let folder: DevFolder
  let plan: DevPlan
  let processes: DevProcesses
  let logger: Logger

  /// The cluster in a folder.
  static func load(_ folder: DevFolder, logger: Logger) throws -> DevCluster {
    guard let plan = try folder.loadPlan() else {
      throw CommandFailure(
        .notFound, "there is no cluster in \(folder.path)",
        advice: "'sfmedir dev up --dir \(folder.path)' makes one")
    }
    let processes = DevProcesses(
      folder: folder, executableDirectory: try Spawn.executableDirectory())
    return DevCluster(folder: folder, plan: plan, processes: processes, logger: logger)
  }

  func node(_ name: String) throws -> DevNode {
    if let node = plan.node(name) { return node }
    throw CommandFailure(
      .notFound, "there is no node '\(name)' in \(folder.path)",
      advice: "nodes are \(plan.nodes.map(\.name).joined(separator: ", "))")
  }

  // MARK: up

  /// Makes the cluster where there is none, and starts what does not run.
  ///
  /// What this call started is stopped again where it fails.
  static func up(
    _ folder: DevFolder, wishes: DevWishes, waitSeconds: Int, logger: Logger,
    remark: @escaping @Sendable (String) -> Void
  ) async throws -> (cluster: DevCluster, started: [DevNode]) {
    let processes = DevProcesses(
      folder: folder, executableDirectory: try Spawn.executableDirectory())
    var plan = try plan(for: folder, wishes, processes)
    try processes.checkExecutables(plan.nodes)
    try folder.create()
    try folder.save(plan)
    try folder.writeConfigurations(plan)
    if !plan.isInitialised {
      remark("making keys and certificates")
      try keyControl("init", [], plan, processes)
      plan.isInitialised = true
      try folder.save(plan)
    }
    let cluster = DevCluster(folder: folder, plan: plan, processes: processes, logger: logger)
    let stopped = plan.nodes.filter { processes.running($0) == nil }
    do {
      try await cluster.start(stopped, waitSeconds: waitSeconds, remark: remark)
    } catch {
      // In a task of its own, so that a cancelled one ends its daemons too.
      await Task.detached { _ = try? cluster.stop(stopped) }.value
      throw error
    }
    return (cluster, stopped)
  }

  /// A cluster in a temporary folder for as long as the body runs; nothing of it is left, however that ends.
  static func temporarily<Figures>(
    _ wishes: DevWishes, output: Output, verbose: Bool, _ body: (DevCluster) async throws -> Figures
  ) async throws -> Figures {
    let folder = DevFolder(try Files.makeTemporaryDirectory(prefix: "sfmedir-bench"))
    let outcome: Result<Figures, any Error>
    do {
      let (cluster, _) = try await up(
        folder, wishes: wishes, waitSeconds: 60,
        logger: WarningLog.logger(output: output, verbose: verbose)
      ) { output.remark($0) }
      do {
        outcome = .success(try await body(cluster))
      } catch {
        outcome = .failure(error)
      }
      // In a task of its own, so that an interrupted measurement leaves nothing running either.
      try await Task.detached { _ = try cluster.stop(cluster.plan.nodes) }.value
    } catch {
      try? Files.removeTree(folder.path)
      throw error
    }
    try Files.removeTree(folder.path)
    return try outcome.get()
  }

  private static func plan(
    for folder: DevFolder, _ wishes: DevWishes, _ processes: DevProcesses
  ) throws -> DevPlan {
    guard var plan = try folder.loadPlan() else {
      let names = DevPlan.names(
        slaves: wishes.slaves ?? DevWishes.usualSlaves, owners: wishes.owners ?? 1,
        users: wishes.users ?? 1, masters: wishes.masters ?? DevPlan.usualMasters)
      let nodes = zip(names, try DevPorts.choose(names.count)).map { name, port in
        DevNode(name: name.name, role: name.role, port: port)
      }
      let model = try DefaultModel.find(
        option: wishes.model, executableDirectory: processes.executableDirectory)
      var plan = DevPlan(nodes: nodes, modelPath: model)
      plan.sharing = wishes.sharing ?? DevSharing()
      plan.care = wishes.care ?? DevCare()
      return plan
    }
    let more = try added(wishes.slaves, to: plan)
    for (wish, role, noun) in [
      (more.isEmpty ? wishes.slaves : nil, Role.slave, "slaves"),
      (wishes.owners, .imageOwner, "owners"),
      (wishes.users, .imageUser, "users"), (wishes.masters, .master, "masters"),
    ] {
      let count = plan.nodes(role).count
      guard wish == nil || wish == count else {
        throw CommandFailure(
          .usage, "the cluster in \(folder.path) has \(count) \(noun), not \(wish!)",
          advice: "leave the option out, or remove the cluster with 'sfmedir dev down --wipe'")
      }
    }
    if !more.isEmpty {
      // The master learns of them at its start.
      _ = try processes.stop(plan.nodes(.master), graceMilliseconds: stopGraceMilliseconds)
      let place = (plan.nodes.lastIndex { $0.role == .slave } ?? 0) + 1
      plan.nodes.insert(contentsOf: more, at: place)
    }
    if let sharing = wishes.sharing { plan.sharing = sharing }
    if let care = wishes.care { plan.care = care }
    if let model = wishes.model {
      plan.modelPath = try DefaultModel.find(
        option: model, executableDirectory: processes.executableDirectory)
    }
    return try withFreePorts(plan, folder, processes)
  }

  /// Slaves that the cluster shall have more than it has.
  private static func added(_ wish: Int?, to plan: DevPlan) throws -> [DevNode] {
    let count = plan.nodes(.slave).count
    guard let wish, wish > count else { return [] }
    return zip(count + 1...wish, try DevPorts.choose(wish - count)).map { number, port in
      DevNode(name: "scs-\(number)", role: .slave, port: port)
    }
  }

  /// Another program may have taken a port since the cluster ran last.
  private static func withFreePorts(
    _ plan: DevPlan, _ folder: DevFolder, _ processes: DevProcesses
  ) throws -> DevPlan {
    let stopped = plan.nodes.filter { processes.running($0) == nil }
    let taken = stopped.filter { !DevPorts.isFree($0.port) }
    guard let first = taken.first else { return plan }
    guard stopped.count == plan.nodes.count else {
      throw CommandFailure(
        .unavailable, "port \(first.port) of \(first.name) is in use by another program",
        advice: "'sfmedir dev down' and then 'sfmedir dev up' chooses others")
    }
    var plan = plan
    plan.nodes = zip(plan.nodes, try DevPorts.choose(plan.nodes.count)).map { node, port in
      DevNode(name: node.name, role: node.role, port: port)
    }
    return plan
  }

  /// One of the administrative commands of the key control entity's program.
  private static func keyControl(
    _ command: String, _ arguments: [String], _ plan: DevPlan, _ processes: DevProcesses
  ) throws {
    let node = plan.nodes(.keyControl)[0]
    let folder = processes.folder
    let all = [command, "--config", folder.configuration(node.name)] + arguments
    let status = try Spawn.run(processes.executable(node), all, log: folder.log(node.name))
    guard status == 0 else {
      throw DevReadiness.failure(
        "'sfmedir-kce \(command)' ended with code \(status)", node, processes)
    }
  }

  func start(
    _ nodes: [DevNode], waitSeconds: Int, remark: (String) -> Void
  ) async throws {
    let deadline =
      SystemClock().monotonicNanoseconds() + UInt64(waitSeconds) * 1_000_000_000
    for node in nodes where node.role == .keyControl {
      remark("starting \(node.name)")
      _ = try processes.start(node)
      try await waitForListener(node, deadline)
    }
    let others = nodes.filter { $0.role != .keyControl }
    for node in others { try makeToken(role: node.role, name: node.name) }
    try makeToken(role: .operatorTool, name: DevPlan.operatorNode)
    for node in others { try makeLog(of: node) }
    if !others.isEmpty { remark("starting \(others.map(\.name).joined(separator: " "))") }
    for node in others {
      try Task.checkCancellation()
      _ = try processes.start(node)
    }
    let readiness = try await readiness()
    try await readiness.waitUntilReady(
      plan.nodes, processes: processes, deadlineNanoseconds: deadline)
  }

  /// A voter's log is made once in its life.
  private func makeLog(of node: DevNode) throws {
    guard node.role == .witness || (node.role == .master && plan.nodes(.master).count > 1),
      !Files.exists("\(folder.state(node.name))/raft")
    else { return }
    let status = try Spawn.run(
      processes.executable(node),
      ["--config", folder.configuration(node.name), "--initialize"] + node.arguments,
      log: folder.log(node.name))
    guard status == 0 else {
      throw DevReadiness.failure(
        "'\(node.executableName) --initialize' ended with code \(status)", node, processes)
    }
  }

  /// A certificate lasts; a token is needed only where there is none yet.
  private func makeToken(role: Role, name: String) throws {
    guard !Files.exists("\(folder.state(name))/identity/certificate.pem") else { return }
    let file = folder.joinFile(name)
    // What is left of an earlier start may have expired.
    try Files.removeTree(file)
    try Self.keyControl(
      "token", ["--role", role.rawValue, "--node", name, "--out", file], plan, processes)
  }

  /// Before the operator has an identity, all that can be seen is whether someone listens.
  private func waitForListener(_ node: DevNode, _ deadline: UInt64) async throws {
    while DevPorts.isFree(node.port) {
      if processes.running(node) == nil {
        throw DevReadiness.failure("\(node.name) ended at its start", node, processes)
      }
      if SystemClock().monotonicNanoseconds() > deadline {
        throw DevReadiness.failure("\(node.name) does not listen", node, processes)
      }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// A connection with this cluster's own configuration.
  func connect() async throws -> ClusterConnection {
    let configuration = try ClientConfiguration.load(option: folder.client(1))
    return try await ClusterConnection.open(configuration, logger: logger)
  }

  func readiness() async throws -> DevReadiness {
    DevReadiness(
      connection: try await connect(), expectedSlaves: Set(plan.nodes(.slave).map(\.name)))
  }

  // MARK: down

  @discardableResult
  func stop(
    _ nodes: [DevNode]
  ) throws(FileError) -> [(node: DevNode, outcome: DevProcesses.StopOutcome)] {
    var outcomes: [(node: DevNode, outcome: DevProcesses.StopOutcome)] = []
    for group in plan.stopOrder {
      outcomes += try processes.stop(
        group.filter(nodes.contains), graceMilliseconds: Self.stopGraceMilliseconds)
    }
    return outcomes
  }

  /// A little more than the daemons' own grace.
  static let stopGraceMilliseconds = DevConfigurationText.graceSeconds * 1000 + 3000
}
