import Base
import DeepHash
import Foundation
import Imaging

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

  private static let maximumBytes = 1 << 30

  public init(path: String) throws {
    let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
    guard size <= Self.maximumBytes else {
      throw PictureFolderError.tooMuch(sizeBytes: size, maximumBytes: Self.maximumBytes)
    }
    try self.init(safetensors: [UInt8](try Data(contentsOf: URL(filePath: path))))
  }

  public init(safetensors bytes: [UInt8]) throws {
    let model = try ConvNeXt(safetensors: bytes)
    configuration = model.configuration
    parameters = model.withUnsafeParameters { Array($0) }
    metadata = try Safetensors(bytes: bytes).metadata
  }

  /// Names of the classes that it was trained to tell apart; empty where the file does not say.
  public var classes: [String] {
    guard let text = metadata[Field.classes] else { return [] }
    return (try? JSONDecoder().decode([String].self, from: Data(text.utf8))) ?? []
  }

  /// Of the network's input: 64 where the file does not say.
  public var side: Int {
    let side = metadata[Field.side].flatMap { Int($0) } ?? ModelInput.defaultSide
    return ModelInput.sides.contains(side) ? side : ModelInput.defaultSide
  }

  public var split: SplitProtocol? { metadata[Field.split].flatMap { SplitProtocol(rawValue: $0) } }

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
  /// picture shown in all its channels. A head of other outputs begins anew.
  public func adapted(
    to wanted: ConvNeXtConfiguration, layerScale: Float, seed: UInt64
  ) throws -> [Float] {
    let fits =
      wanted.depths == configuration.depths && wanted.dims == configuration.dims
      && (wanted.channels == configuration.channels || wanted.channels == 1)
    guard fits else {
      throw ConvNeXtError.contradictoryConfiguration(metadata: configuration, tensors: wanted)
    }
    var parameters = ConvNeXt.initialParameters(wanted, layerScale: layerScale, seed: seed)
    let (old, new) = (ParameterLayout(configuration), ParameterLayout(wanted))
    for entry in new.entries {
      guard let source = old.entry(named: entry.name) else { continue }
      if source.shape == entry.shape {
        parameters.replaceSubrange(entry.range, with: self.parameters[source.range])
      } else if entry.name == "stem.0.weight" {
        for at in entry.range { parameters[at] = 0 }
        let taps = 16
        for (index, value) in self.parameters[source.range].enumerated() {
          let output = index / (taps * configuration.channels)
          parameters[entry.range.lowerBound + output * taps + index % taps] += value
        }
      }
    }
    return parameters
  }
}
