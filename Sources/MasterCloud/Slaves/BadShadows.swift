import Base

/// Shadows of stored images that turned out to be unreadable, missing or other than they were stored, until they are rebuilt.
///
/// In memory only: a slave that knows of its own damage says so again, and the audit finds what is missing.
final class BadShadows: Sendable {
  private struct State {
    var names: [String: Set<[UInt8]>] = [:]
    var found: [String: UInt64] = [:]
    var insertions: UInt64 = 0
  }

  private let state = Locked(State())
  /// Of one slave. Where there are more, the audit is not done: it goes on when these are mended.
  let maximumNames: Int

  init(maximumNames: Int = 100_000) { self.maximumNames = maximumNames }

  /// Names that came so far.
  var insertions: UInt64 { state.withLock { $0.insertions } }

  /// True where it was not known.
  @discardableResult
  func insert(_ name: [UInt8], on slave: String) -> Bool {
    state.withLock { state in
      guard state.names[slave, default: []].count < maximumNames,
        state.names[slave, default: []].insert(name).inserted
      else { return false }
      state.found[slave, default: 0] += 1
      state.insertions += 1
      return true
    }
  }

  func isFull(for slave: String) -> Bool { count(on: slave) >= maximumNames }

  /// What a slave lost so far counts against it no longer.
  func forgive(_ slave: String) { state.withLock { $0.found[slave] = nil } }

  func remove(_ name: [UInt8], on slave: String) {
    state.withLock { _ = $0.names[slave]?.remove(name) }
  }

  func contains(_ name: [UInt8], on slave: String) -> Bool {
    state.withLock { $0.names[slave]?.contains(name) ?? false }
  }

  func names(on slave: String) -> Set<[UInt8]> { state.withLock { $0.names[slave] ?? [] } }
  func count(on slave: String) -> Int { state.withLock { $0.names[slave]?.count ?? 0 } }
  /// Found on this slave since the start, mended ones included.
  func found(on slave: String) -> UInt64 { state.withLock { $0.found[slave] ?? 0 } }

  var all: [String: Set<[UInt8]>] { state.withLock { $0.names.filter { !$0.value.isEmpty } } }
}
