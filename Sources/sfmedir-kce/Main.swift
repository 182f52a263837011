import ArgumentParser
import Base
import DaemonSupport
import Enrollment
import Glibc
import KeyControl
import RPC

@main
struct KeyControlCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sfmedir-kce",
    abstract: "The key control entity: the cluster's certificates and keys.",
    discussion: """
      Example, a new cluster:
        sfmedir-kce init  --config /etc/sfmedir/kce.toml
        sfmedir-kce token --config /etc/sfmedir/kce.toml --role scs --node scs-1 --out scs-1.join
        sfmedir-kce run   --config /etc/sfmedir/kce.toml

      Exit status: 0 ok, 64 usage, 69 unavailable, 70 internal error, 74 input or output,
      77 not permitted, 78 configuration.
      """,
    version: "0.1.0",
    subcommands: [Run.self, Initialize.self, Token.self, Keys.self],
    defaultSubcommand: Run.self)
}

/// What every subcommand takes.
struct ConfigurationOption: ParsableArguments {
  @Option(name: .long, help: "The configuration file, TOML.")
  var config: String

  func load() throws -> KeyControlConfiguration {
    try reporting { try KeyControlConfiguration(path: config) }
  }
}

struct Run: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serve until SIGTERM (the default).",
    discussion: "Example: sfmedir-kce run --config /etc/sfmedir/kce.toml")

  @OptionGroup var options: ConfigurationOption

  @Flag(
    name: .long,
    help: "Check the configuration, the seal key, the key store and the revocation list, and exit.")
  var check = false

  func run() async throws {
    let settings = try options.load()
    if check {
      try reporting {
        let authority = try settings.openStore().authority()
        try CertificateKeeper.checkRevocationList(
          settings.common.revocationList, authorityPEM: authority.certificatePEM)
      }
      print("\(options.config): ok")
      return
    }
    let status = await DaemonRunner.run(name: "sfmedir-kce", configuration: settings.common) {
      context in
      try await KeyControlDaemon.start(settings, group: context.group, logger: context.logger)
    }
    throw ArgumentParser.ExitCode(status)
  }
}

struct Initialize: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "init",
    abstract: "Make the seal key, the certificate authority and the first keys.",
    discussion: """
      Never overwrites a key store. Keep a copy of the seal key apart from the copies of the store:
      together they open it, and without the seal key nobody does.

      Example: sfmedir-kce init --config /etc/sfmedir/kce.toml
      """)

  @OptionGroup var options: ConfigurationOption

  func run() throws {
    let settings = try options.load()
    try reporting { try settings.initialize() }
    print("made the key store \(settings.storePath), sealed with \(settings.sealKeyFile)")
  }
}

struct Token: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make a one-time join file for a node; works while the daemon runs.",
    discussion: """
      Roles: mo (image owner), mcs (master), scs (slave), mu (image user), operator.

      Example: sfmedir-kce token --config /etc/sfmedir/kce.toml --role mu --node mu-1 --out mu-1.join
      """)

  @OptionGroup var options: ConfigurationOption

  @Option(name: .long, help: "The role of the new node.")
  var role: String

  @Option(name: .long, help: "The name of the new node.")
  var node: String

  @Option(name: .long, help: "Where the join file goes; it must not exist.")
  var out: String

  @Option(name: .long, help: "Hours until the token expires.")
  var hours = 24

  func validate() throws {
    guard Role(rawValue: role) != nil else {
      throw ValidationError("There is no role '\(role)'.")
    }
    guard (1...720).contains(hours) else {
      throw ValidationError("A token lives 1 to 720 hours.")
    }
  }

  func run() throws {
    let settings = try options.load()
    try reporting {
      guard let role = Role(rawValue: role) else {
        throw RPCError(.invalidArgument, "there is no role '\(role)'")
      }
      let created = try settings.makeJoinFile(role: role, node: node, hours: hours, path: out)
      print("\(out): \(created.identity) may join once within \(hours) hours")
    }
  }
}

struct Keys: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the versions and dates of the keys, never their values.",
    discussion: "Example: sfmedir-kce keys --config /etc/sfmedir/kce.toml")

  @OptionGroup var options: ConfigurationOption

  @Flag(name: .long, help: "One JSON object a line.")
  var json = false

  func run() throws {
    let settings = try options.load()
    let store = try reporting { try settings.openStore() }
    for key in store.summary {
      let created = date(key.createdAtMilliseconds)
      if json {
        print(
          "{\"kind\":\"\(key.kind.name)\",\"version\":\(key.version),"
            + "\"created\":\"\(created)\",\"current\":\(key.isCurrent)}")
      } else {
        let kind = key.kind.name + String(repeating: " ", count: 10 - key.kind.name.count)
        print("\(kind) \(key.version)  \(created)\(key.isCurrent ? "  current" : "")")
      }
    }
  }

  private func date(_ milliseconds: UInt64) -> String {
    var seconds = time_t(milliseconds / 1000)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// An error becomes one sentence on standard error and its exit status.
func reporting<Result>(_ body: () throws -> Result) throws -> Result {
  do {
    return try body()
  } catch {
    LineLogHandler.writeToStandardError("sfmedir-kce: \(error)\n")
    throw ArgumentParser.ExitCode(DaemonSupport.ExitCode.of(error))
  }
}
