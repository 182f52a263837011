internal import CKernels

/// A network whose parameters change, and the passes through it that training and attacks need.
///
/// Batches are split between lanes, one thread each; see ``Lane``. One call at a time.
public final class TrainableNetwork: @unchecked Sendable {
  public let configuration: ConvNeXtConfiguration
  public let height: Int
  public let width: Int
  let network: NetworkParameters
  let lanes: [Lane]

  public var layout: ParameterLayout { network.layout }
  public var laneCount: Int { lanes.count }
  var parameterCount: Int { network.values.count }
  var imageElements: Int { configuration.channels * height * width }
  var blockCount: Int { configuration.depths.reduce(0, +) }

  /// - Parameters:
  ///   - parameters: the flat vector of ``ParameterLayout``.
  ///   - lanes: threads that share each batch.
  public init(
    configuration: ConvNeXtConfiguration, parameters: [Float], height: Int, width: Int, lanes: Int
  ) throws(ConvNeXtError) {
    precondition(lanes > 0, "\(lanes) lanes")
    let accepted = ConvNeXt.minimumImageExtent...ConvNeXt.maximumImageExtent
    if !accepted.contains(height) || !accepted.contains(width) {
      throw .unusableImageSize(height: height, width: width)
    }
    let layout = ParameterLayout(configuration)
    if parameters.count != layout.parameterCount {
      throw .wrongParameterCount(expected: layout.parameterCount, actual: parameters.count)
    }
    self.configuration = configuration
    self.height = height
    self.width = width
    let values = FloatBuffer(count: parameters.count)
    values.pointer.update(from: parameters, count: parameters.count)
    network = NetworkParameters(
      configuration: configuration, layout: layout, values: values, isTrained: true)
    self.lanes = (0..<lanes).map { _ in Lane(parameterCount: layout.parameterCount) }
  }

  public convenience init(_ model: ConvNeXt, height: Int, width: Int, lanes: Int)
    throws(ConvNeXtError)
  {
    try self.init(
      configuration: model.configuration,
      parameters: model.withUnsafeParameters { Array($0) }, height: height, width: width,
      lanes: lanes)
  }

  /// The parameters as they are now.
  public var parameters: [Float] {
    [Float](UnsafeBufferPointer(start: network.values.pointer, count: parameterCount))
  }

  /// Replaces all parameters.
  public func setParameters(_ parameters: [Float]) {
    precondition(
      parameters.count == parameterCount, "\(parameters.count) parameters, not \(parameterCount)")
    network.values.pointer.update(from: parameters, count: parameterCount)
    network.fold(lanes: laneCount)
  }

  func extent(_ count: Int) -> ImageExtent {
    ImageExtent(count: count, height: height, width: width, channels: configuration.channels)
  }

  // MARK: - Passes of one lane

  /// Outputs of some images, [count][l], and what ``backward`` then needs.
  func forward(
    lane: Lane, images: UnsafePointer<Float>, count: Int, outputs: UnsafeMutablePointer<Float>,
    branchFactors: UnsafePointer<Float>?
  ) {
    pass(lane.trained, count, .parameterGradient)
      .forward(images, outputs: outputs, branchFactors: branchFactors)
  }

  /// Adds to the lane's gradient, in the folded form, after a ``forward`` of as many images.
  func backward(
    lane: Lane, outputGradient: UnsafePointer<Float>, count: Int,
    branchFactors: UnsafePointer<Float>?, imageGradient: UnsafeMutablePointer<Float>? = nil
  ) {
    pass(lane.trained, count, .parameterGradient).backward(
      outputGradient, branchFactors: branchFactors, parameterGradient: lane.gradient.pointer,
      imageGradient: imageGradient)
  }

  /// The gradient of an objective with regard to images; `objective` gets the outputs, [count][l], and leaves the
  /// gradient with regard to them in their place.
  func imageGradient(
    lane: Lane, images: UnsafePointer<Float>, count: Int,
    into gradient: UnsafeMutablePointer<Float>,
    objective: (UnsafeMutablePointer<Float>) -> Void
  ) {
    let outputs = lane.scratch(Scratch.outputs, count: count * configuration.bits)
    let pass = pass(lane.attacked, count, .inputGradient)
    pass.forward(images, outputs: outputs)
    objective(outputs)
    pass.backward(outputs, parameterGradient: nil, imageGradient: gradient)
  }

  private func pass(
    _ workspace: ConvNeXtWorkspace, _ count: Int, _ purpose: PassMemory.Purpose
  ) -> NetworkPass {
    let input = extent(count)
    return NetworkPass(
      parameters: network,
      memory: workspace.prepare(configuration: configuration, input: input, purpose: purpose),
      input: input)
  }

  enum Scratch {
    static let outputs = 0
    static let images = 1
    static let imageGradient = 2
    static let factors = 3
  }

  /// Outputs of pictures of a set: [picture][l].
  /// - Parameter isCancelled: asked now and then; what then comes back is of no use.
  public func outputs(
    of set: TrainingSet, images: [Int], isCancelled: @Sendable () -> Bool = { false }
  ) -> [Float] {
    checkFits(set)
    return outputs(count: images.count, isCancelled: isCancelled) { number, out in
      out.update(from: set.image(images[number]), count: imageElements)
    }
  }

  func checkFits(_ set: TrainingSet) {
    precondition(
      height == set.height && width == set.width && configuration.channels == set.channels,
      "a network for \(extent(1)), pictures of \(set.channels) x \(set.height) x \(set.width)")
  }

  /// Outputs of images one after the other: [image][channels][height][width] gives [image][l].
  public func outputs(of images: [Float]) -> [Float] {
    precondition(images.count % imageElements == 0, "\(images.count) values")
    return images.withUnsafeBufferPointer { values in
      let base = values.baseAddress.map { SharedMemory(UnsafeMutablePointer(mutating: $0)) }
      return outputs(count: images.count / imageElements) { number, out in
        out.update(from: base!.pointer + number * imageElements, count: imageElements)
      }
    }
  }

  private func outputs(
    count: Int, isCancelled: @Sendable () -> Bool = { false },
    image: @Sendable (Int, UnsafeMutablePointer<Float>) -> Void
  ) -> [Float] {
    let bits = configuration.bits
    return [Float](unsafeUninitializedCapacity: count * bits) { out, written in
      written = count * bits
      guard let base = out.baseAddress else { return }
      out.initialize(repeating: 0)
      let results = SharedMemory(base)
      Lane.inParallel(laneCount) { [self] number in
        let lane = lanes[number]
        let share = Lane.share(of: count, lane: number, lanes: laneCount)
        for first in stride(from: share.lowerBound, to: share.upperBound, by: Self.passImages) {
          if isCancelled() { return }
          let range = first..<min(first + Self.passImages, share.upperBound)
          let images = lane.scratch(Scratch.images, count: range.count * imageElements)
          for (at, number) in range.enumerated() { image(number, images + at * imageElements) }
          let input = extent(range.count)
          let memory = lane.inferring.prepare(
            configuration: configuration, input: input, purpose: .inference)
          NetworkPass(parameters: network, memory: memory, input: input)
            .forward(images, outputs: results.pointer + first * bits)
        }
      }
    }
  }

  /// Images of one pass.
  private static let passImages = 16

  // MARK: - Gradients of all lanes

  /// Sums the lanes' gradients into that of the parameters, [parameterCount].
  func collectGradient() -> UnsafeMutablePointer<Float> {
    let sum = lanes[0].gradient.pointer
    if lanes.count > 1 {
      Lane.inParallel(lanes.count) { [self] lane in
        let range = Lane.share(of: parameterCount, lane: lane, lanes: lanes.count)
        for other in lanes.dropFirst() {
          sfmedir_add_scaled(
            other.gradient.pointer + range.lowerBound, 1,
            lanes[0].gradient.pointer + range.lowerBound, range.count)
        }
      }
    }
    network.unfold(sum)
    return sum
  }

  func clearGradients() {
    for lane in lanes { lane.gradient.pointer.update(repeating: 0, count: parameterCount) }
  }
}
