import DaemonSupport
import Enrollment
import RPC

/// The settings of `sfmedir-kce`; cluster/config/kce.toml explains each.
public struct KeyControlConfiguration: Sendable, Equatable {
  public var common: CommonConfiguration
  public var sealKeyFile: String
  public var certificateDays: Int

  public init(common: CommonConfiguration, sealKeyFile: String, certificateDays: Int = 365) {
    self.common = common
    self.sealKeyFile = sealKeyFile
    self.certificateDays = certificateDays
  }

  public init(path: String) throws(ConfigurationError) {
    try self.init(ConfigurationFile(path: path))
  }

  public init(_ file: ConfigurationFile) throws(ConfigurationError) {
    common = try CommonConfiguration(file, needsKeyControl: false)
    sealKeyFile = try file.absolutePath("seal_key_file")
    certificateDays = try file.integer(
      "certificate_days", default: 365, in: 1...CertificateAuthority.authorityDays)
    try file.finish()
  }

  public var storePath: String { "\(common.stateDirectory)/key-store" }

  public var tokens: JoinTokens {
    JoinTokens(stateDirectory: common.stateDirectory, cluster: common.cluster)
  }

  /// Opens the store, which has to belong to the configured cluster.
  public func openStore() throws(KeyStoreError) -> KeyStore {
    let store = try KeyStore.open(storePath, sealKey: KeyStore.readSealKey(sealKeyFile))
    guard store.cluster == common.cluster else {
      throw .wrongCluster(path: storePath, wanted: common.cluster, found: store.cluster)
    }
    return store
  }

  /// Makes the seal key, the authority and the first keys. Nothing that exists is overwritten: a
  /// store is an error, and a seal key that is already there is used.
  public func initialize() throws {
    do {
      try PrivateFile.makeDirectory(common.stateDirectory)
    } catch {
      throw KeyStoreError.file(error)
    }
    guard !PrivateFile.exists(storePath) else {
      throw KeyStoreError.file(.exists(path: storePath))
    }
    if !PrivateFile.exists(sealKeyFile) { try KeyStore.makeSealKey(at: sealKeyFile) }
    let sealKey = try KeyStore.readSealKey(sealKeyFile)
    _ = try KeyStore.create(at: storePath, cluster: common.cluster, sealKey: sealKey)
  }

  /// Makes a one-time token and writes the join file for the new node.
  public func makeJoinFile(
    role: Role, node: String, hours: Int, path: String
  ) throws -> JoinTokens.Created {
    let authority = try openStore().authority()
    guard !PrivateFile.exists(path) else { throw KeyStoreError.file(.exists(path: path)) }
    let created = try tokens.create(
      role: role, node: node, lifetimeSeconds: UInt64(clamping: hours) * 3600)
    let file = JoinFile(
      identity: created.identity, token: created.secret,
      authorityPEM: authority.certificatePEM)
    do {
      try PrivateFile.write(file.encoded(), to: path, replacing: false)
    } catch {
      throw KeyStoreError.file(error)
    }
    return created
  }
}
