import Base
import RPC
import SwiftASN1
import X509

/// What a new node needs to become a member: who it is to be, a one-time token, and whom to trust.
///
/// The file is a secret until it is used. Its layout stands in docs/formats/join-file.md.
public struct JoinFile: Sendable, Equatable {
  public static let tokenBytes = 32
  public static let maximumBytes = 16 << 10
  private static let header = "sfmedir-join-1"

  public let identity: Identity
  public let token: SecretBytes
  /// The authority's certificate, PEM.
  public let authorityPEM: String

  public init(identity: Identity, token: SecretBytes, authorityPEM: String) {
    precondition(token.count == Self.tokenBytes, "a token has 32 bytes, not \(token.count)")
    self.identity = identity
    self.token = token
    self.authorityPEM = authorityPEM
  }

  public static func load(_ path: String) throws(EnrollmentError) -> JoinFile {
    var bytes: [UInt8]
    do {
      bytes = try PrivateFile.read(path, maximumBytes: maximumBytes)
    } catch {
      throw .file(error)
    }
    defer { zero(&bytes) }
    return try parse(bytes, path: path)
  }

  /// - Parameter path: for the error's sentence.
  public static func parse(
    _ bytes: [UInt8], path: String = "the text"
  ) throws(EnrollmentError) -> JoinFile {
    func malformed(_ reason: String) -> EnrollmentError {
      .malformedJoinFile(path: path, reason: reason)
    }
    guard bytes.count <= maximumBytes else { throw malformed("more than \(maximumBytes) bytes") }
    guard bytes.allSatisfy({ $0 == 10 || (32..<127).contains($0) }) else {
      throw malformed("a character that is neither printable ASCII nor a line feed")
    }
    let text = String(decoding: bytes, as: UTF8.self)
    let lines = text.split(separator: "\n", maxSplits: 5, omittingEmptySubsequences: false)
    guard lines.first.map(String.init) == header else {
      throw malformed("the first line is not '\(header)'")
    }
    guard lines.count == 6 else { throw malformed("it ends early") }
    func value(_ line: Int, _ key: String) throws(EnrollmentError) -> String {
      let prefix = "\(key) = "
      guard lines[line].hasPrefix(prefix) else {
        throw malformed("line \(line + 1) is not '\(prefix)...'")
      }
      return String(lines[line].dropFirst(prefix.count))
    }
    let cluster = try value(1, "cluster")
    let roleName = try value(2, "role")
    let node = try value(3, "node")
    guard let role = Role(rawValue: roleName) else { throw malformed("no role '\(roleName)'") }
    guard let identity = Identity(cluster: cluster, role: role, node: node) else {
      throw malformed("'\(cluster)' or '\(node)' is not a name")
    }
    // The token's own text is never part of an error.
    guard var token = [UInt8](hex: try value(4, "token")), token.count == tokenBytes else {
      throw malformed("the token is not \(2 * tokenBytes) hexadecimal digits")
    }
    defer { zero(&token) }
    let authority: Certificate
    do {
      authority = try Certificate(pemEncoded: String(lines[5]))
    } catch {
      throw malformed("no authority's certificate in PEM after the token")
    }
    let constraints = try? authority.extensions.basicConstraints
    guard case .isCertificateAuthority = constraints else {
      throw malformed("its certificate is not an authority's")
    }
    guard let pem = try? authority.serializeAsPEM().pemString else {
      throw malformed("its certificate cannot be written again")
    }
    return JoinFile(identity: identity, token: SecretBytes(token), authorityPEM: pem)
  }

  /// The file's bytes; ``parse(_:path:)`` is the inverse.
  public func encoded() -> [UInt8] {
    let token = token.withBytes { $0.hex }
    let text = """
      \(Self.header)
      cluster = \(identity.cluster)
      role = \(identity.role)
      node = \(identity.node)
      token = \(token)
      \(authorityPEM)

      """
    return Array(text.utf8)
  }
}
