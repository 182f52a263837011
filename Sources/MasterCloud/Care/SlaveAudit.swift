import Base
import Logging
import Messages
import RPC

/// Compares what a slave holds with what the placements say that it holds.
///
/// A slave that came back with another disk, or an older one, knows nothing of what it lost; this finds it. Shadows that nobody
/// knows are counted and left alone: only names in the replicated log are ever deleted.
struct SlaveAudit: Sendable {
  let state: ClusterState
  let slaves: SlaveDirectory
  let bad: BadShadows
  let logger: Logger

  struct Result: Sendable, Equatable {
    var compared = 0
    var missing = 0
    var unknown = 0
    /// False where more is missing than can be kept in mind: it goes on when that is mended.
    var isWhole = true
  }

  private static let page = 2000
  private static let slice = 250
  private static let timeout = Duration.seconds(1800)

  func run(_ slave: String) async throws -> Result {
    var result = Result()
    var listing = Listing(
      method: SlaveCloudMethods.listShadows, slave: slave, slaves: slaves, page: Self.page,
      timeout: Self.timeout)
    var after: [UInt8] = []
    while true {
      try Task.checkCancellation()
      // The placements first: whatever they name has been synchronized before it was committed.
      let expected = try await state.shadows(on: slave, after: after, limit: Self.page)
      let end = expected.count == Self.page ? expected.last?.name : nil
      var missing = Dictionary(uniqueKeysWithValues: expected.map { ($0.name, $0) })
      while let names = try await listing.next(through: end) {
        var surplus: [[UInt8]] = []
        for name in names where missing.removeValue(forKey: name) == nil { surplus.append(name) }
        // In slices: everybody waits for the state while it answers one.
        for start in stride(from: 0, to: surplus.count, by: Self.slice) {
          let part = Array(surplus[start..<min(start + Self.slice, surplus.count)])
          result.unknown += try await state.unknown(part, on: slave).count
        }
      }
      result.compared += expected.count
      for name in missing.keys {
        // Deleted or moved between the two looks: then it is not missing.
        guard try await state.shadow(named: name, on: slave) != nil else { continue }
        result.missing += 1
        if !bad.insert(name, on: slave), bad.isFull(for: slave) { result.isWhole = false }
      }
      guard let end, result.isWhole else { break }
      after = end
    }
    if result.isWhole { slaves.setAudited(slave, unknownShadows: UInt64(result.unknown)) }
    if result.missing > 0 || result.unknown > 0 {
      logger.error(
        "a slave does not hold what it should",
        metadata: [
          "slave": "\(slave)", "missing": "\(result.missing)", "unknown": "\(result.unknown)",
          "compared": "\(result.compared)",
        ])
    }
    return result
  }

  /// Shadows that the slave itself knows to be unreadable; false where there are more than can be kept in mind.
  func takeBad(from slave: String) async throws -> Bool {
    var listing = Listing(
      method: SlaveCloudMethods.listBadShadows, slave: slave, slaves: slaves, page: Self.page,
      timeout: Self.timeout)
    var new = 0
    while let names = try await listing.next(through: nil) {
      for name in names where try await state.shadow(named: name, on: slave) != nil {
        if bad.insert(name, on: slave) { new += 1 }
      }
      if bad.isFull(for: slave) { break }
    }
    if new > 0 {
      logger.warning(
        "a slave cannot read shadows", metadata: ["slave": "\(slave)", "shadows": "\(new)"])
    }
    return !bad.isFull(for: slave)
  }
}

/// One of a slave's lists of names, page by page; what it says is checked, as a slave may say anything.
private struct Listing {
  let method: Method<ListShadowsRequest, ListShadowsReply>
  let slave: String
  let slaves: SlaveDirectory
  let page: Int
  private let deadlineNanoseconds: UInt64
  private var after: [UInt8] = []
  /// Read and not given yet.
  private var names: ArraySlice<[UInt8]> = []
  private var isAtEnd = false
  private let clock = SystemClock()

  init(
    method: Method<ListShadowsRequest, ListShadowsReply>, slave: String, slaves: SlaveDirectory,
    page: Int, timeout: Duration
  ) {
    self.method = method
    self.slave = slave
    self.slaves = slaves
    self.page = page
    deadlineNanoseconds = clock.monotonicNanoseconds() + timeout.wholeNanoseconds
  }

  /// The next names, none beyond `last`; nil where there are no more of those.
  mutating func next(through last: [UInt8]?) async throws -> [[UInt8]]? {
    if names.isEmpty, !isAtEnd { try await read() }
    let given = names.prefix { name in last.map { !$0.lexicographicallyPrecedes(name) } ?? true }
    names = names.dropFirst(given.count)
    return given.isEmpty ? nil : Array(given)
  }

  private mutating func read() async throws {
    guard clock.monotonicNanoseconds() < deadlineNanoseconds else {
      throw RPCError(.deadlineExceeded, "\(slave) lists its shadows too slowly")
    }
    var request = ListShadowsRequest()
    request.after = after
    request.limit = UInt32(page)
    let reply = try await slaves.channel(to: slave).unary(
      method, request, CallOptions(timeout: .seconds(30)))
    guard reply.names.count <= page else {
      throw RPCError(
        .dataLoss, "\(slave) lists \(reply.names.count) names where \(page) were asked for")
    }
    for name in reply.names {
      guard name.count == ImageID.byteCount, after.lexicographicallyPrecedes(name) else {
        throw RPCError(.dataLoss, "\(slave) lists names out of order, or such as no shadow has")
      }
      after = name
    }
    names = reply.names[...]
    // One that says "more" and brings nothing would be asked again and again.
    isAtEnd = !reply.more || reply.names.isEmpty
  }
}
