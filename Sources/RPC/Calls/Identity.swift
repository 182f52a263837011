/// What a certificate says its holder is.
public enum Role: String, Sendable, CaseIterable, CustomStringConvertible {
  case keyControl = "kce"
  case imageOwner = "mo"
  case master = "mcs"
  /// A voter of the masters' log that holds no state and serves nobody.
  case witness
  case slave = "scs"
  case imageUser = "mu"
  /// A person at the command line.
  case operatorTool = "operator"

  public var description: String { rawValue }
}

/// A node's identity: the URI `sfmedir://CLUSTER/ROLE/NODE` in its certificate.
public struct Identity: Hashable, Sendable, CustomStringConvertible {
  public let cluster: String
  public let role: Role
  public let node: String

  /// Nil where the cluster or node is not a name: 1 to 63 of `a-z 0-9 -`, no hyphen at its ends.
  public init?(cluster: String, role: Role, node: String) {
    guard Self.isName(cluster), Self.isName(node) else { return nil }
    self.cluster = cluster
    self.role = role
    self.node = node
  }

  /// Nil where the text is not exactly such a URI.
  public init?(uri: String) {
    let scheme = "sfmedir://"
    guard uri.hasPrefix(scheme) else { return nil }
    let parts = uri.dropFirst(scheme.count).split(
      separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 3, let role = Role(rawValue: String(parts[1])) else { return nil }
    self.init(cluster: String(parts[0]), role: role, node: String(parts[2]))
  }

  public var uri: String { "sfmedir://\(cluster)/\(role.rawValue)/\(node)" }
  public var description: String { uri }

  public static func isName(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard (1...63).contains(bytes.count) else { return false }
    guard bytes.first != UInt8(ascii: "-"), bytes.last != UInt8(ascii: "-") else { return false }
    return bytes.allSatisfy {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || $0 == UInt8(ascii: "-")
    }
  }
}
