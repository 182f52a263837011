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
  /// Messages take up to so many milliseconds, but for some that are very late.
  var longestDelay: UInt64 = 2
  private(set) var late: UInt64 = 0
  private(set) var latest: UInt64 = 0

  init() {}

  init(_ style: SimulationStyle) { setQuality(style) }

  func isOpen(from: NodeID, to: NodeID) -> Bool {
    cut.isEmpty || cut[Link(from: from, to: to)] == nil
  }

  mutating func close(_ links: [Link]) {
    for link in links { cut[link, default: 0] += 1 }
  }

  mutating func open(_ links: [Link]) {
    for link in links {
      guard let count = cut[link] else { continue }
      cut[link] = count == 1 ? nil : count - 1
    }
  }

  /// As good as it is between faults; nil for a good one.
  mutating func setQuality(_ style: SimulationStyle?) {
    (loss, duplication) = (style?.loss ?? 0, style?.duplication ?? 0)
    longestDelay = style?.longestDelay ?? 2
    (late, latest) = (style?.late ?? 0, style?.latest ?? 0)
  }
}

extension Simulation {
  mutating func send(_ message: Message) {
    switch message.body {
    case .requestVote, .vote, .timeoutNow, .installBase:
      note("\(message.from) -> \(message.to) in \(message.term): \(message.body)")
    default: break
    }
    guard network.isOpen(from: message.from, to: message.to),
      configuration.mutant?.loses(message) != true
    else { return }
    var copies = chance(network.loss) ? 0 : 1
    if chance(network.duplication) { copies += 1 }
    for _ in 0..<copies {
      let longest = chance(network.late) ? network.latest : network.longestDelay
      queue.add(.deliver(message), at: time + draw(0...longest))
    }
  }

  mutating func deliver(_ message: Message) throws {
    guard let node = node(message.to), node.isUp else { return }
    if let mutant = configuration.mutant {
      var message = message
      mutant.change(&message, for: node.raft!)
      try step(node, .received(message))
    } else {
      try step(node, .received(message))
    }
  }
}
