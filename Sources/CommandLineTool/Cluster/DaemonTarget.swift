import ArgumentParser
import Messages
import RPC

/// One daemon that a command talks to.
struct DaemonTarget: Sendable {
  let role: Role
  let address: Address
  /// Empty where only the role is known.
  var node = ""
  let channel: Channel

  /// For tables and sentences.
  var title: String { "\(node.isEmpty ? role.rawValue : node) \(address)" }

  /// The members that each line of JSON about this daemon has.
  func add(to line: inout JSONObject) {
    line["role"] = .string(role.rawValue)
    line["node"] = .string(node)
    line["address"] = .string("\(address)")
  }
}

/// Which daemon is meant.
struct DaemonOptions: ParsableArguments, Sendable {
  @Option(
    help: ArgumentHelp(
      "The daemon: kce, mo, mcs or mu as the configuration has them, or the node that its certificate names.",
      valueName: "name"))
  var node: String?

  @Option(help: ArgumentHelp("The daemon at this address; needs --role.", valueName: "host:port"))
  var address: String?

  @Option(help: "The role of the daemon at --address: kce, mo, mcs, scs or mu.")
  var role: String?

  mutating func validate() throws {
    guard node == nil || address == nil else {
      throw ValidationError("--node and --address both name a daemon: give one")
    }
    guard (address == nil) == (role == nil) else {
      throw ValidationError("--address and --role belong together")
    }
    if let address, Address(address) == nil {
      throw ValidationError("--address is host:port, not '\(address)'")
    }
    if let role, Role(rawValue: role) == nil || role == Role.operatorTool.rawValue {
      throw ValidationError("--role is kce, mo, mcs, scs or mu, not '\(role)'")
    }
    if let node, !Identity.isName(node) {
      throw ValidationError("--node is a name of 1 to 63 of a-z 0-9 -, not '\(node)'")
    }
  }
}

/// Finds daemons: those of the configuration, and the slaves that the master knows.
struct DaemonDirectory: Sendable {
  let cluster: ClusterConnection
  /// For the questions that find a daemon: one that is silent must not hold up the others for long.
  let timeout: Duration

  private static let longestSearch = Duration.seconds(10)

  init(cluster: ClusterConnection, timeout: Duration) {
    self.cluster = cluster
    self.timeout = min(timeout, Self.longestSearch)
  }

  /// The daemons that the configuration names.
  var configured: [DaemonTarget] {
    let configuration = cluster.configuration
    var named: [(Role, Address?)] = [(.keyControl, configuration.keyControl)]
    named += configuration.masters.map { (.master, $0.address) }
    named += [(.imageOwner, configuration.imageOwner), (.imageUser, configuration.imageUser)]
    return named.compactMap { role, address in
      address.map {
        DaemonTarget(role: role, address: $0, channel: cluster.channel(to: $0, role: role))
      }
    }
  }

  /// The slaves, as the master has them; none where the configuration has no master.
  func slaves() async throws(RPCError) -> [DaemonTarget] {
    guard let master = try? cluster.master() else { return [] }
    let state = try await master.unary(
      MasterCloudMethods.clusterStatus, Empty(), CallOptions(timeout: timeout))
    return state.slaves.compactMap { slave in
      guard let address = Address(slave.address), Identity.isName(slave.node) else { return nil }
      return DaemonTarget(
        role: .slave, address: address, node: slave.node,
        channel: cluster.channel(to: address, role: .slave, node: slave.node))
    }
  }

  /// The daemon that the options name; nil where they name none.
  func chosen(_ options: DaemonOptions) async throws -> DaemonTarget? {
    if let text = options.address, let address = Address(text),
      let role = options.role.flatMap(Role.init(rawValue:))
    {
      return DaemonTarget(
        role: role, address: address, channel: cluster.channel(to: address, role: role))
    }
    guard let name = options.node else { return nil }
    if let target = configured.first(where: { $0.role.rawValue == name }) { return target }
    return try await node(name)
  }

  /// Certificates say who a daemon is: each address is tried with the name that is looked for.
  private func node(_ name: String) async throws -> DaemonTarget {
    async let slaves = Self.outcome { () async throws(RPCError) in try await self.slaves() }
    let tried = await Self.each(configured) { target -> DaemonTarget? in
      let channel = cluster.channel(to: target.address, role: target.role, node: name)
      do throws(RPCError) {
        _ = try await channel.unary(
          HealthMethods.check, HealthCheckRequest(), CallOptions(timeout: timeout))
      } catch {
        // Whoever answers at all has shown the certificate that was asked for.
        let silence: Set<StatusCode> = [.unauthenticated, .unavailable, .deadlineExceeded]
        if silence.contains(error.code) { return nil }
      }
      return DaemonTarget(
        role: target.role, address: target.address, node: name, channel: channel)
    }
    if let found = tried.compactMap({ $0 }).first { return found }
    let known = await slaves
    if case .success(let slaves) = known, let slave = slaves.first(where: { $0.node == name }) {
      return slave
    }
    var advice = "kce, mo, mcs and mu name the daemons of \(cluster.configuration.path)"
    switch known {
    case .success(let slaves) where !slaves.isEmpty:
      advice += "; the slaves are \(slaves.map(\.node).joined(separator: ", "))"
    case .failure(let error): advice += "; the master did not tell its slaves: \(error.message)"
    default: break
    }
    throw CommandFailure(
      .notFound, "no daemon with the name '\(name)' answers", advice: advice,
      code: "NO_SUCH_NODE")
  }

  // MARK: asking several

  /// Asks all at once; answers come in the order of the targets.
  static func each<Answer: Sendable>(
    _ targets: [DaemonTarget], _ ask: @escaping @Sendable (DaemonTarget) async -> Answer
  ) async -> [Answer] {
    await withTaskGroup(of: (Int, Answer).self) { group in
      for (index, target) in targets.enumerated() {
        group.addTask { (index, await ask(target)) }
      }
      var answers: [(Int, Answer)] = []
      for await answer in group { answers.append(answer) }
      return answers.sorted { $0.0 < $1.0 }.map(\.1)
    }
  }

  static func outcome<Value>(
    _ body: () async throws(RPCError) -> Value
  ) async -> Result<Value, RPCError> {
    do {
      return .success(try await body())
    } catch {
      return .failure(error)
    }
  }
}
