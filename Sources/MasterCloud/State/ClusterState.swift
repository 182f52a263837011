import Base
import HammingIndex
import Messages

/// The state machine and the search index over it, on a thread of their own.
actor ClusterState {
  /// Codes can be compared only within one model, one masking key and one length.
  struct CodeSpace: Hashable, Sendable {
    var modelVersion: String
    var indexKeyVersion: UInt32
    var bits: UInt32

    init(_ code: MaskedCode) {
      modelVersion = code.modelVersion
      indexKeyVersion = code.indexKeyVersion
      bits = code.bits
    }
  }

  struct Hit: Sendable {
    var record: ImageRecord
    var distance: Int
  }

  private let thread = SerialThread()
  private let machine: StateMachine
  private var indices: [CodeSpace: HammingIndex<ImageID>] = [:]

  nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

  init(path: String) throws {
    machine = try StateMachine(path: path)
    var after: [UInt8] = []
    while true {
      let records = try machine.records(after: after, limit: 1000, owner: nil)
      for record in records { Self.insert(record, into: &indices) }
      guard let last = records.last else { break }
      after = last.imageID
    }
  }

  deinit { thread.stop() }

  private static func insert(
    _ record: ImageRecord, into indices: inout [CodeSpace: HammingIndex<ImageID>]
  ) {
    guard let id = ImageID(record.imageID) else {
      preconditionFailure("a committed image id of \(record.imageID.count) bytes")
    }
    for code in record.codes {
      let space = CodeSpace(code)
      do {
        try indices[space, default: HammingIndex(bitCount: Int(code.bits))].insert(
          id, code: code.code)
      } catch {
        preconditionFailure("a committed code does not fit \(code.bits) bits: \(error)")
      }
    }
  }

  func appliedIndex() throws -> UInt64 { try machine.appliedIndex() }

  func apply(_ commands: [LogCommand], first: UInt64) throws -> [LogOutcome] {
    // What deletions take out of the index must be read before it is gone.
    var deleted: [Int: ImageRecord] = [:]
    for (offset, command) in commands.enumerated() {
      if let delete = command.deleteImage, let image = try machine.image(delete.imageID) {
        deleted[offset] = image.record
      }
    }
    let outcomes = try machine.apply(commands, first: first)
    for (offset, (command, outcome)) in zip(commands, outcomes).enumerated()
    where outcome.status == 0 {
      if let record = command.commitUpload?.record, !outcome.existed {
        Self.insert(record, into: &indices)
      } else if command.deleteImage != nil, outcome.existed {
        remove(command, deleted[offset], among: commands[..<offset])
      }
    }
    return outcomes
  }

  private func remove(
    _ command: LogCommand, _ record: ImageRecord?, among earlier: ArraySlice<LogCommand>
  ) {
    // What a commit earlier in the batch put there is newer than what was read before the batch.
    let id = command.deleteImage?.imageID
    let committed = earlier.last { $0.commitUpload?.record?.imageID == id }?.commitUpload?.record
    let record = committed ?? record
    guard let record, let imageID = ImageID(record.imageID) else { return }
    for code in record.codes { indices[CodeSpace(code)]?.remove(imageID) }
  }

  func contains(_ ids: [[UInt8]], owner: String) throws -> [Bool] {
    try ids.map { try machine.contains($0, owner: owner) }
  }

  func lastEpoch(of id: [UInt8]) throws -> UInt32 { try machine.lastEpoch(of: id) }
  func image(_ id: [UInt8]) throws -> StoredImage? { try machine.image(id) }

  func records(after id: [UInt8], limit: Int, owner: String?) throws -> [ImageRecord] {
    try machine.records(after: id, limit: limit, owner: owner)
  }

  func pendingUploads() throws -> [PendingUpload] { try machine.pendingUploads() }

  func garbage(on slave: String, limit: Int) throws -> [[UInt8]] {
    try machine.garbage(on: slave, limit: limit)
  }

  func counts() throws -> StateCounts { try machine.counts() }

  // MARK: care

  func pendingMoves() throws -> [PendingMove] { try machine.pendingMoves() }

  func shadows(on slave: String, after name: [UInt8], limit: Int) throws -> [PlacedShadow] {
    try machine.shadows(on: slave, after: name, limit: limit)
  }

  func shadow(named name: [UInt8], on slave: String) throws -> PlacedShadow? {
    try machine.shadow(named: name, on: slave)
  }

  /// Those names that the state does not have on this slave.
  func unknown(_ names: [[UInt8]], on slave: String) throws -> [[UInt8]] {
    try names.filter { try !machine.knows($0, on: slave) }
  }

  func garbage(of id: [UInt8], epoch: UInt32) throws -> [ImageSharing.Place] {
    try machine.garbage(of: id, epoch: epoch)
  }

  func garbageCount(on slave: String) throws -> Int { try machine.garbageCount(on: slave) }
  func shadowCount(on slave: String) throws -> Int { try machine.shadowCount(on: slave) }

  func sharings(of ids: [[UInt8]]) throws -> [ImageSharing] {
    try ids.compactMap { try machine.sharing(of: $0) }
  }

  func imageIDs(after id: [UInt8], limit: Int) throws -> [[UInt8]] {
    try machine.imageIDs(after: id, limit: limit)
  }

  /// Slaves on which images have shadows, configured or not.
  func holders() throws -> [String] { try machine.holders() }

  func decisions() throws -> [String: SlaveDecision] { try machine.decisions() }
  func owners() throws -> [OwnerUsage] { try machine.owners() }

  func checkpoint() throws { try machine.checkpoint() }

  /// The nearest records over all code spaces asked for; by distance, then by id.
  func search(_ codes: [MaskedCode], count: Int) throws -> [Hit] {
    var best: [ImageID: Int] = [:]
    for code in codes {
      guard let index = indices[CodeSpace(code)] else { continue }
      for hit in try index.nearest(to: code.code, limit: count) {
        best[hit.id] = min(best[hit.id] ?? .max, hit.distance)
      }
    }
    let ranked = best.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.prefix(count)
    var hits: [Hit] = []
    for (id, distance) in ranked {
      guard let image = try machine.image(id.bytes) else {
        preconditionFailure("the index names \(id), the state does not")
      }
      hits.append(Hit(record: image.record, distance: distance))
    }
    return hits
  }
}
