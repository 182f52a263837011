import ArgumentParser
import DaemonSupport
import Enrollment
import Logging
import MasterCloud
import Messages
import RPC
import Raft
import Shadows

@main
struct MasterCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sfmedir-mcs",
    abstract: "A master cloud server: places shadows, searches masked codes, rebuilds images.",
    discussion: """
      Several masters need a witness, which keeps their log and serves nobody. Each of them is made once, with
      --initialize, before its first start; one that has lost its disk is not made again but replaced
      ('sfmedir node replace'), by a node of another name made with --initialize --join.

      Example:
        sfmedir-mcs --config /etc/sfmedir/mcs.toml --initialize
        sfmedir-mcs --config /etc/sfmedir/mcs.toml
        sfmedir-mcs --config /etc/sfmedir/witness.toml --witness

      Exit status: 0 ok, 64 usage, 69 unavailable, 70 internal error, 74 input or output,
      77 not permitted, 78 configuration.
      """,
    version: "0.1.0")

  @Option(name: .long, help: "The configuration file, TOML.")
  var config: String

  @Flag(name: .long, help: "Check the configuration and the revocation list, and exit.")
  var check = false

  @Flag(name: .long, help: "Be the witness that the configuration names.")
  var witness = false

  @Flag(name: .long, help: "Make this node's log, once in its life, and exit.")
  var initialize = false

  @Flag(
    name: .long, help: "With --initialize: for a cluster that exists, in the place of a lost node.")
  var join = false

  func validate() throws {
    guard initialize || !join else { throw ValidationError("--join goes with --initialize") }
    guard !(initialize && check) else {
      throw ValidationError("--check changes nothing: it does not go with --initialize")
    }
  }

  func run() async throws {
    let settings: MasterSettings
    do {
      settings = try MasterSettings(path: config, isWitness: witness)
      if initialize {
        try await settings.initialize(joins: join)
        print("\(settings.common.node): its log is made")
        return
      }
      if check {
        let common = settings.common
        try CertificateKeeper.checkRevocationList(
          common.revocationList, stateDirectory: common.stateDirectory, cluster: common.cluster,
          role: witness ? .witness : .master, node: common.node)
      }
    } catch {
      LineLogHandler.writeToStandardError("sfmedir-mcs: \(error)\n")
      throw ArgumentParser.ExitCode(DaemonSupport.ExitCode.of(error))
    }
    if check {
      print("\(config): ok")
      return
    }
    let status = await DaemonRunner.run(name: "sfmedir-mcs", configuration: settings.common) {
      try await VoterDaemon.start(settings, $0)
    }
    throw ArgumentParser.ExitCode(status)
  }
}
