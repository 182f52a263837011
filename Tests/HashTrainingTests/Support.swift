import DeepHash
import Foundation
import HashTraining

/// A folder that goes with its owner.
final class Scratch {
  let path: String
  let folder: RunFolder

  init() throws {
    path = NSTemporaryDirectory() + "/sfmedir-training-\(UUID().uuidString)"
    folder = try RunFolder(path: path)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ bytes: [UInt8], to name: String) throws {
    let file = path + "/" + name
    try FileManager.default.createDirectory(
      atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(filePath: file))
  }

  func write(_ text: String, to name: String) throws { try write([UInt8](text.utf8), to: name) }
}

enum Pictures {
  /// Of three classes, each bright in another third.
  static func synthetic(_ count: Int, side: Int = 32) -> TrainingSet {
    TrainingSet(
      labels: (0..<count).map { $0 % 3 }, classes: ["a", "b", "c"], channels: 1, height: side,
      width: side
    ) { number, out in
      for at in 0..<side * side {
        let isBright = at % side * 3 / side == number % 3
        out[at] = (isBright ? 0.7 : 0.1) + 0.2 * Float((at &* 31 &+ number &* 17) % 97) / 97
      }
    }
  }
}
