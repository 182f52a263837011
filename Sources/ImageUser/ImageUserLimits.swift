import Glibc

/// What a user's daemon takes on at once.
public struct ImageUserLimits: Sendable {
  /// Largest file, as a query and as a result, in bytes.
  public var maximumImageBytes = 256 << 20
  /// Queries that are decoded and hashed at the same time.
  public var workers = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
  /// Calls that wait for a place; one more is refused.
  public var queueLimit = 256

  public init() {}

  /// Results of one query between the master's first byte and the caller's last: one is received
  /// while another is opened and a third leaves.
  static let resultsInWork = 3
  /// Results asked for at most.
  static let maximumCount: UInt32 = 1000

  /// Bytes of queries, encrypted images and originals in memory, of all calls together.
  var memoryBytes: Int { max(1 << 30, 4 * maximumImageBytes) }
}
