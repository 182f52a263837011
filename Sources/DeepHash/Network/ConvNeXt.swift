/// A ConvNeXt network whose l outputs give a binary hash code of an image.
///
/// Architecture: 4 x 4 stem with stride 4 and layer normalisation; four stages of blocks (depthwise 7 x 7
/// convolution, layer normalisation, pointwise layer to four times the width, exact GELU, pointwise layer
/// back, layer scale, residual connection), with layer normalisation and a 2 x 2 convolution of stride 2
/// before each stage but the first; mean over the pixels, layer normalisation, linear layer of l outputs.
/// Every layer normalisation has epsilon 1e-6. Strided convolutions drop rows and columns that do not fill
/// a kernel.
///
/// The parameters never change, so one value serves any number of threads at once. The same machine
/// computes the same outputs for the same image, up to a relative 1e-6 between batches of different size,
/// because products of other sizes add in another order; so do different processors.
public struct ConvNeXt: Sendable {
  /// Smallest height and width that leave one pixel after the last stage.
  public static let minimumImageExtent = 32
  /// Largest height and width that are accepted; it bounds the memory of one pass.
  public static let maximumImageExtent = 2048

  public let configuration: ConvNeXtConfiguration

  let network: NetworkParameters
  let workspaces = WorkspacePool()

  /// Where each parameter lies in the flat vector of ``withUnsafeParameters(_:)``.
  public var layout: ParameterLayout { network.layout }

  /// Makes a network of parameters in one flat vector, ordered as ``ParameterLayout`` says.
  public init(
    configuration: ConvNeXtConfiguration, parameters: [Float]
  ) throws(ConvNeXtError) {
    let layout = ParameterLayout(configuration)
    if parameters.count != layout.parameterCount {
      throw .wrongParameterCount(expected: layout.parameterCount, actual: parameters.count)
    }
    let buffer = FloatBuffer(count: parameters.count)
    parameters.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { buffer.pointer.update(from: base, count: source.count) }
    }
    try self.init(configuration: configuration, layout: layout, parameters: buffer)
  }

  init(
    configuration: ConvNeXtConfiguration, layout: ParameterLayout, parameters: FloatBuffer
  ) throws(ConvNeXtError) {
    for entry in layout.entries {
      for index in entry.range where !parameters.pointer[index].isFinite {
        throw .nonFiniteValue(name: entry.name)
      }
    }
    self.configuration = configuration
    network = NetworkParameters(
      configuration: configuration, layout: layout, values: parameters, isTrained: false)
  }

  /// Lends all parameters as one flat vector, ordered as ``layout`` says.
  public func withUnsafeParameters<Result>(
    _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    try withExtendedLifetime(network) {
      let parameters = network.values
      return try body(UnsafeBufferPointer(start: parameters.pointer, count: parameters.count))
    }
  }
}

// MARK: - Inference

extension ConvNeXt {
  /// The l outputs of each image, before any sign or tanh: [count][l].
  ///
  /// batch: [count][channels][height][width], values from 0 to 1.
  public func forward(
    batch: [Float], count: Int, height: Int, width: Int
  ) throws(ConvNeXtError) -> [Float] {
    try checkImageSize(height: height, width: width)
    return [Float](unsafeUninitializedCapacity: count * configuration.bits) { outputs, written in
      batch.withUnsafeBufferPointer { batch in
        workspaces.withWorkspace { workspace in
          runPasses(
            batch: batch, count: count, height: height, width: width, outputs: outputs,
            workspace: workspace)
        }
      }
      written = count * configuration.bits
    }
  }

  /// As ``forward(batch:count:height:width:)``, in memory of the caller's: a call that repeats the sizes
  /// of the one before allocates nothing.
  ///
  /// batch: [count][channels][height][width], values from 0 to 1; outputs: [count][l].
  public func forward(
    batch: UnsafeBufferPointer<Float>, count: Int, height: Int, width: Int,
    outputs: UnsafeMutableBufferPointer<Float>, workspace: ConvNeXtWorkspace
  ) throws(ConvNeXtError) {
    try checkImageSize(height: height, width: width)
    runPasses(
      batch: batch, count: count, height: height, width: width, outputs: outputs,
      workspace: workspace)
  }

  /// The hash code of one image: [channels][height][width], values from 0 to 1.
  public func hashCode(
    of pixels: [Float], height: Int, width: Int
  ) throws(ConvNeXtError) -> HashCode {
    HashCode(outputs: try forward(batch: pixels, count: 1, height: height, width: width))
  }

  /// The hash codes of several images: [count][channels][height][width], values from 0 to 1.
  public func hashCodes(
    ofBatch batch: [Float], count: Int, height: Int, width: Int
  ) throws(ConvNeXtError) -> [HashCode] {
    let outputs = try forward(batch: batch, count: count, height: height, width: width)
    return (0..<count).map { image in
      let begin = image * configuration.bits
      return HashCode(outputs: outputs[begin..<begin + configuration.bits])
    }
  }

  private func checkImageSize(height: Int, width: Int) throws(ConvNeXtError) {
    let accepted = Self.minimumImageExtent...Self.maximumImageExtent
    if !accepted.contains(height) || !accepted.contains(width) {
      throw .unusableImageSize(height: height, width: width)
    }
  }
}
