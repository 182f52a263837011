import Base
import Messages

extension StateMachine {
  func owner(of id: [UInt8]) throws(DatabaseError) -> String? {
    var owner: String?
    try database.query("SELECT owner FROM images WHERE image_id = ?", [.blob(id)]) {
      (row) throws(DatabaseError) in owner = row.text(0)
    }
    return owner
  }

  func epochOfImage(_ id: [UInt8]) throws(DatabaseError) -> UInt32? {
    var epoch: UInt32?
    try database.query("SELECT epoch FROM images WHERE image_id = ?", [.blob(id)]) {
      (row) throws(DatabaseError) in epoch = UInt32(row.integer(0))
    }
    return epoch
  }

  func sealedBytes(of id: [UInt8]) throws(DatabaseError) -> Int64 {
    var bytes: Int64 = 0
    try database.query("SELECT sealed_bytes FROM images WHERE image_id = ?", [.blob(id)]) {
      (row) throws(DatabaseError) in bytes = row.integer(0)
    }
    return bytes
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

  /// Ids and codes of the images behind this one.
  func recordsForIndex(after id: [UInt8], limit: Int) throws(DatabaseError) -> [ImageRecord] {
    var records: [ImageRecord] = []
    try database.query(
      "SELECT record FROM images WHERE image_id > ?1 ORDER BY image_id LIMIT ?2",
      [.blob(id), .integer(Int64(limit))]
    ) { (row) throws(DatabaseError) in
      guard let record = try? ImageRecord(decoding: row.blob(0)) else {
        throw DatabaseError(code: 0, description: "the record of a stored image cannot be read")
      }
      records.append(record)
    }
    return records
  }

  func imageIDs(after id: [UInt8], limit: Int) throws(DatabaseError) -> [[UInt8]] {
    var ids: [[UInt8]] = []
    try database.query(
      "SELECT image_id FROM images WHERE image_id > ? ORDER BY image_id LIMIT ?",
      [.blob(id), .integer(Int64(limit))]
    ) { (row) throws(DatabaseError) in ids.append(row.blob(0)) }
    return ids
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
      SELECT (SELECT coalesce(sum(images), 0) FROM owners),
        (SELECT coalesce(sum(bytes), 0) FROM owners), (SELECT count(*) FROM uploads),
        (SELECT count(*) FROM garbage WHERE slave NOT IN
          (SELECT slave FROM slaves WHERE condition = ?))
      """, [.integer(Int64(SlaveCondition.lost.rawValue))]
    ) { (row) throws(DatabaseError) in
      counts = StateCounts(
        images: UInt64(row.integer(0)), imageBytes: UInt64(row.integer(1)),
        pendingUploads: UInt64(row.integer(2)), pendingDeletions: UInt64(row.integer(3)))
    }
    counts.shadows = UInt64(try database.meta("shadows"))
    return counts
  }

  /// Brings everything applied so far onto stable storage; the log below may go after it.
  func checkpoint() throws(DatabaseError) {
    try settle()
    // Somebody who reads the file holds it up; everything else waits behind it.
    try database.query("PRAGMA busy_timeout = 100")
    defer { try? database.query("PRAGMA busy_timeout = 10000") }
    var isBusy = false
    try database.query("PRAGMA wal_checkpoint(TRUNCATE)") { (row) throws(DatabaseError) in
      isBusy = row.integer(0) != 0
    }
    if isBusy { throw DatabaseError(code: 5, description: "SQLite: the checkpoint was held up") }
  }
}
