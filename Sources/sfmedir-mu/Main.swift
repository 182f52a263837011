import ArgumentParser
import DaemonSupport
import Enrollment
import ImagePipeline
import RPC

@main
struct ImageUserCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sfmedir-mu",
    abstract: "The medical image user: finds images like a given one, and opens the originals.",
    discussion: """
      Example:
        sfmedir-mu --config /etc/sfmedir/mu.toml --check
        sfmedir-mu --config /etc/sfmedir/mu.toml

      The first start needs a join file, made on the key control entity with:
        sfmedir-kce token --config /etc/sfmedir/kce.toml --role mu --node mu-1 --out mu-1.join

      Exit status: 0 ok, 64 usage, 69 unavailable, 70 internal error, 74 input or output,
      77 not permitted, 78 configuration.
      """,
    version: "0.1.0")

  @Option(name: .long, help: "The configuration file, TOML.")
  var config: String

  @Flag(name: .long, help: "Check the configuration, the revocation list and the model, and exit.")
  var check = false

  func run() async throws {
    let settings: ImageUserSettings
    do {
      settings = try ImageUserSettings(path: config)
      if check {
        let common = settings.common
        try CertificateKeeper.checkRevocationList(
          common.revocationList, stateDirectory: common.stateDirectory, cluster: common.cluster,
          role: .imageUser, node: common.node)
        let model = try HashModel(path: settings.node.modelPath)
        print("\(config): ok; model \(model.version), codes of \(model.codeBits) bits")
        return
      }
    } catch {
      LineLogHandler.writeToStandardError("sfmedir-mu: \(error)\n")
      throw ArgumentParser.ExitCode(DaemonSupport.ExitCode.of(error))
    }
    let status = await DaemonRunner.run(name: "sfmedir-mu", configuration: settings.common) {
      try await ImageUserDaemon(settings, $0)
    }
    throw ArgumentParser.ExitCode(status)
  }
}
