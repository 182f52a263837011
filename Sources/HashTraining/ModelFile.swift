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
    /// Of the pictures on both sides; see ``PictureFolder/splitDigest``.
    public static let splitDigest = "split_digest"
    /// Lengths of the codes, one after the other among the outputs, where there are several; as JSON.
    public static let heads = "heads"
    /// "clean" or "adversarial".
    public static let stage = "stage"
    public static let training = "training"
    public static let preprocessing = "preprocessing"
    /// Networks that its training began with, the first one first; as JSON.
    public static let ancestors = "ancestors"
  }

  /// A network with whose parameters a training began, directly or over others. Empty is what is not known of it.
  public struct Ancestor: Codable, Sendable, Equatable {
    /// Of the file, SHA-256 in hexadecimal.
    public var digest = ""
    public var dataset = ""
    /// "group" or "random".
    public var split = ""
    public var splitDigest = ""

    enum CodingKeys: String, CodingKey {
      case digest = "sha256"
      case dataset
      case split = "protocol"
      case splitDigest = "split_digest"
    }
  }

  public var ancestors: [Ancestor] {
    guard let text = metadata[Field.ancestors] else {
      // It began with another network, and nothing says what that one had learned from.
      return metadata[Field.training]?.contains("--init ") == true ? [Ancestor()] : []
    }
    return (try? JSONDecoder().decode([Ancestor].self, from: Data(text.utf8))) ?? []
  }

  /// What a model whose training begins with this one's parameters says of that, in ``Field/ancestors``.
  /// - Parameter digest: of this model's file.
  public func descent(digest: String) -> [Ancestor] {
    ancestors + [
      Ancestor(
        digest: digest, dataset: metadata[Field.dataset] ?? "", split: split?.rawValue ?? "",
        splitDigest: metadata[Field.splitDigest] ?? "")
    ]
  }

  public var configuration: ConvNeXtConfiguration
  public var parameters: [Float]
  public var metadata: [String: String]

  /// Lengths of the codes that its outputs are, one after the other: trained together, over one trunk.
  public let heads: [Int]

  /// - Parameter heads: nil for one of all outputs.
  public init(
    configuration: ConvNeXtConfiguration, parameters: [Float], metadata: [String: String],
    heads: [Int]? = nil
  ) {
    let heads = heads ?? [configuration.bits]
    precondition(heads.reduce(0, +) == configuration.bits, "heads of \(heads)")
    self.heads = heads
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
    if let text = metadata[Field.heads] {
      guard let heads = try? JSONDecoder().decode([Int].self, from: Data(text.utf8)),
        heads.allSatisfy({ (1...HashCode.maximumLength).contains($0) }),
        Set(heads).count == heads.count, heads.reduce(0, +) == configuration.bits
      else {
        throw ModelFileError.unusable(
          "its heads are '\(text)', and it has \(configuration.bits) outputs")
      }
      self.heads = heads
    } else {
      heads = [configuration.bits]
    }
    if let text = metadata[Field.splitSeed], UInt64(text) == nil {
      throw ModelFileError.unusable("the seed of its split is '\(text)'")
    }
    // What cannot be read would hide what its pictures have been to it.
    if metadata[Field.ancestors] != nil && ancestors.isEmpty {
      throw ModelFileError.unusable(
        "what it says of the networks that it began with cannot be read")
    }
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
    if heads.count > 1 {
      throw ModelFileError.unusable(
        "it makes codes of \(heads.map { "\($0)" }.joined(separator: ", ")) bits: one has to be chosen"
      )
    }
    if configuration.bits > HashCode.maximumLength {
      throw ModelFileError.unusable("it has \(configuration.bits) outputs, a code 64 at most")
    }
  }

  /// A network that has come apart gives codes, too, and they mean nothing.
  public static func checkAreNumbers(_ outputs: [Float]) throws {
    if !outputs.allSatisfy(\.isFinite) {
      throw ModelFileError.unusable("its outputs of these pictures are not finite numbers")
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
    if precision == .half, let large = parameters.first(where: { !Float16($0).isFinite }) {
      throw ModelFileError.unusable(
        "half precision cannot hold its parameter \(large): single precision can")
    }
    let model = try ConvNeXt(configuration: configuration, parameters: parameters)
    var metadata = metadata
    metadata["config"] = nil
    metadata[Field.heads] = heads.count > 1 ? "\(heads)" : nil
    return try model.safetensors(precision: precision, metadata: metadata)
  }

  /// The model of one of several heads that were trained together.
  public func head(_ index: Int) throws -> ModelFile {
    let outputs = heads[..<index].reduce(0, +)..<heads[...index].reduce(0, +)
    var parameters: [Float] = []
    for entry in ParameterLayout(configuration).entries {
      guard Self.isOfHead(entry.name) else {
        parameters += self.parameters[entry.range]
        continue
      }
      let count = entry.range.count / configuration.bits
      let begin = entry.range.lowerBound
      parameters +=
        self.parameters[begin + outputs.lowerBound * count..<begin + outputs.upperBound * count]
    }
    return ModelFile(
      configuration: try configuration.with(bits: heads[index]), parameters: parameters,
      metadata: metadata)
  }

  /// The model whose codes have so many bits; nil where there is none.
  public func head(bits: Int) throws -> ModelFile? {
    try heads.firstIndex(of: bits).map { try head($0) }
  }

  private static func isOfHead(_ name: String) -> Bool { name.hasPrefix("head.fc.") }

  /// One model of several heads over the trunk that these have in common; all else is the first one's.
  public static func joined(_ models: [ModelFile]) throws -> ModelFile {
    var models = try models.flatMap { model in
      try model.heads.indices.map { try model.head($0) }
    }
    models.sort { $0.configuration.bits < $1.configuration.bits }
    let heads = models.map(\.configuration.bits)
    guard let first = models.first, Set(heads).count == heads.count else {
      throw ModelFileError.unusable("two of them make codes of one length")
    }
    for field in [
      Field.side, Field.classes, Field.dataset, Field.split, Field.splitSeed, Field.splitDigest,
      Field.stage, Field.preprocessing, Field.ancestors,
    ] where !models.allSatisfy({ $0.metadata[field] == first.metadata[field] }) {
      throw ModelFileError.unusable("they differ in '\(field)': they were not trained together")
    }
    let layouts = models.map { ParameterLayout($0.configuration) }
    var parameters: [Float] = []
    for (number, entry) in layouts[0].entries.enumerated() {
      let parts = zip(models, layouts).map { model, layout in
        model.parameters[layout.entries[number].range]
      }
      if Self.isOfHead(entry.name) {
        parameters += parts.joined()
      } else if parts.allSatisfy({ $0.elementsEqual(parts[0]) }) {
        parameters += parts[0]
      } else {
        throw ModelFileError.unusable("their trunks differ: they were not trained together")
      }
    }
    return ModelFile(
      configuration: try first.configuration.with(bits: heads.reduce(0, +)),
      parameters: parameters, metadata: first.metadata, heads: heads)
  }

  /// Parameters to begin a training with: this model's, for a network of other channels or outputs where need be.
  ///
  /// A stem of other channels than one becomes one of grey pictures by adding its kernels up: what it would see of a grey
  /// picture shown in all its channels. Heads of lengths that this model has none of begin anew. A file of three channels that says nothing of
  /// itself is one of timm's, whose pictures were normalised by the mean and deviation of ImageNet: that is worked into
  /// the stem.
  public func adapted(
    to wanted: ConvNeXtConfiguration, heads wantedHeads: [Int]? = nil, layerScale: Float,
    seed: UInt64
  ) throws -> [Float] {
    let wantedHeads = wantedHeads ?? [wanted.bits]
    let fits =
      wanted.depths == configuration.depths && wanted.dims == configuration.dims
      && (wanted.channels == configuration.channels || wanted.channels == 1)
    guard fits else { throw ModelFileError.otherTrunk(theirs: configuration, ours: wanted) }
    var parameters = ConvNeXt.initialParameters(wanted, layerScale: layerScale, seed: seed)
    let source = withOwnNormalization
    let (old, new) = (ParameterLayout(configuration), ParameterLayout(wanted))
    for entry in new.entries {
      guard let from = old.entry(named: entry.name) else { continue }
      if Self.isOfHead(entry.name) {
        let width = entry.range.count / wanted.bits
        for (index, bits) in wantedHeads.enumerated() {
          guard let own = heads.firstIndex(of: bits) else { continue }
          let (to, begin) = (
            wantedHeads[..<index].reduce(0, +) * width, heads[..<own].reduce(0, +) * width
          )
          parameters.replaceSubrange(
            entry.range.lowerBound + to..<entry.range.lowerBound + to + bits * width,
            with: source[
              from.range.lowerBound + begin..<from.range.lowerBound + begin + bits * width])
        }
      } else if from.shape == entry.shape {
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
