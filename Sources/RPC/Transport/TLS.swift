import Base
import COpenSSL

/// Certificates or keys that TLS cannot use.
public struct TLSError: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String
}

/// A node's own certificate and key, and whom it trusts; PEM text.
public struct Credentials: Sendable {
  public var certificatePEM: String
  public var privateKeyPEM: String
  public var authorityPEM: String
  /// The authority's list of revoked certificates; nil where there is none. A list that is out of date
  /// refuses everybody: whoever uses one renews it.
  public var revocationPEM: String?

  public init(
    certificatePEM: String, privateKeyPEM: String, authorityPEM: String,
    revocationPEM: String? = nil
  ) {
    self.certificatePEM = certificatePEM
    self.privateKeyPEM = privateKeyPEM
    self.authorityPEM = authorityPEM
    self.revocationPEM = revocationPEM
  }
}

/// OpenSSL's settings made from one set of credentials; immutable once made.
final class TLSSettings: @unchecked Sendable {
  let pointer: OpaquePointer

  init(
    server: Bool, credentials: Credentials?, authorityPEM: String, verify: Int
  ) throws(TLSError) {
    var reason = [CChar](repeating: 0, count: 256)
    let made = sfm_tls_context_new(
      server ? 1 : 0, credentials?.certificatePEM, credentials?.privateKeyPEM, authorityPEM,
      credentials?.revocationPEM, Int32(verify), &reason, reason.count)
    guard let made else { throw TLSError(description: text(reason)) }
    pointer = made
  }

  deinit { sfm_tls_context_free(pointer) }
}

/// TLS 1.3 for many connections. Certificates can be exchanged under way: connections that exist go on,
/// new ones use the new settings, and peers whom a new revocation list names are closed.
public final class TLSContext: Sendable {
  private struct State {
    var settings: TLSSettings
    var generation = 0
  }

  private let state: Locked<State>
  private let isServer: Bool
  private let verify: Int

  private init(
    server: Bool, credentials: Credentials?, authorityPEM: String, verify: Int
  ) throws(TLSError) {
    isServer = server
    self.verify = verify
    state = Locked(
      State(
        settings: try TLSSettings(
          server: server, credentials: credentials, authorityPEM: authorityPEM, verify: verify)))
  }

  var settings: TLSSettings { state.withLock { $0.settings } }
  /// How often the credentials were exchanged.
  var generation: Int { state.withLock { $0.generation } }

  /// Takes new credentials; those in use stay where these cannot be read.
  public func reload(_ credentials: Credentials) throws(TLSError) {
    let settings = try TLSSettings(
      server: isServer, credentials: credentials, authorityPEM: credentials.authorityPEM,
      verify: verify)
    state.withLock { state in
      state.settings = settings
      state.generation += 1
    }
  }

  /// - Parameter admitsStrangers: a client without a certificate may connect; the permission table
  ///   then decides (the KCE's Join).
  public static func server(
    _ credentials: Credentials, admitsStrangers: Bool = false
  ) throws(TLSError) -> TLSContext {
    try TLSContext(
      server: true, credentials: credentials, authorityPEM: credentials.authorityPEM,
      verify: admitsStrangers ? SFM_TLS_VERIFY_OPTIONAL : SFM_TLS_VERIFY_REQUIRED)
  }

  public static func client(_ credentials: Credentials) throws(TLSError) -> TLSContext {
    try TLSContext(
      server: false, credentials: credentials, authorityPEM: credentials.authorityPEM,
      verify: SFM_TLS_VERIFY_REQUIRED)
  }

  /// A client that has no certificate yet and wants one.
  public static func stranger(authorityPEM: String) throws(TLSError) -> TLSContext {
    try TLSContext(
      server: false, credentials: nil, authorityPEM: authorityPEM, verify: SFM_TLS_VERIFY_REQUIRED)
  }
}

private func text(_ buffer: [CChar]) -> String {
  String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// A client's last session with one server, so that the next handshake costs half. Confined to its loop.
final class TLSSession {
  let pointer: OpaquePointer

  init() {
    guard let pointer = sfm_tls_session_new() else { preconditionFailure("no memory") }
    self.pointer = pointer
  }

  deinit { sfm_tls_session_free(pointer) }
}

/// One TLS connection over a nonblocking socket; confined to its loop.
final class TLSStream {
  enum Outcome: Equatable {
    case done(Int)
    case wantsRead
    case wantsWrite
    case closed
    case failed(String)
  }

  private let pointer: OpaquePointer
  // OpenSSL's own reference keeps the settings alive, but not our wrapper's memory.
  private let settings: TLSSettings
  private let context: TLSContext
  private let session: TLSSession?
  /// The revocation lists that the peer was last held against.
  private var checkedGeneration: Int

  init?(context: TLSContext, descriptor: Int32, session: TLSSession? = nil) {
    checkedGeneration = context.generation
    settings = context.settings
    guard let pointer = sfm_tls_new(settings.pointer, descriptor, session?.pointer) else {
      return nil
    }
    self.pointer = pointer
    self.context = context
    self.session = session
  }

  deinit { sfm_tls_free(pointer) }

  var isResumed: Bool { sfm_tls_is_resumed(pointer) != 0 }
  /// Encrypted bytes that the socket has not taken.
  var unsentBytes: Int { sfm_tls_unsent(pointer) }

  func handshake() -> Outcome { outcome(Int(sfm_tls_handshake(pointer))) }

  func keepBuffers(_ keep: Bool) { sfm_tls_keep_buffers(pointer, keep ? 1 : 0) }

  func socketIsReadable() { sfm_tls_socket_is_readable(pointer) }

  func read(into buffer: UnsafeMutableRawBufferPointer) -> Outcome {
    outcome(Int(sfm_tls_read(pointer, buffer.baseAddress!, buffer.count)))
  }

  /// All of it; what the socket does not take is kept. `more` where others follow at once.
  func encrypt(_ bytes: UnsafeRawBufferPointer, more: Bool) -> Outcome {
    outcome(Int(sfm_tls_encrypt(pointer, bytes.baseAddress!, bytes.count, more ? 1 : 0)))
  }

  /// What was kept.
  func send() -> Outcome { outcome(Int(sfm_tls_send(pointer))) }

  func shutdown() { sfm_tls_shutdown(pointer) }

  enum Peer: Equatable {
    case stranger
    case identity(Identity)
    case unreadable(String)
  }

  /// Who the other side's verified certificate says it is; after the handshake.
  func peer() -> Peer {
    var buffer = [CChar](repeating: 0, count: 256)
    let length = sfm_tls_peer_uri(pointer, &buffer, buffer.count)
    if length == 0 { return .stranger }
    if length == -2 { return .unreadable("certificate refused: no longer valid") }
    guard length > 0 else { return .unreadable("not exactly one URI in the certificate") }
    guard let identity = Identity(uri: text(buffer)) else {
      return .unreadable("'\(text(buffer))' is not sfmedir://CLUSTER/ROLE/NODE")
    }
    return .identity(identity)
  }

  /// True where a revocation list that came after the handshake names the peer.
  func peerWasRevoked() -> Bool {
    let generation = context.generation
    guard generation != checkedGeneration else { return false }
    checkedGeneration = generation
    return sfm_tls_peer_is_revoked(pointer, context.settings.pointer) != 0
  }

  private func outcome(_ value: Int) -> Outcome {
    if value > 0 { return .done(value) }
    switch Int(value) {
    case -1: return .wantsRead
    case -2: return .wantsWrite
    case -3: return .closed
    default:
      var reason = [CChar](repeating: 0, count: 256)
      sfm_tls_error(pointer, &reason, reason.count)
      return .failed(text(reason))
    }
  }
}
