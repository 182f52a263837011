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
  }

  private static let page = 2000

  func run(_ slave: String) async throws -> Result {
    var result = Result()
    var after: [UInt8] = []
    while true {
      try Task.checkCancellation()
      // The placements first: whatever they name has been synchronized before it was committed.
      let expected = try await state.shadows(on: slave, after: after, limit: Self.page)
      let end = expected.count == Self.page ? expected.last?.name : nil
      let listed = try await names(on: slave, after: after, through: end)
      for shadow in expected where !listed.contains(shadow.name) {
        // Deleted or moved between the two looks: then it is not missing.
        guard try await state.shadow(named: shadow.name, on: slave) != nil else { continue }
        result.missing += 1
        bad.insert(shadow.name, on: slave)
      }
      let surplus = listed.subtracting(expected.map(\.name))
      result.unknown += try await state.unknown(Array(surplus), on: slave).count
      result.compared += expected.count
      guard let end else { break }
      after = end
    }
    slaves.setUnknownShadows(UInt64(result.unknown), on: slave)
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

  /// The slave's names after one and up to another, or to the end.
  private func names(
    on slave: String, after first: [UInt8], through last: [UInt8]?
  ) async throws -> Set<[UInt8]> {
    try await Self.names(of: SlaveCloudMethods.listShadows, on: slave, slaves, after: first) {
      name in last.map { !$0.lexicographicallyPrecedes(name) } ?? true
    }
  }

  /// Names that one of the slave's lists has, as long as they are wanted.
  static func names(
    of list: Method<ListShadowsRequest, ListShadowsReply>, on slave: String,
    _ slaves: SlaveDirectory, after first: [UInt8], while isWanted: ([UInt8]) -> Bool
  ) async throws -> Set<[UInt8]> {
    var names: Set<[UInt8]> = []
    var request = ListShadowsRequest()
    request.after = first
    request.limit = UInt32(page)
    while true {
      let reply = try await slaves.channel(to: slave).unary(
        list, request, CallOptions(timeout: .seconds(30)))
      for name in reply.names {
        guard isWanted(name) else { return names }
        names.insert(name)
      }
      // One that says "more" and brings nothing new would be asked again and again.
      guard reply.more, let end = reply.names.last,
        request.after.lexicographicallyPrecedes(end)
      else { return names }
      request.after = end
    }
  }
}
