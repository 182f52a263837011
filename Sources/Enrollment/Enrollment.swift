import Base
import Crypto
import Logging
import Messages
import RPC
import SwiftASN1
import X509

/// Getting and keeping a node's identity.
public enum Enrollment {
  static let callTimeout = Duration.seconds(30)

  /// The node's identity from `stateDirectory/identity`, made or renewed as needed.
  ///
  /// Where there is none, or it has expired, the node joins with the one-time token in `joinFile`,
  /// stores what it got, and removes the join file. Where less than a third of the lifetime is left
  /// it is renewed; a renewal that fails is only a warning.
  public static func loadOrJoin(
    stateDirectory: String, joinFile: String?, keyControl: Address, cluster: String, role: Role,
    node: String, group: EventLoopGroup, logger: Logger, clock: any Clock = SystemClock()
  ) async throws(EnrollmentError) -> NodeIdentity {
    guard let identity = Identity(cluster: cluster, role: role, node: node) else {
      throw .invalidName(Identity.isName(cluster) ? node : cluster)
    }
    let store = IdentityStore(directory: directory(in: stateDirectory), identity: identity)
    let keyControl = KeyControlPeer(
      address: keyControl, cluster: cluster, group: group, logger: logger)
    let joinFile = joinFile.flatMap { PrivateFile.exists($0) ? $0 : nil }
    if let stored = try store.load() {
      let now = clock.wallMilliseconds()
      if now < stored.certificate.expiresAtMilliseconds {
        guard stored.certificate.isDue(nowMilliseconds: now) else { return stored.nodeIdentity }
        return await renew(stored, store, keyControl, logger)
      }
      guard joinFile != nil else {
        throw .expired(path: store.certificatePath, identity: identity)
      }
      logger.warning(
        "the certificate has expired: joining again", metadata: ["node": "\(identity)"])
    }
    guard let joinFile else {
      throw .notEnrolled(identity: identity, directory: store.directory)
    }
    return try await join(joinFile, store, keyControl, logger)
  }

  private static func join(
    _ path: String, _ store: IdentityStore, _ keyControl: KeyControlPeer, _ logger: Logger
  ) async throws(EnrollmentError) -> NodeIdentity {
    let file = try JoinFile.load(path)
    guard file.identity == store.identity else {
      throw .wrongJoinFile(path: path, wanted: store.identity, found: file.identity)
    }
    // The folder first: a token must not be spent for an identity that cannot be stored.
    try store.prepare()
    let key = NodeKey()
    var request = JoinRequest()
    request.certificateRequest = try key.certificateRequest(for: store.identity)
    request.token = file.token.withBytes { $0 }
    defer { zero(&request.token) }
    let reply: JoinReply
    do {
      let tls = try TLSContext.stranger(authorityPEM: file.authorityPEM)
      reply = try await keyControl.call(KeyControlMethods.join, request, tls)
    } catch {
      throw .refused(operation: "admit this node", RPCError(answering: error))
    }
    let stored = try store.save(
      reply, key: key, authority: try store.certificate(pem: file.authorityPEM, path: path))
    do {
      try PrivateFile.remove(path)
    } catch {
      logger.warning("the used join file stays", metadata: ["reason": "\(error)"])
    }
    logger.notice("joined the cluster", metadata: ["identity": "\(store.identity)"])
    return stored.nodeIdentity
  }

  private static func renew(
    _ stored: StoredIdentity, _ store: IdentityStore, _ keyControl: KeyControlPeer,
    _ logger: Logger
  ) async -> NodeIdentity {
    do {
      let tls = try TLSContext.client(stored.nodeIdentity.credentials)
      let source = EnrolledCertificate(store: store, keyControl: keyControl)
      let renewed = try await source.renew(stored, tls)
      logger.notice("renewed the certificate", metadata: ["identity": "\(store.identity)"])
      return renewed
    } catch {
      logger.warning(
        "the certificate is not renewed; it will be tried again",
        metadata: ["identity": "\(store.identity)", "reason": "\(error)"])
      return stored.nodeIdentity
    }
  }

  static func directory(in stateDirectory: String) -> String { "\(stateDirectory)/identity" }
}

/// How the KCE is reached for one call.
struct KeyControlPeer: Sendable {
  let address: Address
  let cluster: String
  let group: EventLoopGroup
  let logger: Logger

  func call<Request, Reply>(
    _ method: Method<Request, Reply>, _ request: Request, _ tls: TLSContext
  ) async throws -> Reply {
    let channel = Channel(
      address: address, tls: tls,
      expecting: PeerExpectation(cluster: cluster, role: .keyControl), group: group,
      logger: logger)
    defer { channel.close() }
    return try await channel.unary(method, request, CallOptions(timeout: Enrollment.callTimeout))
  }
}
