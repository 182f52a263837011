import Base
import DeepHash
import Foundation

/// Why a run's folder cannot be used.
public enum RunFolderError: Error, Sendable, Equatable, CustomStringConvertible {
  case disk(String)
  case damagedCheckpoint(path: String, reason: String)
  case damagedLog(path: String, reason: String)
  /// Another training writes there at this moment.
  case locked(path: String)
  /// The checkpoint is of a training with other options.
  case otherTraining(theirs: String, ours: String)
  /// The same options, and other pictures or other parameters to begin with.
  case otherOrigin(what: String)
  /// A training was there, and nobody said that it is to go on.
  case inUse(path: String)

  public var description: String {
    switch self {
    case .disk(let text): text
    case .damagedCheckpoint(let path, let reason): "\(path) cannot be gone on from: \(reason)"
    case .otherTraining(let theirs, let ours):
      "the checkpoint is of another training:\n  it was  \(theirs)\n  this is \(ours)"
    case .otherOrigin(let what): "the checkpoint is of a training with other \(what)"
    case .inUse(let path): "\(path) holds a training already"
    case .damagedLog(let path, let reason): "\(path) cannot be read: \(reason)"
    case .locked(let path): "another training is writing to \(path)"
    }
  }
}

/// The folder of a training: checkpoint, log, models. One training has it at a time.
public struct RunFolder: Sendable {
  public let path: String
  private let lock: any DiskLock

  public init(path: String) throws {
    self.path = path
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw RunFolderError.disk("cannot make \(path): \(error.localizedDescription)")
    }
    do {
      guard let lock = try SystemDisk().lock(path + "/lock") else {
        throw RunFolderError.locked(path: path)
      }
      self.lock = lock
    } catch let error as DiskError {
      throw RunFolderError.disk("\(error)")
    }
  }

  /// Whether there is nothing of a training yet, neither checkpoint nor log nor models.
  func checkIsUnused() throws {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: path)
    } catch {
      throw RunFolderError.disk("cannot read \(path): \(error.localizedDescription)")
    }
    if names.contains(where: { $0 == "log.jsonl" || $0.hasSuffix(".safetensors") }) {
      throw RunFolderError.inUse(path: path)
    }
  }

  public var checkpointPath: String { path + "/checkpoint.safetensors" }
  public var logPath: String { path + "/log.jsonl" }

  public var hasCheckpoint: Bool { FileManager.default.fileExists(atPath: checkpointPath) }

  private static let maximumCheckpointBytes = 8 << 30
  private static let maximumLogBytes = 256 << 20
  /// More than any training has.
  private static let maximumEpochs = 1 << 30

  /// Whole under its name and durable, or as it was before.
  public func write(_ bytes: [UInt8], to name: String) throws {
    let disk = SystemDisk()
    let (target, temporary) = (path + "/" + name, path + "/" + name + ".new")
    do {
      // What an interrupted run has left.
      if FileManager.default.fileExists(atPath: temporary) { try disk.remove(temporary) }
      let file = try disk.open(temporary, mode: .createNew)
      try bytes.withUnsafeBytes { try file.write($0, at: 0) }
      try file.synchronize()
      try disk.rename(temporary, to: target)
      try disk.synchronizeDirectory(path)
    } catch {
      // Where it fails, the next one takes it away.
      try? disk.remove(temporary)
      throw RunFolderError.disk("\(error)")
    }
  }

  func readCheckpoint() throws -> Safetensors? {
    guard hasCheckpoint else { return nil }
    do {
      return try Safetensors(
        bytes: RegularFile.contents(
          of: checkpointPath, maximumBytes: Self.maximumCheckpointBytes))
    } catch {
      throw RunFolderError.damagedCheckpoint(path: checkpointPath, reason: "\(error)")
    }
  }

  // MARK: - The log

  func clearLog() throws { try write([], to: "log.jsonl") }

  private static func line(_ report: EpochReport) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    return try encoder.encode(report) + Data([0x0A])
  }

  /// Durable before a checkpoint is that has the epoch behind it.
  func append(_ report: EpochReport) throws {
    let line = try Self.line(report)
    do {
      let file = try SystemDisk().open(logPath, mode: .readWrite)
      let end = try file.sizeBytes()
      try line.withUnsafeBytes { try file.write($0, at: end) }
      try file.synchronize()
    } catch {
      throw RunFolderError.disk("\(error)")
    }
  }

  /// Epochs so far. A line that an interruption has torn is left out: what it told is done again.
  public func log() throws -> [EpochReport] {
    guard FileManager.default.fileExists(atPath: logPath) else { return [] }
    let bytes: [UInt8]
    do {
      bytes = try RegularFile.contents(of: logPath, maximumBytes: Self.maximumLogBytes)
    } catch {
      throw RunFolderError.damagedLog(path: logPath, reason: "\(error)")
    }
    let decoder = JSONDecoder()
    return bytes.split(separator: 0x0A).compactMap { line -> EpochReport? in
      guard let report = try? decoder.decode(EpochReport.self, from: Data(line)),
        (1...Self.maximumEpochs).contains(report.epoch)
      else { return nil }
      return report
    }
  }

  /// Takes away what was logged after the checkpoint that a run goes on from.
  func cutLog(before position: TrainingRun.Position, stages: [String], plan: TrainingPlan) throws {
    let kept = try log().filter { report in
      guard let stage = stages.firstIndex(of: report.stage) else { return false }
      guard stage == position.stage else { return stage < position.stage }
      let round = (report.epoch - 1) / plan.localEpochs
      guard round == position.round else { return round < position.round }
      let clients = plan.selection(stage: stage, round: round)
      let turn = clients.firstIndex(of: report.client) ?? 0
      guard turn == position.turn else { return turn < position.turn }
      return (report.epoch - 1) % plan.localEpochs < position.epoch
    }
    let lines = try kept.reduce(into: Data()) { $0 += try Self.line($1) }
    try write([UInt8](lines), to: "log.jsonl")
  }
}
