import DeepHash
import Foundation
import Testing

/// Files that the tests read.
enum Fixture {
  static func bytes(_ name: String) throws -> [UInt8] {
    let url = Bundle.module.bundleURL.appending(path: "Resources/\(name)")
    return Array(try Data(contentsOf: url))
  }

  /// The model that the product ships with.
  static func defaultModelBytes() throws -> [UInt8] {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let url = root.appending(path: "Models/default.safetensors")
    return Array(try Data(contentsOf: url))
  }
}

/// Weights, inputs and activations that PyTorch computed in double precision.
struct GoldenCase {
  let file: Safetensors
  let model: ConvNeXt
  let input: Tensor

  init(_ name: String) throws {
    file = try Safetensors(bytes: Fixture.bytes("\(name).safetensors"))
    let prefix = "weight."
    var weights: [String: Tensor] = [:]
    for entry in file.entries where entry.name.hasPrefix(prefix) {
      weights[String(entry.name.dropFirst(prefix.count))] = try file.tensor(named: entry.name)
    }
    model = try ConvNeXt(tensors: weights)
    input = try file.tensor(named: "input")
  }

  /// Outputs of the network for a tensor of images.
  func forward(_ images: Tensor) throws -> [Float] {
    try model.forward(
      batch: images.elements, count: images.shape[0], height: images.shape[2],
      width: images.shape[3])
  }

  static let names = ["tiny-1x64x64", "odd-3x33x40", "rgb-3x32x32"]
}

/// How far computed values are from reference values.
struct Deviation {
  let largest: Double
  let relative: Double
  let rootMeanSquare: Double

  init(_ actual: [Float], from expected: [Float]) {
    var (largest, difference, norm) = (0.0, 0.0, 0.0)
    for (a, e) in zip(actual, expected) {
      let d = abs(Double(a) - Double(e))
      // A value that is not a number must not pass as a small one.
      largest = d.isNaN ? .infinity : max(largest, d)
      difference += d * d
      norm += Double(e) * Double(e)
    }
    self.largest = actual.count == expected.count ? largest : .infinity
    self.relative = (difference / norm).squareRoot()
    self.rootMeanSquare = (norm / Double(max(expected.count, 1))).squareRoot()
  }

  /// Ten times the largest error that single-precision PyTorch shows on the same vectors.
  var isWithinTolerance: Bool { largest <= 2e-5 && relative <= 5e-6 }

  /// The same for gradients, whose sizes differ: against their root mean square.
  var isGradientWithinTolerance: Bool { relative <= 2e-5 && largest <= 2e-4 * rootMeanSquare }
}

/// SplitMix64: the same numbers from the same seed on every machine.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func pixels(_ count: Int) -> [Float] {
    (0..<count).map { _ in Float(next() >> 56) / 255 }
  }
}
