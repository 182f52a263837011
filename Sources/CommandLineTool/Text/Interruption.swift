import Base
import Glibc

/// SIGINT, SIGTERM and SIGHUP, which a terminal that closes sends, cancel the command's task, so that it can take away
/// what it began; the second one ends the process at once.
enum Interruption {
  private struct State {
    var isInstalled = false
    var happened = false
    var happenedAtNanoseconds: UInt64 = 0
    var cancel: (@Sendable () -> Void)?
  }
  private static let state = Locked(State())
  private static let sameWishNanoseconds: UInt64 = 300_000_000

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
    let isFirst = state.withLock { state in
      defer { state.isInstalled = true }
      return !state.isInstalled
    }
    guard isFirst else { return }
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    // A full pipe must not hold up the handler.
    _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
    interruptionPipe = ends[1]
    let readEnd = Unmanaged.passRetained(Descriptor(ends[0])).toOpaque()
    var thread = pthread_t()
    let failure = pthread_create(
      &thread, nil,
      { pointer in
        Interruption.wait(on: Unmanaged<Descriptor>.fromOpaque(pointer!).takeRetainedValue())
        return nil
      }, readEnd)
    precondition(failure == 0, "no thread for signals: \(failure)")
    pthread_detach(thread)
    for number in [SIGINT, SIGTERM, SIGHUP] { handle(number) }
    // A reader that has left is an error of write(2), which Output tells from others.
    signal(SIGPIPE, SIG_IGN)
  }

  private final class Descriptor {
    let number: Int32

    init(_ number: Int32) { self.number = number }
  }

  private static func handle(_ number: Int32) {
    var action = sigaction()
    sigaction(number, nil, &action)
    // A shell's background job and nohup ignore signals on purpose.
    let handler = unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
    if handler == unsafeBitCast(SIG_IGN, to: Int.self) { return }
    action = sigaction()
    action.sa_flags = SA_RESTART
    action.__sigaction_handler.sa_handler = { number in
      // Nothing but write(2): a handler may interrupt any other code at any point.
      var byte = UInt8(truncatingIfNeeded: number)
      let before = errno
      _ = write(interruptionPipe, &byte, 1)
      errno = before
    }
    sigaction(number, &action, nil)
  }

  private static func wait(on descriptor: Descriptor) {
    while true {
      var number: UInt8 = 0
      guard read(descriptor.number, &number, 1) == 1 else {
        if errno == EINTR { continue }
        return
      }
      let now = SystemClock().monotonicNanoseconds()
      let cancel = state.withLock { state -> (@Sendable () -> Void)? in
        if state.happened {
          // timeout(1) and some shells signal a process and then its group: one wish, said twice.
          if now - state.happenedAtNanoseconds < sameWishNanoseconds { return nil }
          _exit(128 + Int32(number))
        }
        state.happened = true
        state.happenedAtNanoseconds = now
        return state.cancel
      }
      cancel?()
    }
  }
}

/// Written once, before the handler that reads it is there; a plain global, so that reading it in a
/// signal handler runs no initializer.
nonisolated(unsafe) private var interruptionPipe: Int32 = -1
