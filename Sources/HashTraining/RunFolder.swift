import Base
import DeepHash
import Foundation

/// Why a run's folder cannot be used.
public enum RunFolderError: Error, Sendable, Equatable, CustomStringConvertible {
  case disk(String)
  case damagedCheckpoint(path: String, reason: String)
  /// The checkpoint is of a training with other options.
  case otherTraining(theirs: String, ours: String)

  public var description: String {
    switch self {
    case .disk(let text): text
    case .damagedCheckpoint(let path, let reason): "\(path) cannot be gone on from: \(reason)"
    case .otherTraining(let theirs, let ours):
      "the checkpoint is of another training:\n  it was  \(theirs)\n  this is \(ours)"
    }
  }
}

/// The folder of a training: checkpoint, log, models.
public struct RunFolder: Sendable {
  public let path: String

  public init(path: String) throws {
    self.path = path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  public var checkpointPath: String { path + "/checkpoint.safetensors" }
  public var logPath: String { path + "/log.jsonl" }

  public var hasCheckpoint: Bool { FileManager.default.fileExists(atPath: checkpointPath) }

  private static let maximumCheckpointBytes = 8 << 30

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
      throw RunFolderError.disk("\(error)")
    }
  }

  func readCheckpoint() throws -> Safetensors? {
    guard hasCheckpoint else { return nil }
    do {
      let size =
        try FileManager.default.attributesOfItem(atPath: checkpointPath)[.size] as? Int ?? 0
      guard size <= Self.maximumCheckpointBytes else {
        throw RunFolderError.damagedCheckpoint(path: checkpointPath, reason: "\(size) bytes")
      }
      return try Safetensors(bytes: [UInt8](Data(contentsOf: URL(filePath: checkpointPath))))
    } catch let error as SafetensorsError {
      throw RunFolderError.damagedCheckpoint(path: checkpointPath, reason: "\(error)")
    }
  }

  // MARK: - The log

  func clearLog() throws { try write([], to: "log.jsonl") }

  func append(_ report: EpochReport) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let line = try encoder.encode(report) + Data([0x0A])
    guard let handle = FileHandle(forWritingAtPath: logPath) else {
      throw RunFolderError.disk("cannot open \(logPath)")
    }
    defer { try? handle.close() }
    try handle.seekToEnd()
    try handle.write(contentsOf: line)
  }

  /// Epochs so far.
  public func log() throws -> [EpochReport] {
    guard FileManager.default.fileExists(atPath: logPath) else { return [] }
    let text = try String(contentsOfFile: logPath, encoding: .utf8)
    let decoder = JSONDecoder()
    return try text.split(separator: "\n").map {
      try decoder.decode(EpochReport.self, from: Data($0.utf8))
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
    try clearLog()
    for report in kept { try append(report) }
  }
}
