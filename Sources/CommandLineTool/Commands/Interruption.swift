import Base
import Glibc

/// SIGINT and SIGTERM cancel the command's task, so that it can take away what it began;
/// the second one ends the process at once.
enum Interruption {
  private static let state = Locked<(happened: Bool, cancel: (@Sendable () -> Void)?)>((false, nil))

  static var happened: Bool { state.withLock { $0.happened } }

  static func cancelling<Value: Sendable>(
    _ body: @escaping @Sendable () async throws -> Value
  ) async throws -> Value {
    install()
    let task = Task { try await body() }
    let alreadyHappened = state.withLock { state in
      state.cancel = { task.cancel() }
      return state.happened
    }
    if alreadyHappened { task.cancel() }
    defer { state.withLock { $0.cancel = nil } }
    return try await task.value
  }

  private static func install() {
    var signals = signalSet()
    // Blocked here and so in all later threads: only the thread below takes them.
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    var thread = pthread_t()
    let failure = pthread_create(
      &thread, nil,
      { _ in
        Interruption.wait()
        return nil
      }, nil)
    precondition(failure == 0, "no thread for signals: \(failure)")
    pthread_detach(thread)
  }

  private static func signalSet() -> sigset_t {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGINT)
    sigaddset(&signals, SIGTERM)
    return signals
  }

  private static func wait() {
    var signals = signalSet()
    while true {
      var number: Int32 = 0
      guard sigwait(&signals, &number) == 0 else { continue }
      let cancel = state.withLock { state -> (@Sendable () -> Void)? in
        if state.happened { _exit(128 + number) }
        state.happened = true
        return state.cancel
      }
      cancel?()
    }
  }
}
