internal import CKernels

/// A pass of some images through a network, forwards and back, on the caller's thread.
struct NetworkPass {
  let parameters: NetworkParameters
  let memory: PassMemory
  /// The images; planar, [count][channels][height][width].
  let input: ImageExtent

  /// Epsilon of every layer normalisation, as the published networks have it.
  static let normalizationEpsilon: Float = 1e-6
  /// Pixels from 0 to 1 enter the stem as (x - 0.5) / 0.25.
  static let pixelMean: Float = 0.5
  static let pixelScale: Float = 4

  init(parameters: NetworkParameters, memory: PassMemory, input: ImageExtent) {
    precondition(
      memory.fits(input, configuration: parameters.configuration, purpose: memory.purpose),
      "memory for \(memory.capacity) does not serve \(input)")
    self.parameters = parameters
    self.memory = memory
    self.input = input
  }

  var map: ParameterMap { parameters.map }
  /// After the stem or the downsampling of that stage.
  func stageExtent(_ stage: Int) -> ImageExtent { memory.extents[stage].with(count: input.count) }
  var lastExtent: ImageExtent { stageExtent(memory.extents.count - 1) }

  /// What the kernels read.
  func folded(_ offset: Int) -> UnsafePointer<Float> {
    UnsafePointer(parameters.folded.pointer + offset)
  }

  /// A layer's product: out[r][o] = sum over i of in[r][i] * weight[o][i], added to what is there where `adds`.
  func apply(
    _ layer: ParameterMap.Linear, to input: UnsafePointer<Float>,
    output: UnsafeMutablePointer<Float>, rows: Int, adds: Bool = false
  ) {
    sfmedir_panel_product(
      input, parameters.panels.pointer + layer.panels, output, rows, layer.inputs, layer.outputs,
      adds ? 1 : 0)
  }

  /// The layer's gradient with regard to its input: in[r][i] = sum over o of out[r][o] * weight[o][i].
  func applyBackward(
    _ layer: ParameterMap.Linear, to gradient: UnsafePointer<Float>,
    output: UnsafeMutablePointer<Float>, rows: Int
  ) {
    sfmedir_panel_product(
      gradient, parameters.panels.pointer + layer.backwardPanels, output, rows, layer.outputs,
      layer.inputs, 0)
  }

  /// Adds a layer's gradient with regard to its weight and its bias.
  func addGradient(
    of layer: ParameterMap.Linear, _ gradient: UnsafePointer<Float>, input: UnsafePointer<Float>,
    rows: Int, to parameterGradient: UnsafeMutablePointer<Float>, withBias: Bool = true
  ) {
    MatrixProduct.addWeightGradient(
      gradient, input: input, to: parameterGradient + layer.weight, rows: rows,
      inputs: layer.inputs, outputs: layer.outputs)
    if withBias {
      sfmedir_add_column_sums(
        gradient, 1, parameterGradient + layer.bias, rows, layer.outputs)
    }
  }

  /// Calls for each tile with the number of its first image and its extent.
  func forEachTile(of extent: ImageExtent, _ body: (Int, ImageExtent) -> Void) {
    let size = extent.tileImages
    for first in stride(from: 0, to: extent.count, by: size) {
      body(first, extent.with(count: min(size, extent.count - first)))
    }
  }
}
