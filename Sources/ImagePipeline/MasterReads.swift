import RPC

/// Questions to the masters: the one that leads knows how things are now, any of them how they were a moment ago.
public struct MasterReads: Sendable {
  private let leader: ServiceClient
  private let any: ServiceClient?

  /// - Parameter any: a client that takes whichever master answers; nil where there is but one way.
  public init(leader: ServiceClient, any: ServiceClient? = nil) {
    self.leader = leader
    self.any = any
  }

  /// Where an age is allowed, any master is asked first: that goes on while nobody leads, for as long as the age allows.
  ///
  /// - Parameters:
  ///   - maximumAgeMilliseconds: as the request carries it; 0: as of now.
  ///   - body: safe to repeat.
  public func ask<Answer: Sendable>(
    maximumAgeMilliseconds: UInt64, within context: CallContext,
    _ body: @Sendable (ServiceClient) async throws -> Answer
  ) async throws -> Answer {
    if maximumAgeMilliseconds > 0, let any {
      do {
        return try await Retry(maximumAttempts: 2).run(within: context) { try await body(any) }
      } catch {
        // What none of them knows well enough, the leader does.
        guard (error as? RPCError)?.code == .unavailable else { throw error }
      }
    }
    return try await Retry.briefly.run(within: context) { try await body(leader) }
  }
}
