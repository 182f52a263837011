import Base
import DaemonSupport
import Enrollment
import Glibc
import Logging
import RPC

/// The running key control entity.
public final class KeyControlDaemon: RunningDaemon {
  private let server: Server
  private let health: HealthService
  private let lock: StateLock
  private let certificates: CertificateKeeper

  /// Opens the key store and serves; the certificate of the server is made anew at each start, at each reload,
  /// and when its time comes.
  public static func start(
    _ configuration: KeyControlConfiguration, group: EventLoopGroup, logger: Logger,
    clock: any Clock = SystemClock()
  ) async throws -> KeyControlDaemon {
    let lock = try StateLock(directory: configuration.common.stateDirectory)
    let store = try configuration.openStore()
    let tokens = configuration.tokens
    do {
      try tokens.sweep(clock: clock)
    } catch {
      throw JoinTokenError.file(error)
    }
    let common = configuration.common
    let source = try OwnCertificate(
      authority: store.authority(), node: common.node, days: configuration.certificateDays,
      clock: clock)
    let certificates = try CertificateKeeper(
      source.load(), from: source, revocationList: common.revocationList, logger: logger,
      clock: clock)
    let service = try KeyControlService(
      store: store, tokens: tokens, certificateDays: configuration.certificateDays, clock: clock,
      logger: logger)
    var router = service.router
    let health = router.addHealthAndReflection()
    let server = Server(
      configuration: common.serverConfiguration(logger: logger),
      tls: try certificates.serverContext(admitsStrangers: true), router: router, group: group,
      logger: logger)
    // Looking the host's name up may block.
    try await offload { try server.start() }
    certificates.start()
    health.setAll(.serving)
    let current = store.summary.filter(\.isCurrent).map { "\($0.kind.name)/\($0.version)" }
    logger.notice(
      "serving",
      metadata: [
        "cluster": "\(common.cluster)", "address": "\(common.listen)",
        "port": "\(server.port)", "current_keys": "\(current.joined(separator: ","))",
      ])
    return KeyControlDaemon(
      server: server, health: health, lock: lock, certificates: certificates)
  }

  private init(
    server: Server, health: HealthService, lock: StateLock, certificates: CertificateKeeper
  ) {
    self.server = server
    self.health = health
    self.lock = lock
    self.certificates = certificates
  }

  public var port: UInt16 { server.port }

  public func reload() async throws { try certificates.reload() }

  public func shutdown(graceMilliseconds: UInt64) async {
    certificates.stop()
    health.shutDown()
    await server.shutdown(graceMilliseconds: graceMilliseconds)
    lock.release()
  }
}

/// The KCE's own certificate, from its own authority.
struct OwnCertificate: CertificateSource {
  let authority: CertificateAuthority
  let node: String
  let days: Int
  let clock: any Clock

  func load() throws -> NodeIdentity {
    guard let identity = Identity(cluster: authority.cluster, role: .keyControl, node: node) else {
      throw EnrollmentError.invalidName(node)
    }
    return try NodeIdentity(
      identity: identity,
      credentials: try authority.ownCredentials(node: node, days: days, clock: clock))
  }

  func renew(_ tls: TLSContext) async throws -> NodeIdentity { try load() }
}

/// Keeps a second daemon away from the same state: two writers would lose each other's rotations.
final class StateLock: Sendable {
  private let descriptor: Locked<Int32>

  init(directory: String) throws(KeyStoreError) {
    let path = "\(directory)/lock"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .file(PrivateFile.failure("open", path)) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let isTaken = errno == EWOULDBLOCK
      let failure = PrivateFile.failure("lock", path)
      close(descriptor)
      throw isTaken ? .inUse(path: directory) : .file(failure)
    }
    self.descriptor = Locked(descriptor)
  }

  deinit { release() }

  func release() {
    descriptor.withLock { descriptor in
      // A child between fork and exec has a copy of the descriptor: closing ours alone would leave its lock.
      if descriptor >= 0 {
        flock(descriptor, LOCK_UN)
        close(descriptor)
      }
      descriptor = -1
    }
  }
}
