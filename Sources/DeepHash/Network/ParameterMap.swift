/// Where the parameters of each layer begin in the flat vector of ``ParameterLayout``.
struct ParameterMap: Sendable {
  struct Layer: Sendable {
    let weight: Int
    let bias: Int
  }

  struct Block: Sendable {
    let width: Int
    let depthwise: Layer
    let normalization: Layer
    /// From d to 4 d channels.
    let expansion: Layer
    /// From 4 d back to d channels.
    let projection: Layer
    /// Layer scale, one factor a channel.
    let scale: Int
    /// Where the mirrored depthwise kernel stands in ``NetworkParameters/folded``.
    let mirroredKernel: Int
  }

  struct Downsampling: Sendable {
    let inputs: Int
    let outputs: Int
    let normalization: Layer
    let convolution: Layer
  }

  struct Stage: Sendable {
    /// Absent in the first stage, whose input is the stem.
    let downsampling: Downsampling?
    let blocks: [Block]
  }

  let stem: Layer
  let stemNormalization: Layer
  let stages: [Stage]
  let headNormalization: Layer
  let head: Layer
  /// The flat vector, and mirrored kernels after it.
  let foldedCount: Int

  init(configuration: ConvNeXtConfiguration, layout: ParameterLayout) {
    func begin(_ name: String) -> Int {
      guard let entry = layout.entry(named: name) else {
        preconditionFailure("the layout has no parameter \(name)")
      }
      return entry.range.lowerBound
    }
    func layer(_ name: String) -> Layer {
      Layer(weight: begin("\(name).weight"), bias: begin("\(name).bias"))
    }
    var end = layout.parameterCount
    func block(_ name: String, width: Int) -> Block {
      defer { end += NetworkParameters.kernelTaps * width }
      return Block(
        width: width, depthwise: layer("\(name).conv_dw"), normalization: layer("\(name).norm"),
        expansion: layer("\(name).mlp.fc1"), projection: layer("\(name).mlp.fc2"),
        scale: begin("\(name).gamma"), mirroredKernel: end)
    }
    let dims = configuration.dims
    stem = layer("stem.0")
    stemNormalization = layer("stem.1")
    stages = dims.indices.map { stage in
      Stage(
        downsampling: stage == 0
          ? nil
          : Downsampling(
            inputs: dims[stage - 1], outputs: dims[stage],
            normalization: layer("stages.\(stage).downsample.0"),
            convolution: layer("stages.\(stage).downsample.1")),
        blocks: (0..<configuration.depths[stage]).map {
          block("stages.\(stage).blocks.\($0)", width: dims[stage])
        })
    }
    headNormalization = layer("head.norm")
    head = layer("head.fc")
    foldedCount = end
  }
}
