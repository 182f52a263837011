internal import CKernels

/// Where the parameters of each layer begin in the flat vector of ``ParameterLayout``.
struct ParameterMap: Sendable {
  struct Layer: Sendable {
    let weight: Int
    let bias: Int
  }

  /// A layer that is a matrix product: linear, or a convolution without overlap.
  struct Linear: Sendable {
    /// [outputs][inputs]
    let weight: Int
    let bias: Int
    let inputs: Int
    let outputs: Int
    /// Where its panels begin in ``NetworkParameters/panels``: for the product, and for the gradient of its input.
    let panels: Int
    let backwardPanels: Int
  }

  struct Block: Sendable {
    let width: Int
    let depthwise: Layer
    let normalization: Layer
    /// From d to 4 d channels.
    let expansion: Linear
    /// From 4 d back to d channels.
    let projection: Linear
    /// Layer scale, one factor a channel.
    let scale: Int
    /// Where the mirrored depthwise kernel stands in ``NetworkParameters/folded``.
    let mirroredKernel: Int
  }

  struct Downsampling: Sendable {
    /// Channels.
    let inputs: Int
    let outputs: Int
    let normalization: Layer
    let convolution: Linear
  }

  struct Stage: Sendable {
    /// Absent in the first stage, whose input is the stem.
    let downsampling: Downsampling?
    let blocks: [Block]
  }

  let stem: Linear
  let stemNormalization: Layer
  let stages: [Stage]
  let headNormalization: Layer
  let head: Linear
  /// The flat vector, and mirrored kernels after it.
  let foldedCount: Int
  let panelCount: Int
  /// All of them.
  let linears: [Linear]

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
    var (end, panelEnd) = (layout.parameterCount, 0)
    var linears: [Linear] = []
    func linear(_ name: String, inputs: Int, outputs: Int) -> Linear {
      let panels = panelEnd
      let backwardPanels = panels + sfmedir_panel_floats(inputs, outputs)
      panelEnd = backwardPanels + sfmedir_panel_floats(outputs, inputs)
      let layer = layer(name)
      let linear = Linear(
        weight: layer.weight, bias: layer.bias, inputs: inputs, outputs: outputs, panels: panels,
        backwardPanels: backwardPanels)
      linears.append(linear)
      return linear
    }
    func block(_ name: String, width: Int) -> Block {
      defer { end += NetworkParameters.kernelTaps * width }
      return Block(
        width: width, depthwise: layer("\(name).conv_dw"), normalization: layer("\(name).norm"),
        expansion: linear("\(name).mlp.fc1", inputs: width, outputs: 4 * width),
        projection: linear("\(name).mlp.fc2", inputs: 4 * width, outputs: width),
        scale: begin("\(name).gamma"), mirroredKernel: end)
    }
    let dims = configuration.dims
    stem = linear("stem.0", inputs: 16 * configuration.channels, outputs: dims[0])
    stemNormalization = layer("stem.1")
    stages = dims.indices.map { stage in
      Stage(
        downsampling: stage == 0
          ? nil
          : Downsampling(
            inputs: dims[stage - 1], outputs: dims[stage],
            normalization: layer("stages.\(stage).downsample.0"),
            convolution: linear(
              "stages.\(stage).downsample.1", inputs: 4 * dims[stage - 1], outputs: dims[stage])),
        blocks: (0..<configuration.depths[stage]).map {
          block("stages.\(stage).blocks.\($0)", width: dims[stage])
        })
    }
    headNormalization = layer("head.norm")
    head = linear("head.fc", inputs: dims[dims.count - 1], outputs: configuration.bits)
    foldedCount = end
    panelCount = panelEnd
    self.linears = linears
  }
}
