import Raft

/// What the nodes agree on. Applying the same entries gives the same state and the same outcomes everywhere.
public protocol ReplicatedStateMachine: Sendable {
  associatedtype Outcome: Sendable

  /// Where a task runs best that does little but apply; nil: anywhere.
  var taskExecutor: (any TaskExecutor)? { get }

  /// Applies entries with consecutive indices from `first` on, which is one behind the last. The position reached, and
  /// the membership, belong to the state: at every moment a start would find all three as of the same entry. A failure
  /// may take back what was not settled.
  /// - Returns: one outcome for each entry; nil for those that are no commands.
  func apply(_ entries: [Entry], first: Index) async throws -> [Outcome?]

  /// Lets all that was applied outlive this process, as far as the machine goes on. Many applications share the cost of one;
  /// what was not settled is applied again from the log after a start.
  func settle() async throws

  /// Makes all that was applied durable.
  /// - Returns: the last index of it.
  func checkpoint() async throws -> Index

  /// Writes the state to a new file; other calls go on meanwhile.
  /// - Returns: where the log goes on behind it.
  func writeSnapshot(to path: String) async throws -> LogBase

  /// Puts the state in a file, which is on stable storage, into the place of this one, durably or not at all. The file goes.
  func install(_ path: String, base: LogBase) async throws
}

extension ReplicatedStateMachine {
  public var taskExecutor: (any TaskExecutor)? { nil }
}

/// A witness has none.
public struct NoStateMachine: ReplicatedStateMachine {
  public init() {}

  public func apply(_ entries: [Entry], first: Index) async throws -> [Never?] {
    preconditionFailure("a witness was given entries to apply")
  }

  public func settle() async throws {}

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
