import Base
import Messages
import RPC

/// Moves of shadows, conditions of slaves, quotas of owners.
extension StateMachine {
  /// Nil where the command is none of these.
  func applyCare(_ command: LogCommand) throws(DatabaseError) -> LogOutcome? {
    if let begin = command.beginMove { return try apply(begin) }
    if let commit = command.commitMove { return try apply(commit) }
    if let abort = command.abortMove {
      try discardMove(abort.imageID, abort.epoch, abort.index, named: abort.name)
      return LogOutcome()
    }
    if let set = command.setSlaveCondition { return try apply(set) }
    if let forget = command.forgetSlave { return try apply(forget) }
    if let quota = command.setQuota {
      try database.query(
        """
        INSERT INTO owners VALUES (?, 0, 0, ?)
        ON CONFLICT (owner) DO UPDATE SET maximum = excluded.maximum
        """, [.text(quota.owner), .integer(Int64(clamping: quota.maximumBytes))])
      return LogOutcome()
    }
    return nil
  }

  // MARK: moves

  private func apply(_ begin: BeginMove) throws(DatabaseError) -> LogOutcome {
    guard try epochOfImage(begin.imageID) == begin.epoch else {
      return LogOutcome(.aborted, "the image is gone", reason: "NoSuchImage")
    }
    guard
      try place(begin.imageID, begin.epoch, begin.index)?.name == begin.oldName
    else {
      return LogOutcome(.aborted, "the shadow is elsewhere by now", reason: "ShadowMoved")
    }
    guard try decision(on: begin.slave).condition == .active else {
      return LogOutcome(.aborted, "'\(begin.slave)' takes no shadows", reason: "SlaveNotActive")
    }
    // Whoever breaks into a slave must find one shadow of an image at most.
    guard try !hasOther(begin) else {
      return LogOutcome(
        .aborted, "'\(begin.slave)' has another shadow of this image", reason: "SlaveTaken")
    }
    // A command that was proposed twice may come after its first move was given up: what is about to be swept must not be
    // what a move makes.
    guard try !isGarbage(begin.name, of: begin.imageID, epoch: begin.epoch) else {
      return LogOutcome(.aborted, "a move of this name was given up", reason: "MoveSwept")
    }
    try discardMove(begin.imageID, begin.epoch, begin.index, named: nil)
    try database.query(
      "INSERT INTO moves VALUES (?, ?, ?, ?, ?)",
      [
        .blob(begin.imageID), .integer(Int64(begin.epoch)), .integer(Int64(begin.index)),
        .text(begin.slave), .blob(begin.name),
      ])
    return LogOutcome()
  }

  private func isGarbage(
    _ name: [UInt8], of id: [UInt8], epoch: UInt32
  ) throws(DatabaseError) -> Bool {
    var found = false
    try database.query(
      "SELECT 1 FROM garbage WHERE image_id = ? AND epoch = ? AND name = ?",
      [.blob(id), .integer(Int64(epoch)), .blob(name)]
    ) { (_) throws(DatabaseError) in found = true }
    return found
  }

  /// Whether the slave has, had and was not swept of, or is about to get a shadow of this image with another index.
  private func hasOther(_ begin: BeginMove) throws(DatabaseError) -> Bool {
    var found = false
    for table in ["placements", "moves", "garbage"] {
      try database.query(
        "SELECT 1 FROM \(table) WHERE image_id = ? AND epoch = ? AND shadow <> ? AND slave = ?",
        [
          .blob(begin.imageID), .integer(Int64(begin.epoch)), .integer(Int64(begin.index)),
          .text(begin.slave),
        ]
      ) { (_) throws(DatabaseError) in found = true }
    }
    return found
  }

  private func apply(_ commit: CommitMove) throws(DatabaseError) -> LogOutcome {
    let key = Self.key(commit.imageID, commit.epoch, commit.index)
    var slave: String?
    try database.query(
      "SELECT slave FROM moves WHERE image_id = ? AND epoch = ? AND shadow = ? AND name = ?",
      key + [.blob(commit.name)]
    ) { (row) throws(DatabaseError) in slave = row.text(0) }
    guard let slave else {
      return LogOutcome(.aborted, "the move had been given up", reason: "MoveSwept")
    }
    try database.query(
      "DELETE FROM moves WHERE image_id = ? AND epoch = ? AND shadow = ?", key)
    try database.query(
      """
      INSERT OR IGNORE INTO garbage SELECT slave, name, image_id, epoch, shadow FROM placements
      WHERE image_id = ? AND epoch = ? AND shadow = ?
      """, key)
    // The digest is the same: a shadow that moves does not change.
    try database.query(
      "UPDATE placements SET slave = ?, name = ? WHERE image_id = ? AND epoch = ? AND shadow = ?",
      [.text(slave), .blob(commit.name)] + key)
    precondition(database.changes == 1, "a move of a shadow that no image has")
    return LogOutcome()
  }

  /// What the move may have written is garbage. Without a name: whatever move of this shadow there is.
  private func discardMove(
    _ id: [UInt8], _ epoch: UInt32, _ index: UInt32, named name: [UInt8]?
  ) throws(DatabaseError) {
    let condition =
      "WHERE image_id = ? AND epoch = ? AND shadow = ?" + (name == nil ? "" : " AND name = ?")
    let values = Self.key(id, epoch, index) + (name.map { [.blob($0)] } ?? [])
    try database.query(
      "INSERT OR IGNORE INTO garbage SELECT slave, name, image_id, epoch, shadow FROM moves \(condition)",
      values)
    try database.query("DELETE FROM moves \(condition)", values)
  }

  func discardMoves(of id: [UInt8], epoch: UInt32) throws(DatabaseError) {
    let key: [DatabaseValue] = [.blob(id), .integer(Int64(epoch))]
    try database.query(
      """
      INSERT OR IGNORE INTO garbage SELECT slave, name, image_id, epoch, shadow FROM moves WHERE image_id = ? AND epoch = ?
      """, key)
    try database.query("DELETE FROM moves WHERE image_id = ? AND epoch = ?", key)
  }

  private static func key(_ id: [UInt8], _ epoch: UInt32, _ index: UInt32) -> [DatabaseValue] {
    [.blob(id), .integer(Int64(epoch)), .integer(Int64(index))]
  }

  func pendingMoves() throws(DatabaseError) -> [PendingMove] {
    var moves: [PendingMove] = []
    try database.query("SELECT image_id, epoch, shadow, slave, name FROM moves") {
      (row) throws(DatabaseError) in
      moves.append(
        PendingMove(
          imageID: row.blob(0), epoch: UInt32(row.integer(1)), index: UInt32(row.integer(2)),
          slave: row.text(3), name: row.blob(4)))
    }
    return moves
  }

  /// Which shadows of an image slaves still have that nobody needs.
  func garbage(of id: [UInt8], epoch: UInt32) throws(DatabaseError) -> [ImageSharing.Place] {
    var places: [ImageSharing.Place] = []
    try database.query(
      "SELECT shadow, slave, name FROM garbage WHERE image_id = ? AND epoch = ?",
      [.blob(id), .integer(Int64(epoch))]
    ) { (row) throws(DatabaseError) in
      places.append(
        ImageSharing.Place(
          index: UInt32(row.integer(0)), slave: row.text(1), name: row.blob(2)))
    }
    return places
  }

  func garbageCount(on slave: String) throws(DatabaseError) -> Int {
    var count = 0
    try database.query("SELECT count(*) FROM garbage WHERE slave = ?", [.text(slave)]) {
      (row) throws(DatabaseError) in count = Int(row.integer(0))
    }
    return count
  }

  // MARK: where shadows are

  private func place(
    _ id: [UInt8], _ epoch: UInt32, _ index: UInt32
  ) throws(DatabaseError) -> ImageSharing.Place? {
    var place: ImageSharing.Place?
    try database.query(
      "SELECT slave, name FROM placements WHERE image_id = ? AND epoch = ? AND shadow = ?",
      Self.key(id, epoch, index)
    ) { (row) throws(DatabaseError) in
      place = ImageSharing.Place(index: index, slave: row.text(0), name: row.blob(1))
    }
    return place
  }

  /// Shadows of stored images on a slave, in order of their names; those of uploads under way are left out.
  func shadows(
    on slave: String, after name: [UInt8], limit: Int
  ) throws(DatabaseError) -> [PlacedShadow] {
    var shadows: [PlacedShadow] = []
    try database.query(
      """
      SELECT p.image_id, p.epoch, p.shadow, p.name
      FROM placements p INDEXED BY placements_by_slave
      JOIN images i ON i.image_id = p.image_id AND i.epoch = p.epoch
      WHERE p.slave = ? AND p.name > ? ORDER BY p.name LIMIT ?
      """, [.text(slave), .blob(name), .integer(Int64(limit))]
    ) { (row) throws(DatabaseError) in
      shadows.append(
        PlacedShadow(
          imageID: row.blob(0), epoch: UInt32(row.integer(1)), index: UInt32(row.integer(2)),
          name: row.blob(3)))
    }
    return shadows
  }

  /// The stored image's shadow that has this name on this slave.
  func shadow(named name: [UInt8], on slave: String) throws(DatabaseError) -> PlacedShadow? {
    var found: PlacedShadow?
    try database.query(
      """
      SELECT p.image_id, p.epoch, p.shadow FROM placements p
      JOIN images i ON i.image_id = p.image_id AND i.epoch = p.epoch
      WHERE p.slave = ? AND p.name = ?
      """, [.text(slave), .blob(name)]
    ) { (row) throws(DatabaseError) in
      found = PlacedShadow(
        imageID: row.blob(0), epoch: UInt32(row.integer(1)), index: UInt32(row.integer(2)),
        name: name)
    }
    return found
  }

  /// Whether anything that the state names on this slave, garbage and things under way included, has this name.
  func knows(_ name: [UInt8], on slave: String) throws(DatabaseError) -> Bool {
    var found = false
    for table in ["placements", "garbage", "moves"] {
      try database.query(
        "SELECT 1 FROM \(table) WHERE slave = ? AND name = ?", [.text(slave), .blob(name)]
      ) { (_) throws(DatabaseError) in found = true }
    }
    return found
  }

  /// Slaves on which there are shadows by the placements, one step through the index for each.
  func holders() throws(DatabaseError) -> [String] {
    var holders: [String] = []
    while true {
      var next: String?
      try database.query(
        """
        SELECT slave FROM placements INDEXED BY placements_by_slave
        WHERE slave > ? ORDER BY slave LIMIT 1
        """, [.text(holders.last ?? "")]
      ) { (row) throws(DatabaseError) in next = row.text(0) }
      guard let next else { return holders }
      holders.append(next)
    }
  }

  func shadowCount(on slave: String) throws(DatabaseError) -> Int {
    var count = 0
    try database.query("SELECT count(*) FROM placements WHERE slave = ?", [.text(slave)]) {
      (row) throws(DatabaseError) in count = Int(row.integer(0))
    }
    return count
  }

  func sharing(of id: [UInt8]) throws(DatabaseError) -> ImageSharing? {
    var found: ImageSharing?
    try database.query(
      "SELECT epoch, owner, encrypted_threshold, scheme, sealed_bytes FROM images WHERE image_id = ?",
      [.blob(id)]
    ) { (row) throws(DatabaseError) in
      found = ImageSharing(
        imageID: id, epoch: UInt32(row.integer(0)), owner: row.text(1),
        encryptedThreshold: row.blob(2), scheme: row.text(3), sealedBytes: UInt64(row.integer(4)),
        places: [])
    }
    guard var sharing = found else { return nil }
    try database.query(
      "SELECT shadow, slave, name FROM placements WHERE image_id = ? AND epoch = ? ORDER BY shadow",
      [.blob(id), .integer(Int64(sharing.epoch))]
    ) { (row) throws(DatabaseError) in
      sharing.places.append(
        ImageSharing.Place(
          index: UInt32(row.integer(0)), slave: row.text(1), name: row.blob(2)))
    }
    return sharing
  }

  // MARK: slaves

  private func apply(_ set: SetSlaveCondition) throws(DatabaseError) -> LogOutcome {
    guard [.active, .draining, .lost].contains(set.condition) else {
      return LogOutcome(.invalidArgument, "no such condition")
    }
    if set.condition == .active {
      try database.query("DELETE FROM slaves WHERE slave = ?", [.text(set.slave)])
      return LogOutcome()
    }
    try database.query(
      """
      INSERT INTO slaves VALUES (?, ?, ?) ON CONFLICT (slave)
      DO UPDATE SET condition = excluded.condition, replacement = excluded.replacement
      """,
      [.text(set.slave), .integer(Int64(set.condition.rawValue)), .text(set.replacement)])
    return LogOutcome()
  }

  private func apply(_ forget: ForgetSlave) throws(DatabaseError) -> LogOutcome {
    var inUse = try shadowCount(on: forget.slave)
    try database.query("SELECT count(*) FROM moves WHERE slave = ?", [.text(forget.slave)]) {
      (row) throws(DatabaseError) in inUse += Int(row.integer(0))
    }
    guard inUse == 0 else {
      return LogOutcome(
        .failedPrecondition, "images have \(inUse) shadows on '\(forget.slave)'",
        reason: "SlaveInUse")
    }
    try database.query("DELETE FROM garbage WHERE slave = ?", [.text(forget.slave)])
    try database.query("DELETE FROM slaves WHERE slave = ?", [.text(forget.slave)])
    return LogOutcome()
  }

  func decision(on slave: String) throws(DatabaseError) -> SlaveDecision {
    try decisions()[slave] ?? SlaveDecision()
  }

  /// Slaves that are not simply active.
  func decisions() throws(DatabaseError) -> [String: SlaveDecision] {
    var decisions: [String: SlaveDecision] = [:]
    try database.query("SELECT slave, condition, replacement FROM slaves") {
      (row) throws(DatabaseError) in
      decisions[row.text(0)] = SlaveDecision(
        condition: SlaveCondition(rawValue: UInt32(row.integer(1))), replacement: row.text(2))
    }
    return decisions
  }

  // MARK: owners

  /// Why the owner may not begin this upload; nil where it may.
  func quotaRefusal(_ begin: BeginUpload) throws(DatabaseError) -> LogOutcome? {
    guard let usage = try owners(named: begin.owner).first, usage.maximumBytes > 0 else {
      return nil
    }
    let (sum, overflow) = (usage.bytes + usage.pendingBytes).addingReportingOverflow(
      begin.sealedBytes)
    guard overflow || sum > usage.maximumBytes else { return nil }
    return LogOutcome(
      .resourceExhausted,
      "\(usage.bytes + usage.pendingBytes) of \(usage.maximumBytes) bytes of '\(begin.owner)' are"
        + " used, \(begin.sealedBytes) more do not fit",
      reason: "QuotaExceeded")
  }

  /// Adds to what the owner has stored.
  func count(images: Int64, bytes: Int64, of owner: String) throws(DatabaseError) {
    try database.query(
      """
      INSERT INTO owners VALUES (?, ?, ?, 0) ON CONFLICT (owner)
      DO UPDATE SET images = images + excluded.images, bytes = bytes + excluded.bytes
      """, [.text(owner), .integer(images), .integer(bytes)])
  }

  /// All owners that stored something or have a bound, or the one named.
  func owners(named owner: String? = nil) throws(DatabaseError) -> [OwnerUsage] {
    var owners: [OwnerUsage] = []
    try database.query(
      """
      SELECT owner, images, bytes, maximum,
        (SELECT coalesce(sum(sealed_bytes), 0) FROM uploads u WHERE u.owner = o.owner)
      FROM owners o \(owner == nil ? "" : "WHERE owner = ?") ORDER BY owner
      """, owner.map { [.text($0)] } ?? []
    ) { (row) throws(DatabaseError) in
      var usage = OwnerUsage()
      usage.owner = row.text(0)
      usage.images = UInt64(row.integer(1))
      usage.bytes = UInt64(row.integer(2))
      usage.maximumBytes = UInt64(row.integer(3))
      usage.pendingBytes = UInt64(row.integer(4))
      owners.append(usage)
    }
    return owners
  }
}
