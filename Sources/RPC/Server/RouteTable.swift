/// A server's routes by the bytes of their names, with who may call them: no text is made to look one up.
struct RouteTable: Sendable {
  struct Entry: Sendable {
    let route: Route
    let index: Int
    fileprivate let name: [UInt8]
    /// One bit a role, and one for callers without a certificate.
    fileprivate let allowed: UInt32
    /// Watched when all else is refused.
    let isEssential: Bool

    func allows(_ caller: Identity?) -> Bool { allowed & RouteTable.bit(caller?.role) != 0 }
  }

  private let entries: [Entry]
  private let slots: [Int]

  init(_ routes: [Route], _ permissions: PermissionTable) {
    entries = routes.enumerated().map { index, route in
      var allowed: UInt32 = 0
      for role in Role.allCases.map(Optional.some) + [nil] {
        let permitted = permissions.allows(route.name, to: role)
        if permitted { allowed |= Self.bit(role) }
      }
      return Entry(
        route: route, index: index, name: Array(route.name.utf8), allowed: allowed,
        isEssential: route.name.hasPrefix("grpc.health."))
    }
    var size = 8
    while size < 2 * routes.count { size *= 2 }
    var slots = [Int](repeating: -1, count: size)
    for (index, entry) in entries.enumerated() {
      var slot = entry.name.withUnsafeBytes { Self.hash($0) } & (size - 1)
      while slots[slot] >= 0 { slot = (slot + 1) & (size - 1) }
      slots[slot] = index
    }
    self.slots = slots
  }

  var names: [String] { entries.map(\.route.name) }

  /// Whether a route is served in spite of load.
  func isEssential(_ route: Int) -> Bool { entries[route].isEssential }

  func find(_ method: UnsafeRawBufferPointer) -> Entry? {
    var slot = Self.hash(method) & (slots.count - 1)
    while slots[slot] >= 0 {
      let entry = entries[slots[slot]]
      if entry.name.elementsEqual(method) { return entry }
      slot = (slot + 1) & (slots.count - 1)
    }
    return nil
  }

  fileprivate static func bit(_ role: Role?) -> UInt32 {
    guard let role, let place = Role.allCases.firstIndex(of: role) else { return 1 << 31 }
    return 1 << UInt32(place)
  }

  /// FNV-1a; the names are the server's own, so nobody can choose ones that collide.
  private static func hash(_ bytes: UnsafeRawBufferPointer) -> Int {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    return Int(truncatingIfNeeded: hash >> 1)
  }
}
