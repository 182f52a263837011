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

  public init(certificatePEM: String, privateKeyPEM: String, authorityPEM: String) {
    self.certificatePEM = certificatePEM
    self.privateKeyPEM = privateKeyPEM
    self.authorityPEM = authorityPEM
  }
}

/// TLS 1.3 settings for many connections; immutable once made, so any thread may use it.
public final class TLSContext: @unchecked Sendable {
  let pointer: OpaquePointer

  private init(
    server: Bool, credentials: Credentials?, authorityPEM: String, verify: Int
  ) throws(TLSError) {
    var reason = [CChar](repeating: 0, count: 256)
    let made = sfm_tls_context_new(
      server ? 1 : 0, credentials?.certificatePEM, credentials?.privateKeyPEM, authorityPEM,
      Int32(verify), &reason, reason.count)
    guard let made else {
      throw TLSError(description: text(reason))
    }
    pointer = made
  }

  deinit { sfm_tls_context_free(pointer) }

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
  private let context: TLSContext

  init?(context: TLSContext, descriptor: Int32) {
    guard let pointer = sfm_tls_new(context.pointer, descriptor) else { return nil }
    self.pointer = pointer
    self.context = context
  }

  deinit { sfm_tls_free(pointer) }

  func handshake() -> Outcome { outcome(Int(sfm_tls_handshake(pointer))) }

  func read(into buffer: UnsafeMutableRawBufferPointer) -> Outcome {
    outcome(Int(sfm_tls_read(pointer, buffer.baseAddress!, buffer.count)))
  }

  func write(_ bytes: UnsafeRawBufferPointer) -> Outcome {
    outcome(Int(sfm_tls_write(pointer, bytes.baseAddress!, bytes.count)))
  }

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
    guard length > 0 else { return .unreadable("not exactly one URI in the certificate") }
    guard let identity = Identity(uri: text(buffer)) else {
      return .unreadable("'\(text(buffer))' is not sfmedir://CLUSTER/ROLE/NODE")
    }
    return .identity(identity)
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
