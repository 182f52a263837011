import ArgumentParser
import Messages
import RPC

struct RPCCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rpc",
    abstract: "Look into daemons: methods, types, counters, health; call any method with JSON.",
    discussion: """
      What a daemon offers is asked of the daemon itself, so daemons that are newer than this program \
      can be called as well.

      EXAMPLE
        sfmedir rpc list --node mcs
        sfmedir rpc describe MasterCloud/ClusterStatus
        sfmedir rpc call MasterCloud/ClusterStatus
        sfmedir rpc health --watch
      """,
    subcommands: [
      RPCListCommand.self, RPCDescribeCommand.self, RPCCallCommand.self, RPCMetricsCommand.self,
      RPCHealthCommand.self,
    ])
}

/// Daemons that did not answer: told at the end, and the exit code.
struct UnansweredDaemons {
  private var failures: [CommandFailure] = []
  private var answered = 0

  mutating func note(_ error: RPCError, _ target: DaemonTarget, _ output: Output) {
    let failure = CommandFailure(error, during: target.title)
    failures.append(failure)
    var line: JSONObject = ["type": "daemon"]
    target.add(to: &line)
    failure.add(to: &line)
    output.emit(line)
  }

  mutating func noteAnswer() { answered += 1 }

  /// - Throws: the failure where no daemon answered at all.
  func finish(_ output: Output) throws(CommandFailure) -> ExitStatus {
    if answered == 0, let first = failures.first { throw first }
    output.fail(items: failures)
    return failures.isEmpty ? .success : .someFailed
  }
}

struct RPCListCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the methods that daemons offer, and who may call them.",
    discussion: """
      Without --node or --address one daemon of each role is asked.

      EXAMPLE
        sfmedir rpc list
        sfmedir rpc list --address 10.0.0.7:7103 --role scs

      JSON: a line {"type":"method"} for each method with role, node, address, method, request, \
      reply, client_streams, server_streams, idempotency (unknown, idempotent, no_side_effects), \
      roles, open; {"type":"daemon"} with error for each daemon that does not answer.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var daemon: DaemonOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    let timeout = connection.timeouts.small
    let directory = DaemonDirectory(cluster: try await connection.connect(output), timeout: timeout)
    let targets = try await directory.targets(daemon, everySlave: false)
    let answers = await DaemonDirectory.ask(targets) { (target) async throws(RPCError) in
      try await target.methods(timeout: timeout)
    }
    var unanswered = UnansweredDaemons()
    var table = Table([
      .init("daemon"), .init("method"), .init("shape"), .init("request"), .init("reply"),
      .init("callers"),
    ])
    for answer in answers {
      switch answer.result {
      case .failure(let error): unanswered.note(error, answer.target, output)
      case .success(let methods):
        unanswered.noteAnswer()
        for method in methods {
          table.add([
            answer.target.role.rawValue, method.fullName, method.shape, method.requestType,
            method.replyType, method.callers,
          ])
          var line = SchemaText.json(of: method)
          answer.target.add(to: &line)
          output.emit(line)
        }
      }
    }
    if !table.rows.isEmpty { output.print(table) }
    return try unanswered.finish(output)
  }
}

struct RPCDescribeCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "describe",
    abstract: "Show a method or a type with everything that it mentions.",
    discussion: """
      A method is named in full or by its end ("HasImages"), a type in full or without "sfmedir.v1.".

      EXAMPLE
        sfmedir rpc describe MasterCloud/HasImages
        sfmedir rpc describe ImageRecord

      JSON: a line {"type":"method"} where it is one, with the keys of 'rpc list'; a line \
      {"type":"message"} for each message with name, fields (name, json_name, number, repeated, \
      field_type); a line {"type":"enum"} for each enumeration with name, values (name, number).
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var daemon: DaemonOptions

  @Argument(help: "The method or the type.") var name: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let timeout = connection.timeouts.small
    let directory = DaemonDirectory(cluster: try await connection.connect(output), timeout: timeout)
    let targets = try await directory.targets(daemon, everySlave: false)
    let answers = await DaemonDirectory.ask(targets) { (target) async throws(RPCError) in
      try await target.methods(timeout: timeout)
    }
    if let (target, method) = try DaemonDirectory.find(name, in: answers, mustBeOne: false) {
      let schema = try await target.schema(
        of: [method.requestType, method.replyType], timeout: timeout)
      var line = SchemaText.json(of: method)
      target.add(to: &line)
      output.emit(line)
      output.print(SchemaText.line(of: method))
      output.print("  \(method.shape), \(method.repeating), for \(method.callers)")
      print(schema, first: [method.requestType, method.replyType], output)
      return .success
    }
    let type = name.contains(".") ? name : "sfmedir.v1.\(name)"
    for answer in answers {
      guard case .success = answer.result else { continue }
      do {
        print(
          try await answer.target.schema(of: [type], timeout: timeout), first: [type], output)
        return .success
      } catch let error as RPCError where error.code == .notFound { continue }
    }
    throw DaemonDirectory.nothing(named: name, "method or type", answers)
  }

  /// What was asked for comes first, then what it mentions.
  private func print(_ schema: Schema, first names: [String], _ output: Output) {
    func rank(_ name: String) -> Int { names.firstIndex(of: name) ?? names.count }
    for message in schema.messages.values.sorted(by: {
      (rank($0.name), $0.name) < (rank($1.name), $1.name)
    }) {
      output.emit(SchemaText.json(of: message))
      output.print()
      for line in SchemaText.lines(of: message) { output.print(printable(line)) }
    }
    for enumeration in schema.enumerations.values.sorted(by: { $0.name < $1.name }) {
      output.emit(SchemaText.json(of: enumeration))
      output.print()
      for line in SchemaText.lines(of: enumeration) { output.print(printable(line)) }
    }
  }
}
