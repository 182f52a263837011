/// Streams that wait for their turn to send, first come first served.
struct TurnQueue {
  private var streams: [Stream?] = []
  private var start = 0

  var count: Int { streams.count - start }
  var isEmpty: Bool { count == 0 }

  mutating func append(_ stream: Stream) { streams.append(stream) }

  mutating func takeFirst() -> Stream? {
    guard start < streams.count else { return nil }
    let first = streams[start]
    streams[start] = nil
    start += 1
    if start == streams.count {
      streams.removeAll(keepingCapacity: true)
      start = 0
    } else if start >= 64, start * 2 >= streams.count {
      streams.removeFirst(start)
      start = 0
    }
    return first
  }

  mutating func removeAll() {
    streams = []
    start = 0
  }
}
