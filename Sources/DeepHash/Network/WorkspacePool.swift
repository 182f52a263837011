internal import Glibc

/// Workspaces that the callers of one model share: as many are made as calls ever run at once.
final class WorkspacePool: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private var idle: [ConvNeXtWorkspace] = []

  init() {
    mutex = .allocate(capacity: 1)
    let status = pthread_mutex_init(mutex, nil)
    precondition(status == 0, "pthread_mutex_init gave \(status)")
  }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  /// Lends a workspace that nobody else uses meanwhile.
  func withWorkspace<Result, Failure: Error>(
    _ body: (ConvNeXtWorkspace) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    pthread_mutex_lock(mutex)
    let workspace = idle.popLast() ?? ConvNeXtWorkspace()
    pthread_mutex_unlock(mutex)
    defer {
      pthread_mutex_lock(mutex)
      idle.append(workspace)
      pthread_mutex_unlock(mutex)
    }
    return try body(workspace)
  }
}
