import Base
import Enrollment
import Logging
import Messages
import RPC

/// The KCE's service: certificates and keys (Protos/kce.proto).
///
/// Who may call what stands in `PermissionTable.cluster`; which keys a role gets in
/// `KeyDelivery.kinds(of:)`. Every admission, delivery, rotation and refusal is a line in the log
/// whose message begins with "audit:".
public final class KeyControlService: Sendable {
  /// Failed joins at once, and how fast the allowance comes back.
  public static let failedJoins = 20
  public static let failedJoinsPerSecond = 1.0

  private let store: KeyStore
  private let authority: CertificateAuthority
  private let tokens: JoinTokens
  private let certificateDays: Int
  private let clock: any Clock
  private let limiter: FailureLimiter
  private let logger: Logger

  public init(
    store: KeyStore, tokens: JoinTokens, certificateDays: Int, clock: any Clock = SystemClock(),
    logger: Logger
  ) throws {
    self.store = store
    authority = try store.authority()
    self.tokens = tokens
    self.certificateDays = certificateDays
    self.clock = clock
    limiter = FailureLimiter(
      capacity: Self.failedJoins, perSecond: Self.failedJoinsPerSecond, clock: clock)
    self.logger = logger
  }

  public var router: Router {
    var router = Router()
    router.unary(KeyControlMethods.join) { [self] in try await join($0, $1) }
    router.unary(KeyControlMethods.renew) { [self] in try await renew($0, $1) }
    router.unary(KeyControlMethods.fetchKeys) { [self] in try await fetchKeys($0, $1) }
    router.unary(KeyControlMethods.listKeys) { [self] _, _ in listKeys() }
    router.unary(KeyControlMethods.rotateKey) { [self] in try await rotateKey($0, $1) }
    router.unary(KeyControlMethods.createToken) { [self] in try await createToken($0, $1) }
    return router
  }

  // MARK: certificates

  private func join(_ request: JoinRequest, _ context: CallContext) async throws -> JoinReply {
    guard limiter.isOpen else {
      throw RPCError(
        .resourceExhausted, "too many joins failed just now; try again in a few seconds",
        reason: "TooManyFailedJoins")
    }
    return try await audited("join", context) { [self] in
      do {
        return try await offload { [self] in
          // The request first: one that cannot be granted must not spend the token.
          let allowed = try tokens.identity(of: request.token, clock: clock)
          let granted = try CertificateAuthority.read(
            request.certificateRequest, allowing: allowed)
          try tokens.claim(request.token)
          audit("joined", allowed)
          return try reply(granted)
        }
      } catch {
        limiter.recordFailure()
        throw error
      }
    }
  }

  private func renew(_ request: RenewRequest, _ context: CallContext) async throws -> JoinReply {
    try await audited("renew", context) { [self] in
      try await offload { [self] in
        let granted = try CertificateAuthority.read(
          request.certificateRequest, allowing: context.identity)
        audit("renewed the certificate", context.identity)
        return try reply(granted)
      }
    }
  }

  private func reply(_ granted: CertificateRequest) throws -> JoinReply {
    var reply = JoinReply()
    reply.certificate = try authority.issue(
      granted.identity, granted.publicKey, days: certificateDays, clock: clock)
    reply.authority = authority.certificateDER
    return reply
  }

  private func createToken(
    _ request: CreateTokenRequest, _ context: CallContext
  ) async throws -> CreateTokenReply {
    try await audited("create a token", context) { [self] in
      guard let role = Role(rawValue: request.role) else {
        throw RPCError(.invalidArgument, "there is no role '\(request.role.prefix(40))'")
      }
      let created = try await offload { [self] in
        try tokens.create(
          role: role, node: request.node, lifetimeSeconds: request.lifetimeSeconds, clock: clock)
      }
      audit("created a token", context.identity, ["for": "\(created.identity)"])
      var reply = CreateTokenReply()
      reply.token = created.secret.withBytes { $0 }
      reply.expiresAtMilliseconds = created.expiresAtMilliseconds
      return reply
    }
  }

  // MARK: keys

  private func fetchKeys(
    _ request: FetchKeysRequest, _ context: CallContext
  ) async throws -> FetchKeysReply {
    try await audited("fetch keys", context) { [self] in
      let identity = context.identity
      let kinds = KeyDelivery.kinds(of: identity.role)
      guard !kinds.isEmpty else {
        throw RPCError(.permissionDenied, "role \(identity.role) holds no keys")
      }
      guard request.recipientKey.count == KeyDelivery.recipientKeyBytes else {
        throw RPCError(
          .invalidArgument, "a recipient key has \(KeyDelivery.recipientKeyBytes) bytes")
      }
      let keys = kinds.flatMap { store.keys($0) }
      var reply = FetchKeysReply()
      do {
        reply.keys = try await offload {
          try keys.map {
            try KeyDelivery.seal(
              kind: $0.kind, version: $0.version, key: $0.key, to: request.recipientKey,
              identity: identity)
          }
        }
      } catch {
        throw RPCError(.invalidArgument, "the recipient key is not an X-Wing public key")
      }
      let names = keys.map { "\($0.kind.name)/\($0.version)" }.joined(separator: ",")
      audit("delivered keys", identity, ["keys": "\(names)"])
      return reply
    }
  }

  private func listKeys() -> ListKeysReply {
    var reply = ListKeysReply()
    reply.keys = store.summary.map {
      var summary = KeySummary()
      summary.kind = $0.kind
      summary.version = $0.version
      summary.createdAtMilliseconds = $0.createdAtMilliseconds
      summary.current = $0.isCurrent
      return summary
    }
    return reply
  }

  private func rotateKey(
    _ request: RotateKeyRequest, _ context: CallContext
  ) async throws -> RotateKeyReply {
    try await audited("rotate a key", context) { [self] in
      guard KeyStoreFormat.kinds.contains(request.kind) else {
        throw RPCError(.invalidArgument, "there is no key of kind \(request.kind.rawValue)")
      }
      var reply = RotateKeyReply()
      do {
        reply.version = try await offload { [self] in
          try store.rotate(request.kind, clock: clock)
        }
      } catch let error as KeyStoreError {
        switch error {
        case .tooManyVersions:
          throw RPCError(.failedPrecondition, "\(error)", reason: "TooManyVersions")
        case .busy: throw RPCError(.aborted, "\(error)", reason: "Busy")
        default: throw error
        }
      }
      audit(
        "rotated a key", context.identity, ["key": "\(request.kind.name)/\(reply.version)"])
      return reply
    }
  }

  // MARK: the audit log

  private func audit(
    _ what: String, _ who: Identity, _ more: Logger.Metadata = [:]
  ) {
    logger.notice(
      "audit: \(what)", metadata: more.merging(["identity": "\(who)"]) { left, _ in left })
  }

  /// A refusal is a line too, with the true reason, which the answer may not tell.
  private func audited<Reply>(
    _ what: String, _ context: CallContext, _ body: () async throws -> Reply
  ) async throws -> Reply {
    do {
      return try await body()
    } catch {
      logger.warning(
        "audit: refused to \(what)",
        metadata: [
          "identity": "\(context.caller?.uri ?? "stranger")", "reason": "\(error)",
        ])
      throw error
    }
  }
}

extension KeyKind {
  /// For people.
  public var name: String {
    switch self {
    case .image: "image"
    case .threshold: "threshold"
    case .index: "index"
    default: "kind-\(rawValue)"
    }
  }
}
