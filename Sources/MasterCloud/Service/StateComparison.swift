import Base
import Logging
import Messages

/// Compares the masters' states by the hashes that each keeps at fixed places of the log. They differ only through a fault of
/// ours or of a machine; whoever reads from either must know.
final class StateComparison: Sendable {
  private let found = Locked("")
  private let logger: Logger

  init(logger: Logger) { self.logger = logger }

  /// What is wrong; empty where nothing is known to be.
  var alarm: String { found.withLock { $0 } }

  func compare(_ own: [StateMark], with others: [String: [StateMark]]) {
    let hashes = Dictionary(own.map { ($0.index, $0.hash) }) { first, _ in first }
    for (node, marks) in others.sorted(by: { $0.key < $1.key }) {
      let differing = marks.first { mark in hashes[mark.index].map { $0 != mark.hash } ?? false }
      guard let differing else { continue }
      let text = "the state of \(node) differs from this master's at entry \(differing.index)"
      found.withLock { $0 = text }
      logger.critical("masters' states differ", metadata: ["problem": "\(text)"])
    }
  }
}
