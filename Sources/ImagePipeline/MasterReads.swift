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
    guard maximumAgeMilliseconds > 0, let any else {
      return try await Retry.briefly.run(within: context) { try await body(leader) }
    }
    do {
      return try await Retry(maximumAttempts: 2).run(within: context) { try await body(any) }
    } catch let old as RPCError where Self.mayBeOtherwiseNow(old) {
      // What is not there yet, or not any more, or cannot be said at that age, the leader knows.
      do { return try await body(leader) } catch let error as RPCError
        where error.code == .unavailable
      {
        throw old.code == .unavailable ? error : old
      }
    }
  }

  private static func mayBeOtherwiseNow(_ error: RPCError) -> Bool {
    switch error.code {
    case .cancelled, .deadlineExceeded, .invalidArgument, .permissionDenied, .unauthenticated: false
    default: true
    }
  }
}
