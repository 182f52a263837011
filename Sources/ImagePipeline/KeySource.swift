import Base
import Enrollment
import Messages

/// The keys of this node, which grow when the key control entity makes a new version.
///
/// Keys stay in memory. A record under a version that is not known here is a reason to ask again,
/// but not more often than ``minimumRefreshInterval``: a master that invents versions must not
/// make this node flood the key control entity.
public final class KeySource: Sendable {
  private struct State {
    var ring: KeyRing
    var nextRefreshNanoseconds: UInt64 = 0
  }

  public static let minimumRefreshInterval = Duration.seconds(10)
  private let state: Locked<State>
  private let fetch: @Sendable () async throws -> KeyRing
  private let clock: any Clock

  /// - Parameter fetch: asks the key control entity for all keys of this node's role.
  public init(
    _ ring: KeyRing, clock: any Clock = SystemClock(),
    fetch: @escaping @Sendable () async throws -> KeyRing
  ) {
    state = Locked(State(ring: ring))
    self.clock = clock
    self.fetch = fetch
  }

  /// The keys as of the last answer.
  public var ring: KeyRing { state.withLock { $0.ring } }

  /// Asks now; what is known stays where the key control entity does not answer.
  public func refresh() async throws {
    let fetched = try await fetch()
    state.withLock { $0.ring = fetched }
  }

  /// The keys, asked for again where that version is missing.
  public func ring(holding kind: KeyKind, version: UInt32) async -> KeyRing {
    let known = ring
    if known.key(kind, version: version) != nil { return known }
    let now = clock.monotonicNanoseconds()
    let mayAsk = state.withLock { state in
      guard now >= state.nextRefreshNanoseconds else { return false }
      state.nextRefreshNanoseconds =
        now + UInt64(Self.minimumRefreshInterval.components.seconds) * 1_000_000_000
      return true
    }
    // Without an answer the caller's own error names the missing version.
    if mayAsk { try? await refresh() }
    return ring
  }
}
