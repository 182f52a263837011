import Base
import Messages
import RPC
import Raft
import Replication

/// What the masters agree on, as one SQLite file; changed only by commands of the replicated log.
///
/// Applying is deterministic: every replica that applies the same commands holds the same rows, so no
/// clock, random number or local fact is read here. Confined to the thread of ``ClusterState``.
struct StateMachine {
  let database: Database

  init(path: String) throws {
    database = try Database(path: path)
    try StateSchema(database).prepare()
  }

  // MARK: applying

  func appliedIndex() throws(DatabaseError) -> UInt64 {
    UInt64(try database.meta("applied_index"))
  }

  /// Where the log goes on behind this state.
  func base() throws(DatabaseError) -> LogBase {
    let position = Position(
      term: UInt64(try database.meta("applied_term")), index: try appliedIndex())
    let bytes = try database.consensus("membership")
    guard !bytes.isEmpty else { return LogBase(position: position) }
    guard let membership = try? MembershipCodec.decode(bytes) else {
      throw DatabaseError(code: 0, description: "the state's membership cannot be read")
    }
    return LogBase(position: position, membership: membership)
  }

  /// Remembers who votes as of this state.
  func keep(_ membership: Membership) throws(DatabaseError) {
    try database.setConsensus("membership", MembershipCodec.encode(membership))
  }

  /// Over everything applied, in order, with its outcomes: two states with one history have one hash.
  func hash() throws(DatabaseError) -> [UInt8] { try database.consensus("hash") }

  /// An entry as the state machine sees it: a nil command is one of the consensus itself.
  struct Step {
    var entry: Entry
    var command: LogCommand?
  }

  /// Applies entries with consecutive indices from `first` on. What was applied and the position reached go into the file
  /// together, by ``settle()``: until then this connection alone sees them. Where that fails, all that was not settled goes,
  /// and this connection answers nothing any more.
  func apply(_ steps: [Step], first: UInt64) throws(DatabaseError) -> [LogOutcome?] {
    try database.begin()
    do throws(DatabaseError) { return try applyAll(steps, first: first) } catch {
      database.giveUp(error)
      throw error
    }
  }

  private func applyAll(_ steps: [Step], first: UInt64) throws(DatabaseError) -> [LogOutcome?] {
    let applied = try appliedIndex()
    precondition(first == applied + 1, "command \(first) after \(applied)")
    var hash = try hash()
    var outcomes: [LogOutcome?] = []
    for (offset, step) in steps.enumerated() {
      var outcome: LogOutcome?
      if let command = step.command {
        outcome = try applyOnce(command, at: first + UInt64(offset))
      }
      if case .membership(let membership) = step.entry.payload {
        try database.setConsensus("membership", MembershipCodec.encode(membership))
      }
      // What is said to people may be worded otherwise by another version.
      var decided = outcome
      decided?.message = ""
      hash = sha256(hash + EntryCodec.encode([step.entry]) + (decided?.encoded() ?? []))
      outcomes.append(outcome)
    }
    try database.setConsensus("hash", hash)
    if let last = steps.last { try database.setMeta("applied_term", Int64(last.entry.term)) }
    try database.setMeta("applied_index", Int64(applied) + Int64(steps.count))
    return outcomes
  }

  /// Writes what was applied to the file. An end of the process loses nothing of it, a loss of power what ``checkpoint()``
  /// has not made durable.
  func settle() throws(DatabaseError) { try database.commit() }

  /// Entries for which an answer is kept: far more than are written while a caller may still ask again.
  private static let answersKept: UInt64 = 100_000
  private static let forgettingInterval: UInt64 = 1024

  /// A request that has been carried out is answered again as it was.
  private func applyOnce(
    _ command: LogCommand, at index: UInt64
  ) throws(DatabaseError) -> LogOutcome {
    if index % Self.forgettingInterval == 0, index > Self.answersKept {
      try database.query(
        "DELETE FROM requests WHERE applied_index <= ?",
        [.integer(Int64(index - Self.answersKept))])
    }
    guard command.client.count == 16 else { return try apply(command) }
    let key: [DatabaseValue] = [
      .blob(command.client), .integer(Int64(bitPattern: command.sequence)),
    ]
    var answer: LogOutcome?
    try database.query(
      "SELECT outcome FROM requests WHERE client = ? AND sequence = ?", key
    ) { (row) throws(DatabaseError) in
      guard let stored = try? LogOutcome(decoding: row.blob(0)) else {
        throw DatabaseError(code: 0, description: "a stored answer cannot be read")
      }
      answer = stored
    }
    if let answer { return answer }
    let outcome = try apply(command)
    try database.query(
      "INSERT INTO requests VALUES (?, ?, ?, ?)",
      key + [.integer(Int64(index)), .blob(outcome.encoded())])
    return outcome
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
    if let outcome = try applyCare(command) { return outcome }
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
    if let refusal = try quotaRefusal(begin) { return refusal }
    try database.query(
      "INSERT INTO epochs VALUES (?, ?) ON CONFLICT (image_id) DO UPDATE SET epoch = excluded.epoch",
      [.blob(begin.imageID), .integer(Int64(begin.epoch))])
    try database.query(
      "INSERT INTO uploads VALUES (?, ?, ?, ?, ?)",
      [
        .blob(begin.imageID), .integer(Int64(begin.epoch)), .integer(Int64(time)),
        .text(begin.owner), .integer(Int64(clamping: begin.sealedBytes)),
      ])
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
    try count(images: 1, bytes: Int64(clamping: record.sealedBytes), of: record.owner)
    // The digests are known only now.
    try removePlacements(of: id, epoch: commit.epoch)
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
    let bytes = try sealedBytes(of: delete.imageID)
    try discardPlacements(of: delete.imageID, epoch: epoch)
    try count(images: -1, bytes: -bytes, of: owner)
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
    try database.addToMeta("shadows", 1)
  }

  private func removePlacements(of id: [UInt8], epoch: UInt32) throws(DatabaseError) {
    try database.query(
      "DELETE FROM placements WHERE image_id = ? AND epoch = ?",
      [.blob(id), .integer(Int64(epoch))])
    try database.addToMeta("shadows", -Int64(database.changes))
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
      INSERT OR IGNORE INTO garbage SELECT slave, name, image_id, epoch, shadow FROM placements
      WHERE image_id = ? AND epoch = ?
      """, key)
    try removePlacements(of: id, epoch: epoch)
    try discardMoves(of: id, epoch: epoch)
  }
}
