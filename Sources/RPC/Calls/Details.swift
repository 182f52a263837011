import CWire
import Messages

extension RPCError {
  /// How an error came about: what may be done about it hangs on how far the call got.
  ///
  /// A server that passes the error of a nested call on does not vouch for its own: `unsent` and `refused` are
  /// of the call that failed, and a trailer says `not_started` only for `refusing`.
  enum Standing: Sendable {
    /// Made on this side; how far the call got is not known.
    case plain
    /// Made by a server that has begun nothing of the call.
    case refusing
    /// Came in a trailer.
    case answer
    /// Came in a trailer that says that nothing of the call was begun.
    case refused
    /// Made by a client that could not send the call.
    case unsent
  }

  /// This error as the answer of a server (its handler, or who stands before it) that has begun nothing of
  /// the call, so that even a call that must not be made twice may be made again elsewhere.
  public var asRefusal: RPCError {
    var error = self
    error.standing = .refusing
    return error
  }

  /// The error of a call that certainly was not begun: it never left, or the server said so.
  public var wasNotStarted: Bool { standing == .refused || standing == .unsent }

  /// This error as that of a call that never left this client.
  var asUnsent: RPCError {
    var error = self
    error.standing = .unsent
    return error
  }

  // MARK: typed details

  /// Details beyond these bounds are dropped by whoever sends them, and by whoever receives them.
  static let maximumDetails = 16
  static let maximumDetailBytes = 8 << 10

  /// The first detail of this type; nil where there is none or its bytes are not one.
  public func detail<Detail: WireMessage>(_: Detail.Type) -> Detail? {
    let name = Detail.protobufName
    guard let entry = details.first(where: { $0.key == name }) else { return nil }
    return try? Detail(decoding: entry.value, memoryLimitBytes: 64 << 10)
  }

  /// This error with a detail; an earlier one of the same type gives way.
  public func with<Detail: WireMessage>(_ detail: Detail) -> RPCError {
    var entry = MetadataEntry()
    entry.key = Detail.protobufName
    entry.value = detail.encoded()
    var error = self
    error.details.removeAll { $0.key == entry.key }
    error.details.append(entry)
    return error
  }

  /// Nothing was done: only the leader does it. Callers that follow the leader go to `node` at `address`.
  ///
  /// - Parameters:
  ///   - node: of the leader; empty, like `address`, where none is known.
  ///   - address: host:port, as the cluster's configuration has it.
  ///   - term: of the last election seen here; callers believe the highest.
  public static func notLeader(
    node: String = "", address: String = "", term: UInt64 = 0
  ) -> RPCError {
    var detail = NotLeader()
    detail.node = node
    detail.address = address
    detail.term = term
    let known = node.isEmpty ? "no leader is known" : "the leader is \(node)"
    return RPCError(.unavailable, "this node does not lead; \(known)", reason: "NotLeader")
      .with(detail).asRefusal
  }

  /// Where the leader is, by a server that has done nothing because it does not lead.
  public var notLeader: NotLeader? { detail(NotLeader.self) }

  /// When a server wants to be asked again.
  public enum PushBack: Equatable, Sendable {
    case never
    case after(milliseconds: UInt32)
  }

  /// This error with the server's word on when to come back. Callers heed it with UNAVAILABLE and
  /// RESOURCE_EXHAUSTED only.
  public func retry(_ pushBack: PushBack) -> RPCError {
    var detail = RetryAfter()
    switch pushBack {
    case .never: detail.milliseconds = .max
    // One less than the number that means never.
    case .after(let milliseconds): detail.milliseconds = min(milliseconds, .max - 1)
    }
    return with(detail)
  }

  public var pushBack: PushBack? {
    guard code == .unavailable || code == .resourceExhausted,
      let detail = detail(RetryAfter.self)
    else { return nil }
    return detail.milliseconds == .max ? .never : .after(milliseconds: detail.milliseconds)
  }

  // MARK: the wire

  /// Nil for the trailer of a call that went well.
  init?(receivedIn trailer: Trailer) {
    if trailer.status == StatusCode.ok.rawValue { return nil }
    self.init(
      StatusCode(rawValue: trailer.status) ?? .unknown, trailer.message, reason: trailer.reason,
      details: Self.bounded(trailer.details))
    standing = trailer.notStarted ? .refused : .answer
  }

  /// The details, in order, that the bounds leave room for.
  static func bounded(_ details: [MetadataEntry]) -> [MetadataEntry] {
    var room = maximumDetailBytes
    var kept: [MetadataEntry] = []
    for entry in details where kept.count < maximumDetails {
      let size = entry.key.utf8.count + entry.value.count
      guard size <= room else { continue }
      room -= size
      kept.append(entry)
    }
    return kept
  }
}

extension Trailer {
  /// The end of a call as its server says it; nil is success.
  init(answering error: RPCError?) {
    self.init()
    guard let error else { return }
    status = error.code.rawValue
    // A sentence for people, not a channel for data.
    message = error.message.shortened(toBytes: 1000)
    reason = error.reason.shortened(toBytes: 100)
    details = RPCError.bounded(error.details)
    notStarted = error.standing == .refusing
  }
}

extension WireMessage {
  /// "sfmedir.v1.NotLeader"
  static var protobufName: String { String(cString: descriptor.pointee.name) }
}
