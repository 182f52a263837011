import ArgumentParser
import Messages
import RPC

/// A number of bytes, as a person types it: 4096, 500MiB, 10GiB, 2TiB.
struct ByteCountArgument: ExpressibleByArgument, Sendable {
  let bytes: UInt64

  private static let units: [(suffix: String, shift: UInt64)] = [
    ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("PiB", 50),
  ]

  init?(argument: String) {
    let unit = Self.units.first { argument.hasSuffix($0.suffix) }
    let digits = argument.dropLast(unit?.suffix.count ?? 0)
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }),
      let number = UInt64(digits)
    else { return nil }
    let (bytes, overflow) = number.multipliedReportingOverflow(by: 1 << (unit?.shift ?? 0))
    guard !overflow, bytes <= UInt64(Int64.max) else { return nil }
    self.bytes = bytes
  }
}

struct QuotaCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quota",
    abstract: "How much owners store, and how much they may.",
    discussion: """
      EXAMPLE
        sfmedir quota set mo-1 500GiB
      """,
    subcommands: [QuotaListCommand.self, QuotaSetCommand.self],
    defaultSubcommand: QuotaListCommand.self)
}

struct QuotaListCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List what each owner has stored, and its bound.",
    discussion: """
      EXAMPLE
        sfmedir quota list

      JSON: a line {"type":"owner"} for each with owner, images, bytes, pending_bytes, maximum_bytes \
      (0: no bound).
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    let calls = MasterCalls(try await connection.connect(output), connection.timeouts)
    let reply = try await calls.call(
      MasterCloudMethods.listOwners, Empty(), during: "listing the owners")
    var table = Table([
      .init("owner"), .init("images", .right), .init("encrypted", .right), .init("quota", .right),
      .init("used", .right),
    ])
    for owner in reply.owners {
      output.emit([
        "type": "owner", "owner": .string(owner.owner), "images": JSONValue(owner.images),
        "bytes": JSONValue(owner.bytes), "pending_bytes": JSONValue(owner.pendingBytes),
        "maximum_bytes": JSONValue(owner.maximumBytes),
      ])
      let isBound = owner.maximumBytes > 0
      table.add([
        owner.owner, "\(owner.images)", Units.bytes(owner.bytes),
        isBound ? Units.bytes(owner.maximumBytes) : "none",
        isBound
          ? Units.fixed(100 * Double(owner.bytes) / Double(owner.maximumBytes), digits: 0) + "%"
          : "-",
      ])
    }
    output.print(reply.owners.isEmpty ? Table([.init("no owner has stored anything")]) : table)
    return .success
  }
}

struct QuotaSetCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "set",
    abstract: "Set how many encrypted bytes an owner may store; 0: no bound.",
    discussion: """
      What is stored already stays, also where it is more.

      EXAMPLE
        sfmedir quota set mo-1 500GiB

      JSON: one line {"type":"owner"} with owner, maximum_bytes.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "The owner's node name.") var owner: String

  @Argument(help: ArgumentHelp("Bytes, or with KiB, MiB, GiB, TiB behind them.", valueName: "size"))
  var size: ByteCountArgument

  func execute(_ output: Output) async throws -> ExitStatus {
    let calls = MasterCalls(try await connection.connect(output), connection.timeouts)
    var request = SetQuotaRequest()
    (request.owner, request.maximumBytes) = (owner, size.bytes)
    _ = try await calls.call(
      MasterCloudMethods.setQuota, request, during: "setting the quota of \(owner)")
    output.emit([
      "type": "owner", "owner": .string(owner), "maximum_bytes": JSONValue(size.bytes),
    ])
    output.print(
      size.bytes == 0
        ? "\(owner) may store any amount" : "\(owner) may store \(Units.bytes(size.bytes))")
    return .success
  }
}
