import Base
import DeepHash
import Foundation
import Imaging

/// Why a model cannot be used for what is asked.
public enum ModelFileError: Error, Sendable, Equatable, CustomStringConvertible {
  case unusable(String)
  case otherTrunk(theirs: ConvNeXtConfiguration, ours: ConvNeXtConfiguration)

  public var description: String {
    switch self {
    case .unusable(let reason): "the model cannot be used: \(reason)"
    case .otherTrunk(let theirs, let ours):
      "the model to begin with is another network:\n  it has    \(theirs)\n  wanted is \(ours)"
    }
  }
}

/// A trained model as a file: safetensors with timm's names, and among its metadata what it was made of.
public struct ModelFile: Sendable {
  /// Beside the network's sizes.
  public enum Field {
    /// Of the network's input, in pixels.
    public static let side = "input_side"
    /// Names of the classes that it was trained to tell apart, as JSON.
    public static let classes = "classes"
    public static let dataset = "dataset"
    public static let split = "protocol"
    public static let splitSeed = "split_seed"
    /// "clean" or "adversarial".
    public static let stage = "stage"
    public static let training = "training"
    public static let preprocessing = "preprocessing"
  }

  public var configuration: ConvNeXtConfiguration
  public var parameters: [Float]
  public var metadata: [String: String]

  public init(
    configuration: ConvNeXtConfiguration, parameters: [Float], metadata: [String: String]
  ) {
    self.configuration = configuration
    self.parameters = parameters
    self.metadata = metadata
  }

  /// Largest file that is worth reading.
  public static let maximumBytes = 1 << 30

  public init(safetensors bytes: [UInt8]) throws {
    let file = try Safetensors(bytes: bytes)
    let model = try ConvNeXt(safetensors: bytes)
    configuration = model.configuration
    parameters = model.withUnsafeParameters { Array($0) }
    metadata = file.metadata
    if let text = metadata[Field.side] {
      guard let side = Int(text), ModelInput.sides.contains(side) else {
        throw ModelFileError.unusable("its pictures have '\(text)' pixels a side, not 32 to 512")
      }
    }
  }

  /// Whether its codes can be compared with those of grey pictures, as all pictures here are.
  public func checkMakesCodes() throws {
    if configuration.channels != 1 {
      throw ModelFileError.unusable(
        "it takes \(configuration.channels) channels, pictures here are grey")
    }
    if configuration.bits > HashCode.maximumLength {
      throw ModelFileError.unusable("it has \(configuration.bits) outputs, a code 64 at most")
    }
  }

  /// Of the shuffle that a random split of folders came from.
  public var splitSeed: UInt64 { metadata[Field.splitSeed].flatMap { UInt64($0) } ?? 1 }

  /// Names of the classes that it was trained to tell apart; empty where the file does not say.
  public var classes: [String] {
    guard let text = metadata[Field.classes] else { return [] }
    return (try? JSONDecoder().decode([String].self, from: Data(text.utf8))) ?? []
  }

  /// Of the network's input: 64 where the file does not say.
  public var side: Int { metadata[Field.side].flatMap { Int($0) } ?? ModelInput.defaultSide }

  public var split: SplitProtocol? { metadata[Field.split].flatMap { SplitProtocol(metadata: $0) } }

  public func encoded(precision: SafetensorsWriter.Precision) throws -> [UInt8] {
    let model = try ConvNeXt(configuration: configuration, parameters: parameters)
    var metadata = metadata
    metadata["config"] = nil
    return try model.safetensors(precision: precision, metadata: metadata)
  }

  /// The model of one of several heads that were trained together.
  public func head(_ index: Int, of heads: [Int]) throws -> ModelFile {
    precondition(heads.reduce(0, +) == configuration.bits, "heads of \(heads)")
    let first = heads[..<index].reduce(0, +)
    let range = first..<first + heads[index]
    let layout = ParameterLayout(configuration)
    let single = try ConvNeXtConfiguration(
      channels: configuration.channels, depths: configuration.depths, dims: configuration.dims,
      bits: heads[index])
    var parameters: [Float] = []
    for entry in layout.entries {
      let isHead = entry.name.hasPrefix("head.fc.")
      let rowCount = isHead ? entry.range.count / configuration.bits : 0
      let part =
        isHead
        ? entry.range.lowerBound + range.lowerBound * rowCount..<entry.range.lowerBound
          + range.upperBound * rowCount : entry.range
      parameters += self.parameters[part]
    }
    return ModelFile(configuration: single, parameters: parameters, metadata: metadata)
  }

  /// Parameters to begin a training with: this model's, for a network of other channels or outputs where need be.
  ///
  /// A stem of other channels than one becomes one of grey pictures by adding its kernels up: what it would see of a grey
  /// picture shown in all its channels. A head of other outputs begins anew. A file of three channels that says nothing of
  /// itself is one of timm's, whose pictures were normalised by the mean and deviation of ImageNet: that is worked into
  /// the stem.
  public func adapted(
    to wanted: ConvNeXtConfiguration, layerScale: Float, seed: UInt64
  ) throws -> [Float] {
    let fits =
      wanted.depths == configuration.depths && wanted.dims == configuration.dims
      && (wanted.channels == configuration.channels || wanted.channels == 1)
    guard fits else { throw ModelFileError.otherTrunk(theirs: configuration, ours: wanted) }
    var parameters = ConvNeXt.initialParameters(wanted, layerScale: layerScale, seed: seed)
    let source = withOwnNormalization
    let (old, new) = (ParameterLayout(configuration), ParameterLayout(wanted))
    for entry in new.entries {
      guard let from = old.entry(named: entry.name) else { continue }
      if from.shape == entry.shape {
        parameters.replaceSubrange(entry.range, with: source[from.range])
      } else if entry.name == "stem.0.weight" {
        for at in entry.range { parameters[at] = 0 }
        for (index, value) in source[from.range].enumerated() {
          let output = index / (Self.stemTaps * configuration.channels)
          parameters[entry.range.lowerBound + output * Self.stemTaps + index % Self.stemTaps] +=
            value
        }
      }
    }
    return parameters
  }

  private static let stemTaps = 16
  private static let imageNet: [(mean: Float, deviation: Float)] = [
    (0.485, 0.229), (0.456, 0.224), (0.406, 0.225),
  ]

  /// The parameters of a network that takes (x - 0.5) / 0.25, of one that may take (x - mean) / deviation.
  private var withOwnNormalization: [Float] {
    guard configuration.channels == Self.imageNet.count, metadata["config"] == nil,
      metadata[Field.side] == nil
    else { return parameters }
    var parameters = parameters
    let layout = ParameterLayout(configuration)
    guard let weight = layout.entry(named: "stem.0.weight"),
      let bias = layout.entry(named: "stem.0.bias")
    else { return parameters }
    for (index, at) in weight.range.enumerated() {
      let channel = index / Self.stemTaps % configuration.channels
      let output = index / (Self.stemTaps * configuration.channels)
      let (mean, deviation) = Self.imageNet[channel]
      parameters[bias.range.lowerBound + output] += parameters[at] * (0.5 - mean) / deviation
      parameters[at] *= 0.25 / deviation
    }
    return parameters
  }
}
