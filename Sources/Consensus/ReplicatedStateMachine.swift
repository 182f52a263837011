import Raft

/// What the nodes agree on. Applying the same entries gives the same state and the same outcomes everywhere.
public protocol ReplicatedStateMachine: Sendable {
  associatedtype Outcome: Sendable

  /// Applies entries with consecutive indices from `first` on, which is one behind the last. Keeps the position reached, and
  /// the membership, with the state, in one transaction.
  /// - Returns: one outcome for each entry; nil for those that are no commands.
  func apply(_ entries: [Entry], first: Index) async throws -> [Outcome?]

  /// Makes all that was applied durable.
  /// - Returns: the last index of it.
  func checkpoint() async throws -> Index

  /// Writes the state to a new file; other calls go on meanwhile.
  /// - Returns: where the log goes on behind it.
  func writeSnapshot(to path: String) async throws -> LogBase

  /// Puts the state in a file, which is on stable storage, into the place of this one, durably or not at all. The file goes.
  func install(_ path: String, base: LogBase) async throws
}

/// A witness has none.
public struct NoStateMachine: ReplicatedStateMachine {
  public init() {}

  public func apply(_ entries: [Entry], first: Index) async throws -> [Never?] {
    preconditionFailure("a witness was given entries to apply")
  }

  public func checkpoint() async throws -> Index {
    preconditionFailure("a witness was asked to make a state durable")
  }

  public func writeSnapshot(to path: String) async throws -> LogBase {
    preconditionFailure("a witness was asked for a state")
  }

  public func install(_ path: String, base: LogBase) async throws {
    preconditionFailure("a witness was given a state")
  }
}
