/// A voter's name, unique for ever: a node that lost its disk comes back under another.
public struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible,
  ExpressibleByStringLiteral
{
  public let name: String

  public init(_ name: String) { self.name = name }
  public init(stringLiteral name: String) { self.name = name }

  public var description: String { name }

  public static func < (left: NodeID, right: NodeID) -> Bool { left.name < right.name }
}

/// Elections are numbered; at most one node leads in each term.
public typealias Term = UInt64

/// Entries are numbered from 1 without gaps; 0 stands before the first.
public typealias Index = UInt64

/// Time as its caller counts it, on a clock that only grows and that goes on while the process is stopped.
public typealias Tick = UInt64

/// Where an entry stands. Of two logs the one whose last entry has the later term, or in the same term the higher
/// index, is more up to date (Raft, section 5.4.1): the order of this type.
public struct Position: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var term: Term
  public var index: Index

  public init(term: Term, index: Index) {
    self.term = term
    self.index = index
  }

  /// Before every entry.
  public static let zero = Position(term: 0, index: 0)

  public var description: String { "\(term)/\(index)" }

  public static func < (left: Position, right: Position) -> Bool {
    (left.term, left.index) < (right.term, right.index)
  }
}

/// A voter.
public struct Member: Hashable, Sendable {
  public enum Role: UInt8, Sendable {
    /// Holds the state, serves clients, leads.
    case data = 1
    /// Holds the log only. Leads for no longer than it takes to bring a data node up to date.
    case witness = 2
  }

  public let id: NodeID
  public let role: Role
  /// Where the others reach it; the machine does not look at it.
  public let address: String

  public init(id: NodeID, role: Role, address: String = "") {
    self.id = id
    self.role = role
    self.address = address
  }
}

/// Who votes. While a replacement is under way a majority is needed among the members and among those before (Raft, section 6).
public struct Membership: Hashable, Sendable {
  /// In order of their names.
  public let members: [Member]
  /// The members before a replacement that is under way.
  public let previous: [Member]?

  public init(_ members: [Member], previous: [Member]? = nil) {
    self.members = members.sorted { $0.id < $1.id }
    self.previous = previous?.sorted { $0.id < $1.id }
    precondition(Set(members.map(\.id)).count == members.count, "a node stands twice in \(members)")
  }

  /// Everybody who has a say, of both sets.
  public var everyone: [Member] {
    members + (previous ?? []).filter { old in !members.contains { $0.id == old.id } }
  }

  public func member(_ id: NodeID) -> Member? { everyone.first { $0.id == id } }

  /// As it is once the replacement is over.
  public var settled: Membership { Membership(members) }

  /// Whether the nodes for which `agrees` answers true are a majority, of both sets where there are two.
  public func isQuorum(_ agrees: (NodeID) -> Bool) -> Bool {
    func isMajority(_ set: [Member]) -> Bool { set.count { agrees($0.id) } * 2 > set.count }
    return isMajority(members) && (previous.map(isMajority) ?? true)
  }

  /// The highest value that a quorum has reached: what is at or below it, they all have.
  public func quorumValue(_ value: (NodeID) -> UInt64) -> UInt64 {
    func of(_ set: [Member]) -> UInt64 {
      set.isEmpty ? 0 : set.map { value($0.id) }.sorted(by: >)[set.count / 2]
    }
    return min(of(members), previous.map(of) ?? .max)
  }

  /// With one node in another's place; nil unless the old one is there, the new one is not, and no replacement is
  /// under way.
  public func replacing(_ old: NodeID, by new: Member) -> Membership? {
    guard previous == nil, let found = members.first(where: { $0.id == old }),
      !members.contains(where: { $0.id == new.id }), found.role == new.role
    else { return nil }
    return Membership(members.filter { $0.id != old } + [new], previous: members)
  }
}
