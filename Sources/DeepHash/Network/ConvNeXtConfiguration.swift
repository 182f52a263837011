/// The sizes that make a ConvNeXt hashing network (Liu et al., "A ConvNet for the 2020s", 2022, with a
/// linear layer of l outputs as its head).
public struct ConvNeXtConfiguration: Hashable, Sendable {
  /// A ConvNeXt always has four stages.
  public static let stageCount = 4

  /// Channels of the input image: 1 for grey, 3 for colour.
  public let channels: Int
  /// Blocks of each of the four stages.
  public let depths: [Int]
  /// Channels of each of the four stages.
  public let dims: [Int]
  /// Outputs: the length of the hash code, l, or of several codes whose heads are trained over one trunk.
  public let bits: Int

  /// Largest of each size that is accepted: far above any published ConvNeXt, and small enough that
  /// no product of sizes overflows.
  static let maximumChannels = 16
  static let maximumDepth = 64
  static let maximumWidth = 4096
  static let maximumOutputs = 1 << 15
  /// Parameters, before anything is allocated for them: a published ConvNeXt-L has 198 million.
  static let maximumParameters = 1 << 28

  public init(channels: Int, depths: [Int], dims: [Int], bits: Int) throws(ConvNeXtError) {
    func check(_ holds: Bool, _ reason: String) throws(ConvNeXtError) {
      if !holds { throw .unusableConfiguration(reason: reason) }
    }
    let stages = Self.stageCount
    try check(depths.count == stages && dims.count == stages, "there are four stages")
    try check((1...Self.maximumChannels).contains(channels), "\(channels) input channels")
    try check(depths.allSatisfy { (1...Self.maximumDepth).contains($0) }, "depths of \(depths)")
    try check(dims.allSatisfy { (1...Self.maximumWidth).contains($0) }, "widths of \(dims)")
    try check((1...Self.maximumOutputs).contains(bits), "\(bits) outputs")
    self.channels = channels
    self.depths = depths
    self.dims = dims
    self.bits = bits
    try check(
      roughParameterCount <= Self.maximumParameters, "about \(roughParameterCount) parameters")
  }

  /// Of kernels and matrices.
  private var roughParameterCount: Int {
    var count = 16 * channels * dims[0] + dims[Self.stageCount - 1] * bits
    for (stage, width) in dims.enumerated() {
      count += depths[stage] * (8 * width * width + 49 * width)
      if stage > 0 { count += 4 * dims[stage - 1] * width }
    }
    return count
  }

  /// The same trunk with another number of outputs.
  public func with(bits: Int) throws(ConvNeXtError) -> ConvNeXtConfiguration {
    try ConvNeXtConfiguration(channels: channels, depths: depths, dims: dims, bits: bits)
  }

  /// Multiply-adds of the convolutions and linear layers for one image.
  public func multiplyAdds(height: Int, width: Int) -> Int {
    let input = ImageExtent(count: 1, height: height, width: width, channels: channels)
    let extents = input.stages(of: self)
    var sum = extents[0].elements * 16 * channels + dims[dims.count - 1] * bits
    for (stage, extent) in extents.enumerated() {
      if stage > 0 { sum += extent.elements * 4 * dims[stage - 1] }
      sum += depths[stage] * extent.elements * (49 + 8 * extent.channels)
    }
    return sum
  }

  /// Reads the sizes off the shapes of a checkpoint's tensors, which decide what the network is.
  init(tensors: [String: Tensor]) throws(ConvNeXtError) {
    func shape(_ name: String, dimensions: Int) throws(ConvNeXtError) -> [Int] {
      guard let tensor = tensors[name] else { throw .missingTensor(name) }
      if tensor.shape.count != dimensions {
        throw .wrongDimensionCount(name: name, expected: dimensions, actual: tensor.shape)
      }
      return tensor.shape
    }
    let stem = try shape("stem.0.weight", dimensions: 4)
    var dims = [stem[0]]
    for stage in 1..<Self.stageCount {
      dims.append(try shape("stages.\(stage).downsample.1.weight", dimensions: 4)[0])
    }
    var depths: [Int] = []
    for stage in 0..<Self.stageCount {
      var depth = 0
      while depth <= Self.maximumDepth, tensors["stages.\(stage).blocks.\(depth).gamma"] != nil {
        depth += 1
      }
      if depth == 0 { throw .missingTensor("stages.\(stage).blocks.0.gamma") }
      depths.append(depth)
    }
    let head = try shape("head.fc.weight", dimensions: 2)
    try self.init(channels: stem[1], depths: depths, dims: dims, bits: head[0])
  }

  /// Reads the sizes from the JSON text that checkpoints carry under the metadata name `config`.
  init(metadata text: String) throws(ConvNeXtError) {
    let value = try? BoundedJSONParser.parse(Array(text.utf8))
    guard let value, case .count(let channels)? = value["chans"],
      let depths = value["depths"]?.counts, let dims = value["dims"]?.counts,
      case .count(let bits)? = value["bits"]
    else {
      throw .unusableConfiguration(reason: "the metadata hold no chans, depths, dims and bits")
    }
    try self.init(channels: channels, depths: depths, dims: dims, bits: bits)
  }

  /// The JSON text that ``init(metadata:)`` reads.
  var metadata: String {
    "{\"chans\":\(channels),\"depths\":\(depths),\"dims\":\(dims),\"bits\":\(bits)}"
  }
}

extension ConvNeXtConfiguration: CustomStringConvertible {
  public var description: String {
    "\(channels) channels, depths \(depths), dims \(dims), \(bits) bits"
  }
}
