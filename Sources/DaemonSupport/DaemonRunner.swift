import Base
import Glibc
import Logging
import RPC
import ServiceLifecycle
import UnixSignals

/// What a daemon's start gets.
public struct DaemonContext: Sendable {
  public let logger: Logger
  public let group: EventLoopGroup
  private let manager: ServiceManager
  private let announced = Locked(false)
  private let failure = Locked<(any Error)?>(nil)
  private let failures: AsyncStream<Void>
  private let announcement: AsyncStream<Void>.Continuation

  init(logger: Logger, group: EventLoopGroup, manager: ServiceManager) {
    self.logger = logger
    self.group = group
    self.manager = manager
    (failures, announcement) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  /// Tells the service manager and the log that calls are served; once, however often it is called.
  ///
  /// Called for the daemon when its start returns.
  public func ready() {
    let isFirst = announced.withLock { announced in
      defer { announced = true }
      return !announced
    }
    guard isFirst else { return }
    manager.notify("READY=1")
    logger.notice("ready")
  }

  /// The daemon cannot go on: it ends in order, with the exit status of the error. The first one counts.
  public func fail(_ error: any Error) {
    failure.withLock { $0 = $0 ?? error }
    announcement.yield()
  }

  /// Returns at the first failure, or when the task is cancelled.
  fileprivate func waitForFailure() async { for await _ in failures { return } }

  fileprivate var failed: (any Error)? { failure.withLock { $0 } }

  /// One line for `systemctl status`.
  public func status(_ text: String) { manager.status(text) }
}

/// A daemon that runs until it is told to stop.
public protocol RunningDaemon: Sendable {
  /// Reads certificates and revocation lists again; what was in use stays where that fails. Calls go on.
  func reload() async throws
  func shutdown(graceMilliseconds: UInt64) async
}

/// sysexits(3): what the exit status of every program here means.
public enum ExitCode {
  public static let ok: Int32 = 0
  public static let usage: Int32 = 64
  public static let unavailable: Int32 = 69
  public static let internalError: Int32 = 70
  public static let inputOutput: Int32 = 74
  public static let notPermitted: Int32 = 77
  public static let configuration: Int32 = 78

  /// The status for an error that ends a program.
  public static func of(_ error: any Error) -> Int32 {
    switch error {
    case is ConfigurationError: configuration
    case is TLSError: notPermitted
    case let error as any ExitCodeConvertible: error.exitCode
    default:
      switch RPCError(answering: error).code {
      case .permissionDenied, .unauthenticated: notPermitted
      case .unavailable, .deadlineExceeded, .resourceExhausted: unavailable
      case .invalidArgument, .notFound, .alreadyExists, .failedPrecondition, .outOfRange:
        configuration
      case .dataLoss: inputOutput
      default: internalError
      }
    }
  }
}

/// An error that knows its exit status.
public protocol ExitCodeConvertible: Error {
  var exitCode: Int32 { get }
}

/// A daemon's life: logging, start, the word to the service manager, signals, an orderly end.
public enum DaemonRunner {
  public static func run(
    name: String, configuration: CommonConfiguration,
    start: @escaping @Sendable (DaemonContext) async throws -> any RunningDaemon
  ) async -> Int32 {
    await run(
      logger: logger(name: name, level: configuration.logLevel), manager: ServiceManager(),
      shutdownGraceSeconds: configuration.shutdownGraceSeconds, rpc: configuration.rpc,
      start: start)
  }

  /// Runs until SIGTERM or SIGINT, or until the start fails; returns the exit status.
  ///
  /// SIGHUP makes the daemon read its certificates again; the rest of a changed configuration is taken by a
  /// restart. A SIGHUP during the start is answered after it; SIGTERM and SIGINT cancel the start.
  static func run(
    logger: Logger, manager: ServiceManager, shutdownGraceSeconds: Int,
    rpc: RPCSettings = RPCSettings(),
    start: @escaping @Sendable (DaemonContext) async throws -> any RunningDaemon
  ) async -> Int32 {
    let hangUps = await UnixSignalsSequence(trapping: .sighup)
    signal(SIGPIPE, SIG_IGN)
    // Whatever a daemon writes is for its own user.
    umask(0o077)
    let service = DaemonService(
      context: DaemonContext(logger: logger, group: rpc.makeEventLoops(), manager: manager),
      manager: manager, hangUps: hangUps,
      graceMilliseconds: UInt64(shutdownGraceSeconds) * 1000, start: start)
    let group = ServiceGroup(
      configuration: .init(
        services: [
          .init(
            service: service, successTerminationBehavior: .gracefullyShutdownGroup,
            failureTerminationBehavior: .cancelGroup)
        ],
        gracefulShutdownSignals: [.sigterm, .sigint], logger: lifecycleLogger(of: logger)))
    do {
      try await group.run()
      logger.notice("stopped")
      return ExitCode.ok
    } catch {
      manager.status("\(error)")
      logger.critical("cannot go on", metadata: ["reason": "\(error)"])
      return ExitCode.of(error)
    }
  }

  /// A logger of the house's format.
  public static func logger(name: String, level: Logger.Level) -> Logger {
    Logger(label: name) { _ in LineLogHandler(logLevel: level) }
  }

  /// The lifecycle package tells of its own workings, which only matter where they fail.
  private static func lifecycleLogger(of logger: Logger) -> Logger {
    var quiet = logger
    quiet.logLevel = .critical
    return quiet
  }
}

/// The daemon as one service of the lifecycle package.
private struct DaemonService: Service {
  let context: DaemonContext
  let manager: ServiceManager
  let hangUps: UnixSignalsSequence
  let graceMilliseconds: UInt64
  let start: @Sendable (DaemonContext) async throws -> any RunningDaemon

  func run() async throws {
    let stopping = Locked(false)
    let daemon: any RunningDaemon
    do {
      daemon = try await withGracefulShutdownHandler {
        try await cancelWhenGracefulShutdown { [start, context] in try await start(context) }
      } onGracefulShutdown: {
        stopping.withLock { $0 = true }
      }
    } catch {
      // A start that a signal cut short is no failure.
      if stopping.withLock({ $0 }) { return }
      throw error
    }
    context.ready()
    let watchdog = Task { [manager, group = context.group] in
      await Watchdog.run(manager: manager, group: group)
    }
    let reloading = Task { await reloadAtEachHangUp(daemon) }
    // Ends by the signal, by cancellation, or by a failure: all mean to stop.
    await withTaskGroup(of: Void.self) { group in
      group.addTask { try? await gracefulShutdown() }
      group.addTask { await context.waitForFailure() }
      await group.next()
      group.cancelAll()
    }
    reloading.cancel()
    // Not in the middle of a reload: its READY=1 must not follow STOPPING=1.
    await reloading.value
    manager.notify("STOPPING=1")
    context.logger.notice("stopping", metadata: ["grace_ms": "\(graceMilliseconds)"])
    await daemon.shutdown(graceMilliseconds: graceMilliseconds)
    watchdog.cancel()
    if let error = context.failed { throw error }
  }

  private func reloadAtEachHangUp(_ daemon: any RunningDaemon) async {
    for await _ in hangUps {
      if Task.isCancelled { return }
      context.logger.notice("reloading")
      // systemd's "notify-reload" waits for these two, also where the reload failed.
      manager.notify(
        "RELOADING=1\nMONOTONIC_USEC=\(SystemClock().monotonicNanoseconds() / 1000)")
      do {
        try await daemon.reload()
        context.logger.notice("reloaded")
        manager.notify("READY=1\nSTATUS=reloaded")
      } catch {
        context.logger.error(
          "the reload failed: what was in use stays", metadata: ["reason": "\(error)"])
        manager.notify("READY=1")
        manager.status("the last reload failed: \(error)")
      }
    }
  }
}

/// Tells systemd that the daemon is alive, which it is while every event loop still turns.
enum Watchdog {
  static func run(manager: ServiceManager, group: EventLoopGroup) async {
    guard let microseconds = manager.watchdogMicroseconds else { return }
    while !Task.isCancelled {
      for loop in group.loops {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
          loop.execute { done.resume() }
        }
      }
      manager.notify("WATCHDOG=1")
      // Three times in the interval, so that one late beat is no death.
      try? await Task.sleep(for: .microseconds(Int64(clamping: microseconds / 3)))
    }
  }
}
