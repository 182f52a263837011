import DaemonSupport
import Glibc
import RPC

/// What `cli.toml` says.
public struct ClientConfiguration: Sendable {
  public var path: String
  public var cluster: String
  public var node: String
  public var stateDirectory: String
  public var joinFile: String?
  public var keyControl: Address
  public var imageOwner: Address?
  public var imageUser: Address?
  public var masters: [ServiceClient.Endpoint]

  /// The file to read: the option, else SFMEDIR_CONFIG, else the first that exists of
  /// ./sfmedir-dev/cli.toml and ~/.config/sfmedir/cli.toml; nil where there is none.
  public static func find(
    option: String?, environment: (String) -> String?, exists: (String) -> Bool
  ) -> String? {
    if let option { return option }
    if let path = environment("SFMEDIR_CONFIG"), !path.isEmpty { return path }
    var candidates = ["./sfmedir-dev/cli.toml"]
    if let home = environment("HOME"), !home.isEmpty {
      candidates.append("\(home)/.config/sfmedir/cli.toml")
    }
    return candidates.first(where: exists)
  }

  public static func load(option: String?) throws -> ClientConfiguration {
    let found = find(
      option: option, environment: { name in getenv(name).map { String(cString: $0) } },
      exists: Files.exists)
    guard let found else {
      throw CommandFailure(
        .configuration,
        "there is no configuration: neither --config nor SFMEDIR_CONFIG is given, "
          + "and neither ./sfmedir-dev/cli.toml nor ~/.config/sfmedir/cli.toml exists",
        advice: "'sfmedir dev up' starts a cluster here and writes one")
    }
    do {
      return try ClientConfiguration(path: found)
    } catch {
      throw CommandFailure(
        Files.exists(found) ? .configuration : .notFound, "\(error)",
        advice: "docs/command-line.md lists the keys of cli.toml")
    }
  }

  init(path: String) throws(ConfigurationError) {
    let file = try ConfigurationFile(path: path)
    self.path = path
    cluster = try file.name("cluster")
    node = try file.name("node")
    stateDirectory = try file.absolutePath("state_directory")
    joinFile = try file.optionalAbsolutePath("join_file")
    keyControl = try file.address("key_control")
    imageOwner = try file.optionalAddress("image_owner")
    imageUser = try file.optionalAddress("image_user")
    masters = try file.masters()
    try file.finish()
  }
}
