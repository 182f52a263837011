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
    let bytes = try Files.contents(of: path, limitBytes: maximumBytes)
    do { return try ModelFile(safetensors: bytes) } catch {
      throw CommandFailure(.badInput, "\(path): \(error)")
    }
  }

  /// The head whose codes have so many bits, or where nobody says how many the only one.
  static func read(_ path: String, bits: Int?) throws -> ModelFile {
    let model = try read(path)
    if let bits {
      guard let head = try model.head(bits: bits) else {
        throw CommandFailure(
          .badInput, "\(path) makes no codes of \(bits) bits", advice: "it makes \(model.lengths)")
      }
      return head
    }
    guard model.heads.count == 1 else {
      throw CommandFailure(
        .badInput, "\(path) makes codes of \(model.lengths)",
        advice: "choose one with --bits")
    }
    return model
  }

  /// What its codes have, for people.
  var lengths: String { heads.map { "\($0)" }.joined(separator: ", ") + " bits" }
}

extension CommandFailure {
  /// What goes wrong with pictures, models and trainings.
  init(model error: any Error) {
    switch error {
    case let error as PictureFolderError:
      if case .unreadable = error {
        self.init(.inputOutput, error.description)
      } else {
        self.init(.badInput, error.description)
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
      case .damagedCheckpoint: self.init(.badInput, error.description)
      case .otherTraining, .otherOrigin:
        self.init(
          .badInput, error.description,
          advice: "give what it was begun with, or another folder with --out")
      case .inUse:
        self.init(
          .badInput, error.description,
          advice: "go on with it with --resume, or take another folder with --out")
      }
    case let error as ModelFileError: self.init(.badInput, error.description)
    case let error as ConvNeXtError: self.init(.badInput, error.description)
    default: self.init(error)
    }
  }
}
