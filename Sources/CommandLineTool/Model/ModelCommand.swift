import ArgumentParser
import Base
import DeepHash
import HashTraining

struct ModelCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Train the network that makes hash codes, and measure it.",
    discussion: """
      EXAMPLE
        sfmedir model train --data tmri/ --split group --bits 16 --out run/
        sfmedir model eval run/adversarial-16.safetensors --data tmri/
      """,
    subcommands: [
      ModelTrainCommand.self, ModelEvalCommand.self, ModelInfoCommand.self,
      ModelAttackCommand.self, ModelCompactCommand.self,
    ])
}

/// Threads that a network computes with.
enum NetworkThreads {
  static let accepted = 1...64
  /// - Parameter asked: nil for one a core.
  static func count(_ asked: Int? = nil) -> Int {
    asked ?? min(accepted.upperBound, ProcessTable.processorCount)
  }
}

/// Numbers between commas, as options take them.
enum NumberList {
  /// Nil where something else stands there.
  static func numbers(_ text: String) -> [Int]? {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    let known = parts.compactMap { $0 }
    return known.count == parts.count ? known : nil
  }
}

extension ModelFile {
  /// Reads a model; what is wrong with it is told with its path.
  static func read(_ path: String) throws -> ModelFile {
    try read(bytes: Files.contents(of: path, limitBytes: maximumBytes), path)
  }

  static func read(bytes: [UInt8], _ path: String) throws -> ModelFile {
    do { return try ModelFile(safetensors: bytes) } catch {
      throw CommandFailure(.badInput, "\(path): \(error)")
    }
  }

  /// The head whose codes have so many bits, or where nobody says how many the only one.
  static func read(_ path: String, bits: Int?) throws -> ModelFile {
    let model = try read(path)
    if let bits { return try model.only(bits: bits, path) }
    guard model.heads.count == 1 else {
      throw CommandFailure(
        .badInput, "\(path) makes codes of \(model.lengths)",
        advice: "choose one with --bits")
    }
    return model
  }

  /// The head whose codes have so many bits.
  func only(bits: Int, _ path: String) throws -> ModelFile {
    guard let head = try head(bits: bits) else {
      throw CommandFailure(
        .badInput, "\(path) makes no codes of \(bits) bits", advice: "it makes \(lengths)")
    }
    return head
  }

  /// What its codes have, for people.
  var lengths: String { heads.map { "\($0)" }.joined(separator: ", ") + " bits" }
}

extension CommandFailure {
  private static func printableLines(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { printable(String($0)) }
      .joined(separator: "\n")
  }

  /// What goes wrong with pictures, models and trainings.
  init(model error: any Error) {
    switch error {
    case let error as PictureFolderError:
      switch error {
      case .unreadable: self.init(.inputOutput, error.description)
      case .notFound: self.init(.notFound, error.description, advice: "check the path")
      default: self.init(.badInput, Self.printableLines(error.description))
      }
    case let error as TrainingError:
      if case .notFinite = error {
        self.init(.someFailed, error.description)
      } else {
        self.init(.badInput, error.description)
      }
    case let error as RunFolderError:
      switch error {
      case .disk(let text): self.init(.inputOutput, text)
      case .damagedCheckpoint, .damagedLog: self.init(.badInput, error.description)
      case .otherTraining, .otherOrigin:
        self.init(
          .badInput, error.description,
          advice: "give what it was begun with, or another folder with --out")
      case .locked:
        self.init(.temporary, error.description, advice: "wait until it has ended, or stop it")
      case .inUse:
        self.init(
          .badInput, error.description,
          advice:
            "go on with it with --resume, where it has a checkpoint, or take another folder with --out"
        )
      }
    case let error as ModelFileError: self.init(.badInput, error.description)
    case let error as ConvNeXtError: self.init(.badInput, error.description)
    default: self.init(error)
    }
  }
}
