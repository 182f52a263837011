/// Names one scheduled timer of one loop.
public struct TimerID: Hashable, Sendable {
  fileprivate let deadline: UInt64
  fileprivate let number: UInt64
}

/// A binary heap of timers by deadline; cancelled ones stay until they surface.
struct TimerQueue {
  private var heap: [TimerID] = []
  private var actions: [TimerID: () -> Void] = [:]
  private var counter: UInt64 = 0

  var earliest: UInt64? { heap.first?.deadline }

  mutating func insert(deadline: UInt64, _ action: @escaping () -> Void) -> TimerID {
    counter += 1
    let timer = TimerID(deadline: deadline, number: counter)
    actions[timer] = action
    heap.append(timer)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard comesBefore(heap[child], heap[parent]) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
    return timer
  }

  mutating func cancel(_ timer: TimerID) {
    actions[timer] = nil
    // Calls that end early leave their timers behind: without this a busy connection's heap only grows.
    if heap.count > 64, heap.count > 2 * actions.count {
      heap = actions.keys.sorted { comesBefore($0, $1) }
    }
  }

  /// What is due at one moment; timers set later are not among them, or one that sets itself would never end.
  struct Round {
    fileprivate let now: UInt64
    fileprivate let lastNumber: UInt64
  }

  func round(at now: UInt64) -> Round { Round(now: now, lastNumber: counter) }

  /// The action of the next timer of the round, in order; nil where none is left.
  mutating func takeNext(of round: Round) -> (() -> Void)? {
    while let first = heap.first, first.deadline <= round.now, first.number <= round.lastNumber {
      removeFirst()
      if let action = actions.removeValue(forKey: first) { return action }
    }
    return nil
  }

  private func comesBefore(_ left: TimerID, _ right: TimerID) -> Bool {
    (left.deadline, left.number) < (right.deadline, right.number)
  }

  private mutating func removeFirst() {
    heap.swapAt(0, heap.count - 1)
    heap.removeLast()
    var parent = 0
    while true {
      var smallest = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && comesBefore(heap[child], heap[smallest]) {
        smallest = child
      }
      if smallest == parent { return }
      heap.swapAt(parent, smallest)
      parent = smallest
    }
  }
}
