import Glibc

/// A thread of its own for blocking work, which never belongs on Swift's cooperative threads. It ends with `body`.
/// - Returns: 0, or why there is none (an `errno` value).
public func startDetachedThread(_ body: @escaping @Sendable () -> Void) -> Int32 {
  final class Start {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  let start = Unmanaged.passRetained(Start(body))
  var thread = pthread_t()
  let failure = pthread_create(
    &thread, nil,
    { argument in
      Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue().body()
      return nil
    }, start.toOpaque())
  if failure != 0 {
    start.release()
    return failure
  }
  pthread_detach(thread)
  return 0
}
