import Base
import Raft

/// One change of a node's durable state (`docs/formats/raft-log.md`); a record of the journal holds several, to be made in order.
struct JournalRecord: Equatable {
  /// Whose journal this is; stands in every record behind which older ones may go.
  struct Identity: Equatable {
    var cluster: String
    var node: NodeID
  }

  enum Base: Equatable {
    /// All entries go; the log begins behind this.
    case reset(LogBase)
    /// Entries up to here are not needed any more; those behind it stay.
    case compacted(LogBase)

    var base: LogBase {
      switch self {
      case .reset(let base), .compacted(let base): base
      }
    }
  }

  var identity: Identity?
  var hardState: HardState?
  var base: Base?
  /// Index of the first entry; what stood at or behind it goes. 0 where the log does not change.
  var first: Index = 0
  var entries: [Entry] = []

  static let version: UInt8 = 1
}

/// The journal cannot be read: the node must not pretend to know what it promised.
public struct JournalDamage: Error, Equatable, CustomStringConvertible {
  public let description: String

  public init(_ description: String) { self.description = description }
}

extension JournalRecord {
  private enum Part {
    static let identity: UInt8 = 1
    static let hardState: UInt8 = 2
    static let reset: UInt8 = 4
    static let compacted: UInt8 = 8
    static let entries: UInt8 = 16
    static let all: UInt8 = 31
  }

  /// The payload of one record of the store: each with its length before it.
  static func encode(_ records: [JournalRecord]) -> [UInt8] {
    var bytes: [UInt8] = []
    for record in records {
      let encoded = record.encoded()
      bytes.append(bigEndian: UInt32(encoded.count))
      bytes += encoded
    }
    return bytes
  }

  static func decode(_ bytes: [UInt8]) throws(JournalDamage) -> [JournalRecord] {
    var reader = ByteReader(bytes)
    var records: [JournalRecord] = []
    while reader.remaining > 0 {
      let length = Int(try reader.integer(UInt32.self))
      records.append(try JournalRecord(decoding: try reader.bytes(length)))
    }
    return records
  }

  func encoded() -> [UInt8] {
    var bytes: [UInt8] = [Self.version, 0]
    if let identity {
      bytes[1] |= Part.identity
      bytes.append(short: identity.cluster)
      bytes.append(short: identity.node.name)
    }
    if let hardState {
      bytes[1] |= Part.hardState
      bytes.append(bigEndian: hardState.term)
      bytes.append(short: hardState.vote?.name ?? "")
    }
    if let base {
      if case .reset = base { bytes[1] |= Part.reset } else { bytes[1] |= Part.compacted }
      bytes.append(bigEndian: base.base.position.term)
      bytes.append(bigEndian: base.base.position.index)
      MembershipCodec.append(base.base.membership, to: &bytes)
    }
    if first > 0 {
      bytes[1] |= Part.entries
      bytes.append(bigEndian: first)
      bytes.append(bigEndian: UInt32(entries.count))
      for entry in entries { EntryCodec.append(entry, to: &bytes) }
    }
    return bytes
  }

  init(decoding bytes: [UInt8]) throws(JournalDamage) {
    var reader = ByteReader(bytes)
    let version = try reader.byte()
    guard version == Self.version else {
      throw JournalDamage("a record of version \(version), this program knows \(Self.version)")
    }
    let parts = try reader.byte()
    guard parts & ~Part.all == 0,
      parts & (Part.reset | Part.compacted) != Part.reset | Part.compacted
    else { throw JournalDamage("a record with unknown parts") }
    if parts & Part.identity != 0 {
      identity = Identity(cluster: try reader.short(), node: NodeID(try reader.short()))
    }
    if parts & Part.hardState != 0 {
      let term = try reader.integer(UInt64.self)
      let vote = try reader.short()
      hardState = HardState(term: term, vote: vote.isEmpty ? nil : NodeID(vote))
    }
    if parts & (Part.reset | Part.compacted) != 0 {
      let term = try reader.integer(UInt64.self)
      let index = try reader.index()
      let found = LogBase(
        position: Position(term: term, index: index), membership: try MembershipCodec.read(&reader))
      base = parts & Part.reset != 0 ? .reset(found) : .compacted(found)
    }
    if parts & Part.entries != 0 {
      first = try reader.index()
      let count = try reader.integer(UInt32.self)
      guard first > 0, Int(count) <= reader.remaining else {
        throw JournalDamage("\(count) entries from \(first) in \(bytes.count) bytes")
      }
      for _ in 0..<count { entries.append(try EntryCodec.read(&reader)) }
    }
    guard reader.remaining == 0 else { throw JournalDamage("a record with bytes behind its end") }
  }
}

/// An entry in bytes, on disk and on the wire alike: term (8), kind (1), length (4), content.
public enum EntryCodec {
  static func append(_ entry: Entry, to bytes: inout [UInt8]) {
    bytes.append(bigEndian: entry.term)
    switch entry.payload {
    case .nothing:
      bytes.append(0)
      bytes.append(bigEndian: UInt32(0))
    case .command(let command):
      bytes.append(1)
      bytes.append(bigEndian: UInt32(command.count))
      bytes += command
    case .membership(let membership):
      var content: [UInt8] = []
      MembershipCodec.append(membership, to: &content)
      bytes.append(2)
      bytes.append(bigEndian: UInt32(content.count))
      bytes += content
    }
  }

  static func read(_ reader: inout ByteReader) throws(JournalDamage) -> Entry {
    let term = try reader.integer(UInt64.self)
    let kind = try reader.byte()
    let content = try reader.bytes(Int(try reader.integer(UInt32.self)))
    switch kind {
    case 0 where content.isEmpty: return Entry(term: term, payload: .nothing)
    case 1: return Entry(term: term, payload: .command(content))
    case 2:
      var inner = ByteReader(content)
      let membership = try MembershipCodec.read(&inner)
      guard inner.remaining == 0 else { throw JournalDamage("a membership with bytes behind it") }
      return Entry(term: term, payload: .membership(membership))
    default: throw JournalDamage("an entry of kind \(kind) with \(content.count) bytes")
    }
  }

  public static func encode(_ entries: [Entry]) -> [UInt8] {
    var bytes: [UInt8] = []
    for entry in entries { append(entry, to: &bytes) }
    return bytes
  }

  public static func decode(_ bytes: [UInt8]) throws(JournalDamage) -> [Entry] {
    var reader = ByteReader(bytes)
    var entries: [Entry] = []
    while reader.remaining > 0 { entries.append(try read(&reader)) }
    return entries
  }
}

/// A count (1), then role (1), name and address of each; then the same of those before, or a count of 0.
public enum MembershipCodec {
  public static func encode(_ membership: Membership) -> [UInt8] {
    var bytes: [UInt8] = []
    append(membership, to: &bytes)
    return bytes
  }

  public static func decode(_ bytes: [UInt8]) throws(JournalDamage) -> Membership {
    var reader = ByteReader(bytes)
    let membership = try read(&reader)
    guard reader.remaining == 0 else { throw JournalDamage("a membership with bytes behind it") }
    return membership
  }

  static func append(_ membership: Membership, to bytes: inout [UInt8]) {
    for set in [membership.members, membership.previous ?? []] {
      bytes.append(UInt8(set.count))
      for member in set {
        bytes.append(member.role.rawValue)
        bytes.append(short: member.id.name)
        bytes.append(short: member.address)
      }
    }
  }

  static func read(_ reader: inout ByteReader) throws(JournalDamage) -> Membership {
    var sets: [[Member]] = []
    for _ in 0..<2 {
      var set: [Member] = []
      for _ in 0..<(try reader.byte()) {
        guard let role = Member.Role(rawValue: try reader.byte()) else {
          throw JournalDamage("a member of an unknown role")
        }
        let member = Member(
          id: NodeID(try reader.short()), role: role, address: try reader.short())
        guard !set.contains(where: { $0.id == member.id }) else {
          throw JournalDamage("\(member.id) stands twice in a membership")
        }
        set.append(member)
      }
      sets.append(set)
    }
    return Membership(sets[0], previous: sets[1].isEmpty ? nil : sets[1])
  }
}

/// Reads big-endian numbers and bounded strings; whatever it is given, it never reads beyond the end.
struct ByteReader {
  private let source: [UInt8]
  private var position = 0

  init(_ source: [UInt8]) { self.source = source }

  var remaining: Int { source.count - position }

  mutating func bytes(_ count: Int) throws(JournalDamage) -> [UInt8] {
    guard count <= remaining else {
      throw JournalDamage("\(count) bytes announced, \(remaining) are left")
    }
    defer { position += count }
    return Array(source[position..<position + count])
  }

  mutating func byte() throws(JournalDamage) -> UInt8 { try integer(UInt8.self) }

  mutating func integer<Integer: FixedWidthInteger>(
    _: Integer.Type
  ) throws(JournalDamage) -> Integer {
    guard let value = Integer(bigEndian: source, at: position) else {
      throw JournalDamage("\(Integer.bitWidth / 8) bytes are due, \(remaining) are left")
    }
    position += Integer.bitWidth / 8
    return value
  }

  /// Far from where sums of them overflow.
  mutating func index() throws(JournalDamage) -> Index {
    let index = try integer(UInt64.self)
    guard index < 1 << 62 else { throw JournalDamage("index \(index)") }
    return index
  }

  /// One byte of length, then UTF-8.
  mutating func short() throws(JournalDamage) -> String {
    let content = try bytes(Int(try byte()))
    guard let text = String(validating: content, as: UTF8.self) else {
      throw JournalDamage("a name that is not UTF-8")
    }
    return text
  }
}

extension [UInt8] {
  mutating func append(short text: String) {
    let content = Array(text.utf8)
    precondition(content.count <= 255, "a name of \(content.count) bytes")
    append(UInt8(content.count))
    self += content
  }
}
