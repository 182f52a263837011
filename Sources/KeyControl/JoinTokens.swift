import Base
import Enrollment
import Glibc
import RPC

/// Why a token does not admit anybody. Strangers never hear which of these it was.
public enum JoinTokenError: Error, Equatable, Sendable, CustomStringConvertible,
  RPCErrorConvertible
{
  case wrongSize(bytes: Int)
  case unknown
  case used
  case expired(Identity)
  case unreadable(String)
  case file(FileError)
  case wrongRole(Role)
  case wrongLifetime(seconds: UInt64)
  case tooMany(maximum: Int)

  public var description: String {
    switch self {
    case .wrongSize(let bytes): "a token of \(bytes) bytes"
    case .unknown: "the token is unknown, or was used before"
    case .used: "the token was used by somebody else a moment ago"
    case .expired(let identity): "the token for \(identity) has expired"
    case .unreadable(let path): "\(path) is not a token"
    case .file(let error): "\(error)"
    case .wrongRole(let role): "nobody joins as '\(role)' with a token"
    case .wrongLifetime(let seconds):
      "a token lives 1 minute to \(JoinTokens.maximumLifetimeSeconds / 86_400) days, "
        + "not \(seconds) seconds"
    case .tooMany(let maximum): "there are \(maximum) unused tokens already"
    }
  }

  public var rpcError: RPCError {
    switch self {
    case .wrongSize, .unknown, .used, .expired:
      RPCError(
        .permissionDenied, "the token is unknown, used or expired; ask for a new one",
        reason: "BadToken")
    case .unreadable, .file:
      RPCError(.internalError, "the tokens cannot be read; the server's log has the details")
    case .wrongRole, .wrongLifetime: RPCError(.invalidArgument, description)
    case .tooMany: RPCError(.resourceExhausted, description)
    }
  }
}

/// One-time tokens, each a file of its own in the folder `tokens`, so that the command line makes
/// them while the daemon runs.
///
/// A file holds the SHA-256 of the secret only, and its name is the beginning of that digest. It is
/// claimed by a rename, which of several claimants exactly one wins.
public struct JoinTokens: Sendable {
  public static let minimumLifetimeSeconds: UInt64 = 60
  public static let maximumLifetimeSeconds: UInt64 = 30 * 86_400
  /// Bounds what an operator's mistake, or a stolen operator's certificate, can pile up.
  public static let maximumTokens = 1000
  private static let header = "sfmedir-token-1"
  private static let maximumFileBytes = 1024

  public let directory: String
  public let cluster: String

  public init(stateDirectory: String, cluster: String) {
    directory = "\(stateDirectory)/tokens"
    self.cluster = cluster
  }

  /// A token's secret and its end.
  public struct Created: Sendable {
    public let identity: Identity
    public let secret: SecretBytes
    public let expiresAtMilliseconds: UInt64
  }

  /// Makes a token for one role and node.
  public func create(
    role: Role, node: String, lifetimeSeconds: UInt64, clock: any Clock = SystemClock(),
    entropy: some Entropy = SystemEntropy()
  ) throws -> Created {
    guard role != .keyControl else { throw JoinTokenError.wrongRole(role) }
    guard let identity = Identity(cluster: cluster, role: role, node: node) else {
      throw EnrollmentError.invalidName(node)
    }
    guard (Self.minimumLifetimeSeconds...Self.maximumLifetimeSeconds).contains(lifetimeSeconds)
    else { throw JoinTokenError.wrongLifetime(seconds: lifetimeSeconds) }
    let secret = SecretBytes(randomCount: JoinFile.tokenBytes, entropy: entropy)
    let digest = secret.withBytes { sha256($0) }
    let expires = clock.wallMilliseconds() + lifetimeSeconds * 1000
    let text = """
      \(Self.header)
      role = \(role)
      node = \(node)
      expires = \(expires)
      digest = \(digest.hex)

      """
    do {
      try PrivateFile.makePrivateDirectory(directory)
      guard try sweep(clock: clock) < Self.maximumTokens else {
        throw JoinTokenError.tooMany(maximum: Self.maximumTokens)
      }
      try PrivateFile.write(Array(text.utf8), to: path(digest), replacing: false)
    } catch let error as FileError {
      throw JoinTokenError.file(error)
    }
    return Created(identity: identity, secret: secret, expiresAtMilliseconds: expires)
  }

  /// For whom the token is; it stays usable.
  public func identity(
    of secret: [UInt8], clock: any Clock = SystemClock()
  ) throws(JoinTokenError) -> Identity {
    guard secret.count == JoinFile.tokenBytes else { throw .wrongSize(bytes: secret.count) }
    let digest = sha256(secret)
    let record = try load(path(digest))
    guard constantTimeEqual(record.digest, digest) else { throw .unknown }
    guard clock.wallMilliseconds() < record.expiresAtMilliseconds else {
      throw .expired(record.identity)
    }
    return record.identity
  }

  /// Uses the token up: of several callers with one token exactly one returns.
  public func claim(_ secret: [UInt8]) throws(JoinTokenError) {
    let path = path(sha256(secret))
    let used = "\(path).used"
    guard rename(path, used) == 0 else {
      if errno == ENOENT { throw .used }
      throw .file(PrivateFile.failure("claim", path))
    }
    do {
      // Durable before anything is issued: a crash must not bring the token back.
      try PrivateFile.synchronizeDirectory(of: path)
      try PrivateFile.remove(used)
    } catch {
      throw .file(error)
    }
  }

  /// Removes expired tokens; returns how many are left.
  @discardableResult
  public func sweep(clock: any Clock = SystemClock()) throws(FileError) -> Int {
    var left = 0
    for name in try names() where name.hasSuffix(".token") {
      let path = "\(directory)/\(name)"
      if let record = try? load(path), record.expiresAtMilliseconds <= clock.wallMilliseconds() {
        unlink(path)
      } else {
        left += 1
      }
    }
    return left
  }

  private func names() throws(FileError) -> [String] {
    guard let folder = opendir(directory) else {
      if errno == ENOENT { return [] }
      throw PrivateFile.failure("list", directory)
    }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      names.append(name)
    }
    return names
  }

  private func path(_ digest: [UInt8]) -> String {
    "\(directory)/\(Array(digest.prefix(8)).hex).token"
  }

  private struct Record {
    let identity: Identity
    let expiresAtMilliseconds: UInt64
    let digest: [UInt8]
  }

  private func load(_ path: String) throws(JoinTokenError) -> Record {
    let bytes: [UInt8]
    do {
      bytes = try PrivateFile.read(path, maximumBytes: Self.maximumFileBytes)
    } catch .missing {
      throw .unknown
    } catch {
      throw .file(error)
    }
    let lines = String(decoding: bytes, as: UTF8.self)
      .split(separator: "\n", omittingEmptySubsequences: false)
    func value(_ line: Int, _ key: String) -> String? {
      guard line < lines.count, lines[line].hasPrefix("\(key) = ") else { return nil }
      return String(lines[line].dropFirst(key.utf8.count + 3))
    }
    guard lines.count == 6, lines[0] == Self.header, lines[5].isEmpty,
      let role = value(1, "role").flatMap({ Role(rawValue: $0) }),
      let node = value(2, "node"),
      let identity = Identity(cluster: cluster, role: role, node: node),
      let expires = value(3, "expires").flatMap({ UInt64($0) }),
      let digest = value(4, "digest").flatMap({ [UInt8](hex: $0) }), digest.count == 32
    else { throw .unreadable(path) }
    return Record(identity: identity, expiresAtMilliseconds: expires, digest: digest)
  }
}
