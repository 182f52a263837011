import RPC

/// Why a node has no identity or no keys.
public enum EnrollmentError: Error, Equatable, Sendable, CustomStringConvertible,
  RPCErrorConvertible
{
  case file(FileError)
  case invalidName(String)
  case malformedJoinFile(path: String, reason: String)
  case wrongJoinFile(path: String, wanted: Identity, found: Identity)
  /// Neither an identity nor a join file.
  case notEnrolled(identity: Identity, directory: String)
  case unreadableIdentity(path: String, reason: String)
  case wrongIdentity(path: String, wanted: Identity, found: String)
  case expired(path: String, identity: Identity)
  /// A certificate that is not valid at this time; the times are texts.
  case outOfTime(identity: Identity, from: String, to: String)
  case revocationList(path: String, reason: String)
  /// The KCE said no, or could not be asked.
  case refused(operation: String, RPCError)
  case malformedReply(String)
  /// The reason never contains key material.
  case keyDelivery(String)

  public var description: String {
    switch self {
    case .file(let error): "\(error)"
    case .invalidName(let name):
      "'\(name)' is not a name: 1 to 63 of a-z, 0-9 and hyphens, no hyphen at its ends"
    case .malformedJoinFile(let path, let reason): "\(path) is not a join file: \(reason)"
    case .wrongJoinFile(let path, let wanted, let found):
      "\(path) was made for \(found), this node is \(wanted)"
    case .notEnrolled(let identity, let directory):
      "\(identity) has no certificate in \(directory) and no join file; "
        + "make one on the key control entity with: sfmedir-kce token --role \(identity.role) "
        + "--node \(identity.node) --out FILE, and name it as join_file"
    case .unreadableIdentity(let path, let reason): "\(path) cannot be used: \(reason)"
    case .wrongIdentity(let path, let wanted, let found):
      "\(path) belongs to \(found), the configuration says \(wanted)"
    case .expired(let path, let identity):
      "the certificate \(path) of \(identity) has expired; join again with a new token"
    case .outOfTime(let identity, let from, let to):
      "the certificate of \(identity) is valid from \(from) to \(to), which is not now"
    case .revocationList(let path, let reason):
      "the revocation list \(path) cannot be used: \(reason)"
    case .refused(let operation, let error):
      "the key control entity did not \(operation): \(error.message)"
    case .malformedReply(let reason): "the key control entity's answer is unusable: \(reason)"
    case .keyDelivery(let reason): "a delivered key is refused: \(reason)"
    }
  }

  public var rpcError: RPCError {
    switch self {
    case .file, .invalidName, .malformedJoinFile, .wrongJoinFile, .revocationList:
      RPCError(.failedPrecondition, description)
    case .notEnrolled, .unreadableIdentity, .wrongIdentity, .expired, .outOfTime:
      RPCError(.unauthenticated, description)
    case .refused(_, let error): RPCError(error.code, description, reason: error.reason)
    case .malformedReply, .keyDelivery: RPCError(.dataLoss, description)
    }
  }
}
