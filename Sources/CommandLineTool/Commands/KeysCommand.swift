import ArgumentParser
import Messages
import RPC

/// The kinds of keys, as a person types them.
enum KeyKindArgument: String, ExpressibleByArgument, CaseIterable, Sendable {
  case image, threshold, index

  var kind: KeyKind {
    switch self {
    case .image: .image
    case .threshold: .threshold
    case .index: .index
    }
  }

  static func name(of kind: KeyKind) -> String {
    allCases.first { $0.kind == kind }?.rawValue ?? "unknown"
  }

  static func purpose(of kind: KeyKind) -> String {
    switch kind {
    case .image: "wraps the images' data keys (K_QIE)"
    case .threshold: "encrypts thresholds (K_rEK)"
    case .index: "masks hash codes (K_IDX)"
    default: "-"
    }
  }
}

struct KeysCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keys",
    abstract: "The cluster's keys: list their versions, add a version.",
    discussion: """
      EXAMPLE
        sfmedir keys rotate image
      """,
    subcommands: [KeysListCommand.self, KeysRotateCommand.self],
    defaultSubcommand: KeysListCommand.self)
}

struct KeysListCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List all versions of all keys; never the keys themselves.",
    discussion: """
      EXAMPLE
        sfmedir keys list

      JSON: a line {"type":"key"} for each version with kind, version, created_at_milliseconds, \
      current.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try await connection.connect(output)
    let reply: ListKeysReply
    do {
      reply = try await cluster.keyControl().unary(
        KeyControlMethods.listKeys, Empty(), CallOptions(timeout: connection.timeouts.small))
    } catch {
      throw CommandFailure(error, during: "listing the keys")
    }
    var table = Table([
      .init("key"), .init("version", .right), .init("since"), .init("state"), .init("purpose"),
    ])
    for key in reply.keys {
      let name = KeyKindArgument.name(of: key.kind)
      table.add([
        name, "\(key.version)", Units.time(milliseconds: key.createdAtMilliseconds),
        key.current ? "current" : "opens older images", KeyKindArgument.purpose(of: key.kind),
      ])
      output.emit([
        "type": "key", "kind": .string(name), "version": JSONValue(key.version),
        "created_at_milliseconds": JSONValue(key.createdAtMilliseconds),
        "current": .bool(key.current),
      ])
    }
    output.print(table)
    return .success
  }
}

struct KeysRotateCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "rotate",
    abstract: "Add a new version of a key.",
    discussion: """
      Older versions stay, so that what they protect can still be opened. A daemon uses the new \
      version once it has fetched it: at its next start, owners and users also by themselves.

      EXAMPLE
        sfmedir keys rotate image

      JSON: one line {"type":"key"} with kind, version.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "image, threshold or index.") var kind: KeyKindArgument

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try await connection.connect(output)
    var request = RotateKeyRequest()
    request.kind = kind.kind
    let reply: RotateKeyReply
    do {
      reply = try await cluster.keyControl().unary(
        KeyControlMethods.rotateKey, request, CallOptions(timeout: connection.timeouts.small))
    } catch {
      throw CommandFailure(error, during: "rotating the key '\(kind.rawValue)'")
    }
    output.emit([
      "type": "key", "kind": .string(kind.rawValue), "version": JSONValue(reply.version),
    ])
    output.print("key '\(kind.rawValue)' has version \(reply.version) now")
    return .success
  }
}
