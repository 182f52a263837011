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

  /// Opens the key store and serves; the certificate of the server is made anew at each start.
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
    let credentials = try store.authority().ownCredentials(
      node: configuration.common.node, days: configuration.certificateDays, clock: clock)
    let service = try KeyControlService(
      store: store, tokens: tokens, certificateDays: configuration.certificateDays, clock: clock,
      logger: logger)
    var router = service.router
    let health = router.addHealthAndReflection()
    let server = Server(
      configuration: ServerConfiguration(
        address: configuration.common.listen, cluster: configuration.common.cluster),
      tls: try TLSContext.server(credentials, admitsStrangers: true), router: router,
      group: group, logger: logger)
    // Looking the host's name up may block.
    try await offload { try server.start() }
    health.setAll(.serving)
    let current = store.summary.filter(\.isCurrent).map { "\($0.kind.name)/\($0.version)" }
    logger.notice(
      "serving",
      metadata: [
        "cluster": "\(configuration.common.cluster)", "address": "\(configuration.common.listen)",
        "port": "\(server.port)", "current_keys": "\(current.joined(separator: ","))",
      ])
    return KeyControlDaemon(server: server, health: health, lock: lock)
  }

  private init(server: Server, health: HealthService, lock: StateLock) {
    self.server = server
    self.health = health
    self.lock = lock
  }

  public var port: UInt16 { server.port }

  public func shutdown(graceMilliseconds: UInt64) async {
    health.shutDown()
    await server.shutdown(graceMilliseconds: graceMilliseconds)
    lock.release()
  }
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
      if descriptor >= 0 { close(descriptor) }
      descriptor = -1
    }
  }
}
