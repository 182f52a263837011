/// What is to happen, in order of time; things of the same time in the order in which they were planned.
struct EventQueue<Event> {
  /// Apart from the events, which are large: a heap moves its elements a lot.
  private struct Key {
    var time: UInt64
    var number: UInt64
    var slot: Int

    func isBefore(_ other: Key) -> Bool { (time, number) < (other.time, other.number) }
  }

  private var heap: [Key] = []
  private var events: [Event?] = []
  private var freeSlots: [Int] = []
  private var nextNumber: UInt64 = 0

  var isEmpty: Bool { heap.isEmpty }
  var nextTime: UInt64? { heap.first?.time }

  mutating func add(_ event: Event, at time: UInt64) {
    let slot = freeSlots.popLast() ?? events.count
    if slot == events.count { events.append(event) } else { events[slot] = event }
    let key = Key(time: time, number: nextNumber, slot: slot)
    nextNumber += 1
    heap.append(key)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard key.isBefore(heap[parent]) else { break }
      heap[child] = heap[parent]
      child = parent
    }
    heap[child] = key
  }

  mutating func next() -> (time: UInt64, event: Event)? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    if !heap.isEmpty {
      var parent = 0
      while true {
        var child = 2 * parent + 1
        guard child < heap.count else { break }
        if child + 1 < heap.count && heap[child + 1].isBefore(heap[child]) { child += 1 }
        guard heap[child].isBefore(last) else { break }
        heap[parent] = heap[child]
        parent = child
      }
      heap[parent] = last
    }
    freeSlots.append(first.slot)
    return (first.time, events[first.slot].take()!)
  }
}
