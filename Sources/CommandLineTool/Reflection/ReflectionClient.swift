import Messages
import RPC

/// What a daemon answered when it was asked for something, or why it did not.
struct DaemonAnswer<Value: Sendable>: Sendable {
  let target: DaemonTarget
  let result: Result<Value, RPCError>
}

extension DaemonTarget {
  func methods(timeout: Duration) async throws(RPCError) -> [MethodDescription] {
    try await channel.unary(
      ReflectionMethods.listMethods, Empty(), CallOptions(timeout: timeout)
    ).methods
  }

  /// These types and all that they mention.
  func schema(of types: [String], timeout: Duration) async throws -> Schema {
    var request = DescribeTypesRequest()
    request.names = Set(types).sorted()
    let reply = try await channel.unary(
      ReflectionMethods.describeTypes, request, CallOptions(timeout: timeout))
    do {
      return try Schema(reply)
    } catch {
      throw CommandFailure(
        .internalError, "\(title) describes its types wrongly: \(error)",
        advice: "the log of the daemon that was called has the details")
    }
  }
}

extension DaemonDirectory {
  /// The daemon that the options name, else one of each role.
  func targets(_ options: DaemonOptions, everySlave: Bool) async throws -> [DaemonTarget] {
    if let chosen = try await chosen(options) { return [chosen] }
    // A master that does not answer is told about anyway, since it is asked itself.
    let slaves = (try? await slaves()) ?? []
    return configured + (everySlave ? slaves[...] : slaves.prefix(1))
  }

  /// Asks all targets at once.
  static func ask<Value: Sendable>(
    _ targets: [DaemonTarget],
    _ question: @escaping @Sendable (DaemonTarget) async throws(RPCError) -> Value
  ) async -> [DaemonAnswer<Value>] {
    await each(targets) { target in
      DaemonAnswer(
        target: target,
        result: await outcome { () async throws(RPCError) in try await question(target) })
    }
  }

  /// A daemon and its method of this name.
  ///
  /// - Parameter mustBeOne: several daemons with such a method are an error; otherwise the first is taken.
  /// - Returns: nil where no daemon that answered has such a method.
  static func find(
    _ name: String, in answers: [DaemonAnswer<[MethodDescription]>], mustBeOne: Bool
  ) throws(CommandFailure) -> (DaemonTarget, MethodDescription)? {
    var found: [(target: DaemonTarget, method: MethodDescription)] = []
    for answer in answers {
      guard case .success(let methods) = answer.result else { continue }
      found += MethodDescription.named(name, in: methods).map { (answer.target, $0) }
    }
    let names = Set(found.map(\.method.fullName)).sorted()
    guard names.count <= 1 else {
      throw CommandFailure(
        .usage, "'\(name)' could be \(names.joined(separator: " or "))",
        advice: "give the whole name, and --node for a daemon")
    }
    guard found.count <= 1 || !mustBeOne else {
      throw CommandFailure(
        .usage,
        "\(names[0]) is offered by \(found.map(\.target.title).joined(separator: ", "))",
        advice: "say which with --node or --address")
    }
    return found.first
  }

  /// Nobody has what was asked for, perhaps since somebody did not answer.
  static func nothing<Value>(
    named name: String, _ what: String, _ answers: [DaemonAnswer<Value>]
  ) -> CommandFailure {
    let failures = answers.compactMap { answer -> CommandFailure? in
      guard case .failure(let error) = answer.result else { return nil }
      return CommandFailure(error, during: answer.target.title)
    }
    if failures.count == answers.count, let first = failures.first { return first }
    let missing = failures.map(\.message).joined(separator: "; ")
    return CommandFailure(
      .notFound, "no daemon has a \(what) '\(name)'" + (missing.isEmpty ? "" : " (\(missing))"),
      advice: "'sfmedir rpc list' names the methods", code: "NO_SUCH_METHOD")
  }
}
