import Logging
import RPC

/// The settings that every daemon has.
public struct CommonConfiguration: Sendable, Equatable {
  public var cluster: String
  public var node: String
  public var listen: Address
  public var stateDirectory: String
  /// Nil for the KCE itself.
  public var keyControl: Address?
  public var joinFile: String?
  public var logLevel: Logger.Level
  public var shutdownGraceSeconds: Int
  /// The authority's list of revoked certificates, PEM; read at the start and at each reload.
  public var revocationList: String?
  public var rpc: RPCSettings

  public init(
    cluster: String, node: String, listen: Address, stateDirectory: String,
    keyControl: Address? = nil, joinFile: String? = nil, logLevel: Logger.Level = .info,
    shutdownGraceSeconds: Int = 20, revocationList: String? = nil,
    rpc: RPCSettings = RPCSettings()
  ) {
    self.cluster = cluster
    self.node = node
    self.listen = listen
    self.stateDirectory = stateDirectory
    self.keyControl = keyControl
    self.joinFile = joinFile
    self.logLevel = logLevel
    self.shutdownGraceSeconds = shutdownGraceSeconds
    self.revocationList = revocationList
    self.rpc = rpc
  }

  /// - Parameter needsKeyControl: false for the KCE, which has nobody to join.
  public init(
    _ file: ConfigurationFile, needsKeyControl: Bool = true
  ) throws(ConfigurationError) {
    cluster = try file.name("cluster")
    node = try file.name("node")
    listen = try file.address("listen")
    stateDirectory = try file.absolutePath("state_directory")
    if needsKeyControl {
      keyControl = try file.address("key_control")
      joinFile = try file.optionalAbsolutePath("join_file")
    }
    logLevel = try file.choice("log_level", default: .info)
    // systemd kills after 90 seconds unless its unit says otherwise.
    shutdownGraceSeconds = try file.integer("shutdown_grace_seconds", default: 20, in: 0...80)
    revocationList = try file.table("tls").optionalAbsolutePath("revocation_list")
    rpc = try RPCSettings(file.table("rpc"))
  }
}
