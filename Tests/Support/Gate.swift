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

/// Waits for what must come; the test's time limit ends a wait that never does. A long wait gives the processor
/// away between looks, so that what it waits for can come.
public func eventually(
  isolation: isolated (any Actor)? = #isolation, _ condition: () async throws -> Bool
) async rethrows {
  var looks = 0
  while try await !condition() {
    if Task.isCancelled { return }
    looks += 1
    if looks < 100 { await Task.yield() } else { try? await Task.sleep(for: .milliseconds(1)) }
  }
}
