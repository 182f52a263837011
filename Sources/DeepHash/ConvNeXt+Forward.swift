internal import CKernels

extension ConvNeXt {
  /// Sees the activations between layers: their name, and their values interleaved.
  package typealias Observer = (
    _ name: String, _ values: UnsafeBufferPointer<Float>, _ extent: ImageExtent
  ) -> Void

  /// Epsilon of every layer normalisation, as the published networks have it.
  static let normalizationEpsilon: Float = 1e-6

  /// Pixels from 0 to 1 enter the stem as (x - 0.5) / 0.25.
  private static let pixelMean: Float = 0.5
  private static let pixelScale: Float = 4

  /// Elements of the widest activations that one pass may have. More images at once read the weights less
  /// often; beyond this the activations themselves no longer stay in the processor's cache.
  private static let passElements = 1 << 18

  /// Runs a batch of any size in passes that the caches hold.
  func runPasses(
    batch: UnsafeBufferPointer<Float>, count: Int, height: Int, width: Int,
    outputs: UnsafeMutableBufferPointer<Float>, workspace: ConvNeXtWorkspace
  ) {
    precondition(count >= 0, "a batch of \(count) images")
    let imageElements = configuration.channels * height * width
    precondition(
      batch.count == count * imageElements,
      "\(batch.count) values for \(count) images of \(imageElements)")
    precondition(
      outputs.count >= count * configuration.bits,
      "room for \(outputs.count) outputs of \(count) images with \(configuration.bits) each")
    guard count > 0, let images = batch.baseAddress, let results = outputs.baseAddress else {
      return
    }
    let widest = (height / 4) * (width / 4) * 4 * configuration.dims[0]
    let imagesPerPass = max(1, Self.passElements / widest)
    for first in stride(from: 0, to: count, by: imagesPerPass) {
      let input = ImageExtent(
        count: min(imagesPerPass, count - first), height: height, width: width,
        channels: configuration.channels)
      runPass(
        images: images + first * imageElements, input: input,
        outputs: results + first * configuration.bits, workspace: workspace, observer: nil)
    }
  }

  /// Runs one batch at once and shows the activations between layers; for checks against other
  /// implementations.
  package func observe(
    batch: [Float], count: Int, height: Int, width: Int, observer: @escaping Observer
  ) -> [Float] {
    let input = ImageExtent(
      count: count, height: height, width: width, channels: configuration.channels)
    precondition(batch.count == input.elements, "\(batch.count) values for \(input)")
    var outputs = [Float](repeating: 0, count: count * configuration.bits)
    workspaces.withWorkspace { workspace in
      runPass(
        images: batch, input: input, outputs: &outputs, workspace: workspace, observer: observer)
    }
    return outputs
  }

  /// images: planar, `input.elements` values; outputs: [count][l].
  private func runPass(
    images: UnsafePointer<Float>, input: ImageExtent, outputs: UnsafeMutablePointer<Float>,
    workspace: ConvNeXtWorkspace, observer: Observer?
  ) {
    let plan = workspace.prepare(configuration: configuration, input: input)
    withExtendedLifetime(weights) {
      applyStem(to: images, input: input, output: plan.stages[0], in: workspace)
      report(observer, "stem", workspace.state, plan.stages[0])
      for (index, stage) in weights.stages.enumerated() {
        let extent = plan.stages[index]
        if let downsampling = stage.downsampling {
          applyDownsampling(
            downsampling, from: plan.stages[index - 1], to: extent, in: workspace)
        }
        report(observer, "stage\(index).in", workspace.state, extent)
        for (number, block) in stage.blocks.enumerated() {
          let name = observer == nil ? "" : "stage\(index).block\(number)."
          applyBlock(block, extent: extent, in: workspace, name: name, observer: observer)
        }
        report(observer, "stage\(index)", workspace.state, extent)
      }
      applyHead(
        extent: plan.stages[plan.stages.count - 1], outputs: outputs, in: workspace,
        observer: observer)
    }
  }

  private func applyStem(
    to images: UnsafePointer<Float>, input: ImageExtent, output: ImageExtent,
    in workspace: ConvNeXtWorkspace
  ) {
    sfmedir_gather_4x4_planar(
      images, Self.pixelMean, Self.pixelScale, workspace.patches, input.count, input.channels,
      input.height, input.width)
    MatrixProduct.apply(
      weights.stem, to: workspace.patches, output: workspace.state, rows: output.rows,
      inputs: 16 * input.channels, outputs: output.channels)
    normalize(
      workspace.state, weights.stemNormalization, output: workspace.state, rows: output.rows,
      channels: output.channels)
  }

  private func applyDownsampling(
    _ downsampling: DownsamplingWeights, from input: ImageExtent, to output: ImageExtent,
    in workspace: ConvNeXtWorkspace
  ) {
    normalize(
      workspace.state, downsampling.normalization, output: workspace.branch, rows: input.rows,
      channels: input.channels)
    sfmedir_gather_2x2(
      workspace.branch, workspace.patches, input.count, input.height, input.width, input.channels)
    MatrixProduct.apply(
      downsampling.convolution, to: workspace.patches, output: workspace.state, rows: output.rows,
      inputs: 4 * input.channels, outputs: output.channels)
  }

  private func applyBlock(
    _ block: BlockWeights, extent: ImageExtent, in workspace: ConvNeXtWorkspace, name: String,
    observer: Observer?
  ) {
    let (rows, channels) = (extent.rows, extent.channels)
    let (branch, hidden) = (workspace.branch, workspace.hidden)
    sfmedir_pad_for_depthwise_7x7(
      workspace.state, workspace.padded, extent.count, extent.height, extent.width, channels)
    sfmedir_depthwise_7x7(
      workspace.padded, block.depthwise.weight, block.depthwise.bias, branch, extent.count,
      extent.height, extent.width, channels)
    report(observer, name + "conv_dw", branch, extent)
    normalize(branch, block.normalization, output: branch, rows: rows, channels: channels)
    report(observer, name + "norm", branch, extent)
    MatrixProduct.apply(
      block.expansion, to: branch, output: hidden, rows: rows, inputs: channels,
      outputs: 4 * channels)
    report(observer, name + "fc1", hidden, extent.divided(by: 1, channels: 4 * channels))
    sfmedir_gelu(hidden, hidden, rows * 4 * channels)
    MatrixProduct.apply(
      block.projection, to: hidden, output: branch, rows: rows, inputs: 4 * channels,
      outputs: channels)
    report(observer, name + "fc2", branch, extent)
    sfmedir_add_scaled_rows(branch, block.scale, workspace.state, rows, channels)
  }

  private func applyHead(
    extent: ImageExtent, outputs: UnsafeMutablePointer<Float>, in workspace: ConvNeXtWorkspace,
    observer: Observer?
  ) {
    let (count, channels) = (extent.count, extent.channels)
    let pooled = workspace.branch
    sfmedir_mean_of_rows(
      workspace.state, pooled, count, extent.height * extent.width, channels)
    let single = ImageExtent(count: count, height: 1, width: 1, channels: channels)
    report(observer, "pooled", pooled, single)
    normalize(pooled, weights.headNormalization, output: pooled, rows: count, channels: channels)
    MatrixProduct.apply(
      weights.head, to: pooled, output: outputs, rows: count, inputs: channels,
      outputs: configuration.bits)
  }

  private func normalize(
    _ input: UnsafePointer<Float>, _ layer: AffineWeights, output: UnsafeMutablePointer<Float>,
    rows: Int, channels: Int
  ) {
    sfmedir_layer_normalization(
      input, layer.weight, layer.bias, Self.normalizationEpsilon, output, rows, channels)
  }

  private func report(
    _ observer: Observer?, _ name: @autoclosure () -> String, _ values: UnsafePointer<Float>,
    _ extent: ImageExtent
  ) {
    if let observer {
      observer(name(), UnsafeBufferPointer(start: values, count: extent.elements), extent)
    }
  }
}
