import DeepHash

/// A model as it is written, in half precision as a rule, and what that did to its codes.
public struct CompactModel: Sendable {
  /// The whole file.
  public let bytes: [UInt8]
  /// Pictures of which codes were made by both.
  public let pictures: Int
  /// Numbers in the set of those whose codes differ.
  public let changed: [Int]
  /// Largest change of an output of the network.
  public let largestChange: Float

  /// - Parameters:
  ///   - precision: of the file.
  ///   - set: pictures of the size that the model takes.
  ///   - lanes: threads.
  ///   - isCancelled: asked now and then; a `CancellationError` ends the work then.
  public init(
    _ model: ModelFile, precision: SafetensorsWriter.Precision = .half,
    comparedOn set: TrainingSet, lanes: Int, isCancelled: @Sendable () -> Bool = { false }
  ) throws {
    bytes = try model.encoded(precision: precision)
    let images = Array(0..<set.count)
    func outputs(_ model: ModelFile) throws -> [Float] {
      let outputs = try TrainableNetwork(
        configuration: model.configuration, parameters: model.parameters, height: set.height,
        width: set.width, lanes: lanes
      ).outputs(of: set, images: images, isCancelled: isCancelled)
      if isCancelled() { throw CancellationError() }
      try ModelFile.checkAreNumbers(outputs)
      return outputs
    }
    let (before, after) = (try outputs(model), try outputs(ModelFile(safetensors: bytes)))
    let bits = model.configuration.bits
    pictures = set.count
    changed = images.filter { image in
      (image * bits..<(image + 1) * bits).contains { (before[$0] >= 0) != (after[$0] >= 0) }
    }
    largestChange = zip(before, after).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }
}
