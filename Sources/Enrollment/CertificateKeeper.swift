import Base
import Logging
import RPC

/// Keeps a running daemon's certificate good: makes its TLS contexts, reads files again when told to, and renews
/// in time. Connections that exist go on; only new ones see what changed, but peers that a new revocation list
/// names are cut.
public final class CertificateKeeper: Sendable {
  private struct State {
    var identity: NodeIdentity
    var list: RevocationList?
    var contexts: [TLSContext] = []
    var plan: RenewalPlan
    var warnedOfListAtMilliseconds: UInt64 = 0
    var renewal: Task<Void, Never>?
  }

  private let source: any CertificateSource
  private let revocationList: String?
  private let logger: Logger
  private let clock: any Clock
  private let sleep: @Sendable (Duration) async throws -> Void
  private let dice: @Sendable () -> Double
  private let state: Locked<State>

  /// Clocks are set and machines sleep: nothing is waited for longer than this without a look.
  private static let longestWait = Duration.seconds(60)
  private static let shortestPauseMilliseconds: UInt64 = 60_000
  private static let maximumListBytes = 4 << 20
  private static let listWarningMilliseconds: UInt64 = 24 * 3_600_000

  /// - Parameters:
  ///   - revocationList: a file of PEM; read here and at each reload.
  ///   - sleep: how the renewal waits; `dice`, from 0 to 1, spreads the moments of several nodes.
  public init(
    _ identity: NodeIdentity, from source: any CertificateSource, revocationList: String?,
    logger: Logger, clock: any Clock = SystemClock(),
    sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) },
    dice: @escaping @Sendable () -> Double = { Double.random(in: 0...1) }
  ) throws {
    self.source = source
    self.revocationList = revocationList
    self.logger = logger
    self.clock = clock
    self.sleep = sleep
    self.dice = dice
    let list = try Self.read(
      revocationList, authorityPEM: identity.credentials.authorityPEM,
      nowMilliseconds: clock.wallMilliseconds())
    state = Locked(
      State(identity: identity, list: list, plan: RenewalPlan(of: identity, dice: dice())))
  }

  /// For a node that has joined: `identity` as ``Enrollment`` gave it, from the same folder.
  public convenience init(
    _ identity: NodeIdentity, stateDirectory: String, keyControl: Address,
    revocationList: String?, group: EventLoopGroup, logger: Logger,
    clock: any Clock = SystemClock(),
    sleep: @escaping @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) },
    dice: @escaping @Sendable () -> Double = { Double.random(in: 0...1) }
  ) throws {
    let source = EnrolledCertificate(
      store: IdentityStore(
        directory: Enrollment.directory(in: stateDirectory), identity: identity.identity),
      keyControl: KeyControlPeer(
        address: keyControl, cluster: identity.identity.cluster, group: group, logger: logger))
    try self.init(
      identity, from: source, revocationList: revocationList, logger: logger, clock: clock,
      sleep: sleep, dice: dice)
  }

  public var identity: NodeIdentity { state.withLock { $0.identity } }

  // MARK: TLS

  /// A server's settings that follow each change.
  public func serverContext(admitsStrangers: Bool = false) throws(TLSError) -> TLSContext {
    try keep { (credentials) throws(TLSError) in
      try .server(credentials, admitsStrangers: admitsStrangers)
    }
  }

  /// The same for clients.
  public func clientContext() throws(TLSError) -> TLSContext {
    try keep { (credentials) throws(TLSError) in try .client(credentials) }
  }

  private func keep(
    _ make: (Credentials) throws(TLSError) -> TLSContext
  ) throws(TLSError) -> TLSContext {
    // Under the lock, so that no change falls between making and keeping.
    let made = state.withLock { state in
      Result { () throws(TLSError) in
        let context = try make(Self.credentials(state.identity, state.list))
        state.contexts.append(context)
        return context
      }
    }
    return try made.get()
  }

  private static func credentials(
    _ identity: NodeIdentity, _ list: RevocationList?
  ) -> Credentials {
    var credentials = identity.credentials
    credentials.revocationPEM = list?.pem
    return credentials
  }

  // MARK: changes

  /// Reads certificate, key, authority and revocation list again; on failure those in use stay.
  public func reload() throws {
    let loaded = try source.load()
    let now = clock.wallMilliseconds()
    let list = try Self.read(
      revocationList, authorityPEM: loaded.credentials.authorityPEM, nowMilliseconds: now)
    try take(loaded, list, "certificates loaded again")
  }

  private func take(
    _ identity: NodeIdentity, _ list: RevocationList?, _ what: Logger.Message
  ) throws {
    let now = clock.wallMilliseconds()
    guard identity.startsAtMilliseconds <= now, now < identity.expiresAtMilliseconds else {
      throw EnrollmentError.outOfTime(
        identity: identity.identity, from: timeText(milliseconds: identity.startsAtMilliseconds),
        to: timeText(milliseconds: identity.expiresAtMilliseconds))
    }
    let credentials = Self.credentials(identity, list)
    let plan = RenewalPlan(
      of: identity, dice: dice(), earliest: now + Self.shortestPauseMilliseconds)
    let previous = try state.withLock { state in
      // One that TLS refuses must not reach the first context and then fail at the second.
      _ = try TLSContext.client(credentials)
      for context in state.contexts { try context.reload(credentials) }
      defer {
        state.identity = identity
        state.list = list
        state.plan = plan
        state.warnedOfListAtMilliseconds = 0
      }
      return state.identity.credentials
    }
    func change(_ part: KeyPath<Credentials, String>) -> Logger.MetadataValue {
      previous[keyPath: part] == credentials[keyPath: part] ? "unchanged" : "new"
    }
    var metadata: Logger.Metadata = [
      "subject": "\(identity.identity)",
      "not_after": "\(timeText(milliseconds: identity.expiresAtMilliseconds))",
      "certificate": change(\.certificatePEM), "key": change(\.privateKeyPEM),
      "authority": change(\.authorityPEM),
    ]
    if let list {
      metadata["revoked"] = "\(list.revokedCount)"
      if let end = list.endsAtMilliseconds {
        metadata["list_ends"] = "\(timeText(milliseconds: end))"
      }
    }
    logger.notice(what, metadata: metadata)
  }

  /// Nil where no list is configured. One that TLS would refuse everybody for is an error.
  private static func read(
    _ path: String?, authorityPEM: String?, nowMilliseconds now: UInt64
  ) throws(EnrollmentError) -> RevocationList? {
    guard let path else { return nil }
    let bytes: [UInt8]
    do {
      bytes = try PrivateFile.read(path, maximumBytes: maximumListBytes, secret: false)
    } catch {
      throw .file(error)
    }
    let list: RevocationList
    do {
      list = try RevocationList(
        pem: String(decoding: bytes, as: UTF8.self), authorityPEM: authorityPEM)
    } catch {
      throw .revocationList(path: path, reason: error.description)
    }
    guard list.startsAtMilliseconds <= now else {
      throw .revocationList(
        path: path, reason: "it begins at \(timeText(milliseconds: list.startsAtMilliseconds))")
    }
    if let end = list.endsAtMilliseconds, end <= now {
      throw .revocationList(path: path, reason: "it ended at \(timeText(milliseconds: end))")
    }
    return list
  }

  /// For `--check`: reads the list, against the node's authority where the node has joined already.
  public static func checkRevocationList(
    _ path: String?, authorityPEM: String?, clock: any Clock = SystemClock()
  ) throws(EnrollmentError) {
    _ = try read(path, authorityPEM: authorityPEM, nowMilliseconds: clock.wallMilliseconds())
  }

  /// The same with the authority of that node, where it has joined already.
  public static func checkRevocationList(
    _ path: String?, stateDirectory: String, cluster: String, role: Role, node: String
  ) throws(EnrollmentError) {
    guard let path else { return }
    guard let identity = Identity(cluster: cluster, role: role, node: node) else {
      throw .invalidName(node)
    }
    let store = IdentityStore(
      directory: Enrollment.directory(in: stateDirectory), identity: identity)
    let authority = try store.load()?.nodeIdentity.credentials.authorityPEM
    try checkRevocationList(path, authorityPEM: authority)
  }

  // MARK: renewal

  /// Renews in time from here on, until ``stop()``.
  public func start() {
    let task = Task { [weak self, sleep, clock] in
      while !Task.isCancelled {
        guard let wait = await self?.look(at: clock.wallMilliseconds()) else { return }
        do {
          try await sleep(wait)
        } catch {
          return
        }
      }
    }
    state.withLock { $0.renewal = task }
  }

  public func stop() { state.withLock { $0.renewal }?.cancel() }

  /// Renews where it is due; returns how long to wait until the next look.
  private func look(at now: UInt64) async -> Duration {
    warnOfListEnd(at: now)
    if state.withLock({ $0.plan.isDue(at: now) }) {
      do {
        let (identity, list) = state.withLock { ($0.identity, $0.list) }
        let tls = try TLSContext.client(Self.credentials(identity, list))
        let renewed = try await source.renew(tls)
        // The list stays: a file that was broken meanwhile is for the next reload to complain about.
        try take(renewed, state.withLock { $0.list }, "renewed the certificate")
      } catch {
        if Task.isCancelled { return .zero }
        let (left, wait) = state.withLock { state in
          state.plan.failed(at: now, dice: dice())
          let end = state.identity.expiresAtMilliseconds
          return (end - min(end, now), state.plan.milliseconds(from: now))
        }
        // Within its last hours it is more than a remark.
        logger.log(
          level: left > Self.listWarningMilliseconds ? .warning : .error,
          "the certificate is not renewed; it will be tried again",
          metadata: [
            "subject": "\(identity.identity)", "reason": "\(error)",
            "not_after": "\(timeText(milliseconds: identity.expiresAtMilliseconds))",
            "next_try_seconds": "\(wait / 1000)",
          ])
      }
    }
    let next = state.withLock { $0.plan.milliseconds(from: now) }
    return min(Self.longestWait, max(.seconds(1), .milliseconds(Int64(clamping: next))))
  }

  /// A list that has ended refuses every peer.
  private func warnOfListEnd(at now: UInt64) {
    let end = state.withLock { state -> UInt64? in
      guard let end = state.list?.endsAtMilliseconds,
        end < now + Self.listWarningMilliseconds,
        now >= state.warnedOfListAtMilliseconds + Self.listWarningMilliseconds / 24
      else { return nil }
      state.warnedOfListAtMilliseconds = now
      return end
    }
    guard let end else { return }
    logger.error(
      "the revocation list ends soon: from then on every peer is refused; replace it and send SIGHUP",
      metadata: [
        "path": "\(revocationList ?? "")", "list_ends": "\(timeText(milliseconds: end))",
      ])
  }
}
