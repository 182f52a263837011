import Base

/// Intents of the log (uploads, moves) that this process is working on, which the sweep leaves alone.
final class ActiveSet<Element: Hashable & Sendable>: Sendable {
  private let elements = Locked<Set<Element>>([])

  func insert(_ element: Element) { elements.withLock { _ = $0.insert(element) } }
  func remove(_ element: Element) { elements.withLock { _ = $0.remove(element) } }
  func contains(_ element: Element) -> Bool { elements.withLock { $0.contains(element) } }
}
