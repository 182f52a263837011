import Raft

/// Which way is open between whom, and how good it is.
struct SimulatedLinks {
  struct Link: Hashable {
    var from: NodeID
    var to: NodeID
  }

  private var cut: [Link: Int] = [:]
  /// In percent.
  var loss: UInt64 = 0
  var duplication: UInt64 = 0
  /// The longest way takes so many milliseconds.
  var longestDelay: UInt64 = 2

  func isOpen(from: NodeID, to: NodeID) -> Bool { cut[Link(from: from, to: to)] == nil }

  mutating func close(_ links: [Link]) {
    for link in links { cut[link, default: 0] += 1 }
  }

  mutating func open(_ links: [Link]) {
    for link in links {
      guard let count = cut[link] else { continue }
      cut[link] = count == 1 ? nil : count - 1
    }
  }

  mutating func healAll() { self = SimulatedLinks() }
}

extension Simulation {
  mutating func send(_ message: Message) {
    switch message.body {
    case .requestVote, .vote, .timeoutNow, .installBase:
      note("\(message.from) -> \(message.to) in \(message.term): \(message.body)")
    default: break
    }
    guard network.isOpen(from: message.from, to: message.to) else { return }
    var copies = chance(network.loss) ? 0 : 1
    if chance(network.duplication) { copies += 1 }
    for _ in 0..<copies {
      queue.add(.deliver(message), at: time + draw(0...network.longestDelay))
    }
  }
}
