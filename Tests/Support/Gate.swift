/// Opened once; whoever waits goes on. A cancelled wait (a test's time limit) ends too.
public actor Gate {
  private var isOpen = false
  private var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
  private var count = 0

  public init() {}

  public func open() {
    isOpen = true
    for waiter in waiters.values { waiter.resume() }
    waiters = [:]
  }

  public func wait() async {
    if isOpen { return }
    count += 1
    let number = count
    await withTaskCancellationHandler {
      await withCheckedContinuation { waiter in
        if Task.isCancelled { waiter.resume() } else { waiters[number] = waiter }
      }
    } onCancel: {
      Task { await self.release(number) }
    }
  }

  private func release(_ number: Int) { waiters.removeValue(forKey: number)?.resume() }
}

/// Waits for what must come; the test's time limit ends a wait that never does.
public func eventually(
  isolation: isolated (any Actor)? = #isolation, _ condition: () async throws -> Bool
) async rethrows {
  while try await !condition() {
    if Task.isCancelled { return }
    await Task.yield()
  }
}
