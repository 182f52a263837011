import Base
import Messages
import RPC

/// What the masters agree on, as one SQLite file; changed only by commands of the replicated log.
///
/// Applying is deterministic: every replica that applies the same commands holds the same rows, so no
/// clock, random number or local fact is read here. Confined to the thread of ``ClusterState``.
struct StateMachine {
  private let database: Database

  /// Version of the tables below; another one is refused at the start.
  private static let formatVersion: Int64 = 1

  init(path: String) throws {
    database = try Database(path: path)
    try createTables()
  }

  private func createTables() throws(DatabaseError) {
    try database.transaction { () throws(DatabaseError) in
      try database.execute(
        """
        CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS images (
          image_id BLOB PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL,
          record BLOB NOT NULL, encrypted_threshold BLOB NOT NULL, scheme TEXT NOT NULL,
          sealed_bytes INTEGER NOT NULL
        ) WITHOUT ROWID;
        -- The last epoch ever begun: it outlives the image, so that no shadow name is bound twice.
        CREATE TABLE IF NOT EXISTS epochs (image_id BLOB PRIMARY KEY, epoch INTEGER NOT NULL)
          WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS uploads (
          image_id BLOB NOT NULL, epoch INTEGER NOT NULL, begun_at INTEGER NOT NULL,
          PRIMARY KEY (image_id, epoch)
        ) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS placements (
          image_id BLOB NOT NULL, epoch INTEGER NOT NULL, shadow INTEGER NOT NULL,
          slave TEXT NOT NULL, name BLOB NOT NULL, digest BLOB NOT NULL,
          PRIMARY KEY (image_id, epoch, shadow)
        ) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS garbage (
          slave TEXT NOT NULL, name BLOB NOT NULL, PRIMARY KEY (slave, name)
        ) WITHOUT ROWID;
        """)
      let found = try meta("format_version")
      if found == 0 {
        try setMeta("format_version", Self.formatVersion)
      } else if found != Self.formatVersion {
        throw DatabaseError(
          code: 0,
          description: "state of format version \(found), this program knows "
            + "\(Self.formatVersion)")
      }
    }
  }

  private func meta(_ key: String) throws(DatabaseError) -> Int64 {
    var value: Int64 = 0
    try database.query("SELECT value FROM meta WHERE key = ?", [.text(key)]) {
      (row) throws(DatabaseError) in value = row.integer(0)
    }
    return value
  }

  private func setMeta(_ key: String, _ value: Int64) throws(DatabaseError) {
    try database.query(
      "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
      [.text(key), .integer(value)])
  }

  // MARK: applying

  func appliedIndex() throws(DatabaseError) -> UInt64 { UInt64(try meta("applied_index")) }

  /// Applies commands with consecutive indices from `first` on, in one transaction with the index reached.
  func apply(_ commands: [LogCommand], first: UInt64) throws(DatabaseError) -> [LogOutcome] {
    try database.transaction { () throws(DatabaseError) in
      let applied = try appliedIndex()
      precondition(first == applied + 1, "command \(first) after \(applied)")
      var outcomes: [LogOutcome] = []
      for command in commands { outcomes.append(try apply(command)) }
      try setMeta("applied_index", Int64(applied) + Int64(commands.count))
      return outcomes
    }
  }

  private func apply(_ command: LogCommand) throws(DatabaseError) -> LogOutcome {
    if let begin = command.beginUpload {
      return try apply(begin, at: command.proposedAtMilliseconds)
    }
    if let commit = command.commitUpload {
      return try apply(commit, at: command.proposedAtMilliseconds)
    }
    if let abort = command.abortUpload {
      try discard(abort.imageID, epoch: abort.epoch)
      return LogOutcome()
    }
    if let delete = command.deleteImage { return try apply(delete) }
    if let collected = command.shadowsCollected {
      for name in collected.names {
        try database.query(
          "DELETE FROM garbage WHERE slave = ? AND name = ?",
          [.text(collected.slave), .blob(name)])
      }
      return LogOutcome()
    }
    return LogOutcome(.invalidArgument, "a command that this version does not know")
  }

  private static var idTaken: LogOutcome {
    LogOutcome(.alreadyExists, "another owner's image has this id", reason: "IDTaken")
  }

  private func apply(
    _ begin: BeginUpload, at time: UInt64
  ) throws(DatabaseError) -> LogOutcome {
    var outcome = LogOutcome()
    if let owner = try owner(of: begin.imageID) {
      guard owner == begin.owner else { return Self.idTaken }
      outcome.existed = true
      return outcome
    }
    let last = try lastEpoch(of: begin.imageID)
    guard begin.epoch > last else {
      outcome = LogOutcome(.aborted, "epoch \(begin.epoch) was begun already", reason: "StaleEpoch")
      outcome.epoch = last
      return outcome
    }
    try database.query(
      "INSERT INTO epochs VALUES (?, ?) ON CONFLICT (image_id) DO UPDATE SET epoch = excluded.epoch",
      [.blob(begin.imageID), .integer(Int64(begin.epoch))])
    try database.query(
      "INSERT INTO uploads VALUES (?, ?, ?)",
      [.blob(begin.imageID), .integer(Int64(begin.epoch)), .integer(Int64(time))])
    for placement in begin.placements {
      try insert(placement, of: begin.imageID, epoch: begin.epoch)
    }
    return outcome
  }

  private func apply(
    _ commit: CommitUpload, at time: UInt64
  ) throws(DatabaseError) -> LogOutcome {
    guard var record = commit.record else {
      return LogOutcome(.invalidArgument, "a commit without a record")
    }
    let id = record.imageID
    try database.query(
      "DELETE FROM uploads WHERE image_id = ? AND epoch = ?",
      [.blob(id), .integer(Int64(commit.epoch))])
    guard database.changes == 1 else {
      return LogOutcome(.aborted, "the upload had been given up", reason: "UploadSwept")
    }
    var outcome = LogOutcome()
    if let owner = try owner(of: id) {
      // Another upload of the same image was quicker: this one's shadows are surplus.
      try discardPlacements(of: id, epoch: commit.epoch)
      guard owner == record.owner else { return Self.idTaken }
      outcome.existed = true
      return outcome
    }
    record.storedAtMilliseconds = time
    try database.query(
      "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)",
      [
        .blob(id), .text(record.owner), .integer(Int64(commit.epoch)), .blob(record.encoded()),
        .blob(commit.encryptedThreshold), .text(commit.scheme),
        .integer(Int64(record.sealedBytes)),
      ])
    // The digests are known only now.
    try database.query(
      "DELETE FROM placements WHERE image_id = ? AND epoch = ?",
      [.blob(id), .integer(Int64(commit.epoch))])
    for placement in commit.placements { try insert(placement, of: id, epoch: commit.epoch) }
    return outcome
  }

  private func apply(_ delete: DeleteImage) throws(DatabaseError) -> LogOutcome {
    var outcome = LogOutcome()
    guard let owner = try owner(of: delete.imageID) else { return outcome }
    guard owner == delete.owner else {
      return LogOutcome(.permissionDenied, "the image belongs to another owner", reason: "NotOwner")
    }
    guard let epoch = try epochOfImage(delete.imageID) else { return outcome }
    try discardPlacements(of: delete.imageID, epoch: epoch)
    try database.query("DELETE FROM images WHERE image_id = ?", [.blob(delete.imageID)])
    outcome.existed = true
    return outcome
  }

  private func insert(
    _ placement: ShadowPlacement, of id: [UInt8], epoch: UInt32
  ) throws(DatabaseError) {
    try database.query(
      "INSERT INTO placements VALUES (?, ?, ?, ?, ?, ?)",
      [
        .blob(id), .integer(Int64(epoch)), .integer(Int64(placement.index)),
        .text(placement.slave), .blob(placement.name), .blob(placement.digest),
      ])
  }

  /// An upload that will not be finished.
  private func discard(_ id: [UInt8], epoch: UInt32) throws(DatabaseError) {
    try database.query(
      "DELETE FROM uploads WHERE image_id = ? AND epoch = ?", [.blob(id), .integer(Int64(epoch))])
    // Committed or given up before: its placements are not this command's to touch.
    if database.changes == 1 { try discardPlacements(of: id, epoch: epoch) }
  }

  private func discardPlacements(of id: [UInt8], epoch: UInt32) throws(DatabaseError) {
    let key: [DatabaseValue] = [.blob(id), .integer(Int64(epoch))]
    try database.query(
      """
      INSERT OR IGNORE INTO garbage SELECT slave, name FROM placements
      WHERE image_id = ? AND epoch = ?
      """, key)
    try database.query("DELETE FROM placements WHERE image_id = ? AND epoch = ?", key)
  }

  // MARK: reading

  private func owner(of id: [UInt8]) throws(DatabaseError) -> String? {
    var owner: String?
    try database.query("SELECT owner FROM images WHERE image_id = ?", [.blob(id)]) {
      (row) throws(DatabaseError) in owner = row.text(0)
    }
    return owner
  }

  private func epochOfImage(_ id: [UInt8]) throws(DatabaseError) -> UInt32? {
    var epoch: UInt32?
    try database.query("SELECT epoch FROM images WHERE image_id = ?", [.blob(id)]) {
      (row) throws(DatabaseError) in epoch = UInt32(row.integer(0))
    }
    return epoch
  }

  func contains(_ id: [UInt8], owner: String) throws(DatabaseError) -> Bool {
    try self.owner(of: id) == owner
  }

  func lastEpoch(of id: [UInt8]) throws(DatabaseError) -> UInt32 {
    var epoch: UInt32 = 0
    try database.query("SELECT epoch FROM epochs WHERE image_id = ?", [.blob(id)]) {
      (row) throws(DatabaseError) in epoch = UInt32(row.integer(0))
    }
    return epoch
  }

  func image(_ id: [UInt8]) throws -> StoredImage? {
    var found: (record: [UInt8], epoch: UInt32, threshold: [UInt8], scheme: String)?
    try database.query(
      "SELECT record, epoch, encrypted_threshold, scheme FROM images WHERE image_id = ?",
      [.blob(id)]
    ) { (row) throws(DatabaseError) in
      found = (row.blob(0), UInt32(row.integer(1)), row.blob(2), row.text(3))
    }
    guard let found else { return nil }
    var placements: [ShadowPlacement] = []
    try database.query(
      "SELECT shadow, slave, name, digest FROM placements WHERE image_id = ? AND epoch = ?",
      [.blob(id), .integer(Int64(found.epoch))]
    ) { (row) throws(DatabaseError) in
      var placement = ShadowPlacement()
      placement.index = UInt32(row.integer(0))
      placement.slave = row.text(1)
      placement.name = row.blob(2)
      placement.digest = row.blob(3)
      placements.append(placement)
    }
    return StoredImage(
      record: try ImageRecord(decoding: found.record), epoch: found.epoch,
      encryptedThreshold: found.threshold, scheme: found.scheme, placements: placements)
  }

  /// Records in order of their ids, of one owner or of all.
  func records(after id: [UInt8], limit: Int, owner: String?) throws -> [ImageRecord] {
    var encoded: [[UInt8]] = []
    let byOwner = owner == nil ? "" : " AND owner = ?3"
    var values: [DatabaseValue] = [.blob(id), .integer(Int64(limit))]
    if let owner { values.append(.text(owner)) }
    try database.query(
      "SELECT record FROM images WHERE image_id > ?1\(byOwner) ORDER BY image_id LIMIT ?2", values
    ) { (row) throws(DatabaseError) in encoded.append(row.blob(0)) }
    return try encoded.map { try ImageRecord(decoding: $0) }
  }

  func pendingUploads() throws(DatabaseError) -> [PendingUpload] {
    var uploads: [PendingUpload] = []
    try database.query("SELECT image_id, epoch FROM uploads") { (row) throws(DatabaseError) in
      uploads.append(PendingUpload(imageID: row.blob(0), epoch: UInt32(row.integer(1))))
    }
    return uploads
  }

  /// Names of shadows that a slave may still hold and nobody needs.
  func garbage(on slave: String, limit: Int) throws(DatabaseError) -> [[UInt8]] {
    var names: [[UInt8]] = []
    try database.query(
      "SELECT name FROM garbage WHERE slave = ? LIMIT ?", [.text(slave), .integer(Int64(limit))]
    ) { (row) throws(DatabaseError) in names.append(row.blob(0)) }
    return names
  }

  func counts() throws(DatabaseError) -> StateCounts {
    var counts = StateCounts()
    try database.query(
      """
      SELECT (SELECT count(*) FROM images), (SELECT coalesce(sum(sealed_bytes), 0) FROM images),
        (SELECT count(*) FROM placements), (SELECT count(*) FROM uploads),
        (SELECT count(*) FROM garbage)
      """
    ) { (row) throws(DatabaseError) in
      counts = StateCounts(
        images: UInt64(row.integer(0)), imageBytes: UInt64(row.integer(1)),
        shadows: UInt64(row.integer(2)), pendingUploads: UInt64(row.integer(3)),
        pendingDeletions: UInt64(row.integer(4)))
    }
    return counts
  }

  /// Brings everything applied so far onto stable storage; the log below may go after it.
  func checkpoint() throws(DatabaseError) {
    var isBusy = false
    try database.query("PRAGMA wal_checkpoint(TRUNCATE)") { (row) throws(DatabaseError) in
      isBusy = row.integer(0) != 0
    }
    if isBusy { throw DatabaseError(code: 5, description: "SQLite: the checkpoint was held up") }
  }
}

/// A stored image as the master knows it.
struct StoredImage: Sendable, Equatable {
  var record: ImageRecord
  var epoch: UInt32
  var encryptedThreshold: [UInt8]
  var scheme: String
  var placements: [ShadowPlacement]
}

struct PendingUpload: Hashable, Sendable {
  var imageID: [UInt8]
  var epoch: UInt32
}

struct StateCounts: Sendable, Equatable {
  var images: UInt64 = 0
  var imageBytes: UInt64 = 0
  var shadows: UInt64 = 0
  var pendingUploads: UInt64 = 0
  var pendingDeletions: UInt64 = 0
}

extension LogOutcome {
  init(_ code: StatusCode, _ message: String, reason: String = "") {
    self.init()
    status = code.rawValue
    self.message = message
    self.reason = reason
  }

  /// The refusal as an error; nothing where the command was applied.
  func check() throws(RPCError) {
    guard status != 0 else { return }
    throw RPCError(StatusCode(rawValue: status) ?? .unknown, message, reason: reason)
  }
}
