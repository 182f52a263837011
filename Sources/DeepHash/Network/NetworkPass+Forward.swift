internal import CKernels

extension NetworkPass {
  /// - Parameters:
  ///   - images: [count][channels][height][width], from 0 to 1.
  ///   - outputs: [count][l].
  ///   - branchFactors: [block][count]: what each block's branch is multiplied by for each image, for stochastic depth
  ///     (Huang et al., 2016); nil for 1.
  func forward(
    _ images: UnsafePointer<Float>, outputs: UnsafeMutablePointer<Float>,
    branchFactors: UnsafePointer<Float>? = nil, observer: ConvNeXt.Observer? = nil
  ) {
    applyStem(to: images)
    report(observer, "stem", memory.state, stageExtent(0))
    var factors = branchFactors
    for (index, stage) in map.stages.enumerated() {
      let extent = stageExtent(index)
      if let downsampling = stage.downsampling {
        applyDownsampling(downsampling, from: stageExtent(index - 1), to: extent, stage: index)
      }
      report(observer, "stage\(index).in", memory.state, extent)
      for (number, block) in stage.blocks.enumerated() {
        applyBlock(
          block, memory.stages[index].blocks[number], extent: extent, factors: factors,
          observer: observer, name: observer == nil ? "" : "stage\(index).block\(number).")
        factors = factors.map { $0 + input.count }
      }
      report(observer, "stage\(index)", memory.state, extent)
    }
    applyHead(outputs: outputs, observer: observer)
  }

  private func applyStem(to images: UnsafePointer<Float>) {
    let extent = stageExtent(0)
    sfmedir_gather_4x4_planar(
      images, Self.pixelMean, Self.pixelScale, memory.stemPatches, input.count, input.channels,
      input.height, input.width)
    sfmedir_repeat_row(folded(map.stem.bias), memory.state, extent.rows, extent.channels)
    apply(map.stem, to: memory.stemPatches, output: memory.state, rows: extent.rows, adds: true)
    standardize(memory.state, memory.stem, extent)
    sfmedir_scale_and_shift_rows(
      memory.stem.standardized, folded(map.stemNormalization.weight),
      folded(map.stemNormalization.bias), memory.state, extent.rows, extent.channels)
  }

  private func applyDownsampling(
    _ downsampling: ParameterMap.Downsampling, from input: ImageExtent, to output: ImageExtent,
    stage: Int
  ) {
    guard let normalization = memory.stages[stage].downsampling else {
      preconditionFailure("stage \(stage) has no memory for its downsampling")
    }
    standardize(memory.state, normalization, input)
    sfmedir_gather_2x2(
      normalization.standardized, memory.patches, input.count, input.height, input.width,
      input.channels)
    sfmedir_repeat_row(
      folded(downsampling.convolution.bias), memory.state, output.rows, output.channels)
    apply(
      downsampling.convolution, to: memory.patches, output: memory.state, rows: output.rows,
      adds: true)
  }

  private func applyBlock(
    _ block: ParameterMap.Block, _ kept: PassMemory.Block, extent: ImageExtent,
    factors: UnsafePointer<Float>?, observer: ConvNeXt.Observer?, name: String
  ) {
    let channels = extent.channels
    forEachTile(of: extent) { first, tile in
      let (row, rows) = (first * extent.pixels, tile.rows)
      let state = memory.state + row * channels
      let padded = kept.padded.at(first * extent.paddedImageElements)
      let standardized = kept.standardized.at(row * channels)
      let hidden = kept.hidden.at(4 * row * channels)
      let derivative = kept.derivative.at(4 * row * channels)
      sfmedir_pad_for_depthwise_7x7(
        state, padded, tile.count, tile.height, tile.width, channels)
      sfmedir_depthwise_7x7(
        padded, folded(block.depthwise.weight), folded(block.depthwise.bias), 0, memory.branch,
        tile.count, tile.height, tile.width, channels)
      report(observer, name + "conv_dw", memory.branch, tile)
      sfmedir_standardize_rows(
        memory.branch, Self.normalizationEpsilon, standardized, kept.scales.at(row), rows, channels)
      apply(block.expansion, to: standardized, output: derivative, rows: rows)
      if let observer {
        observeExpansion(block, observer, name, tile, standardized: standardized, derivative)
      }
      activate(derivative, hidden, block, tile, factors: factors.map { $0 + first })
      if let observer { observeProjection(block, observer, name, tile, hidden: hidden) }
      addBias(of: block, to: state, tile, factors: factors.map { $0 + first })
      apply(block.projection, to: hidden, output: state, rows: rows, adds: true)
    }
  }

  /// derivative: the values before the activation function; the derivative afterwards, where it is kept.
  private func activate(
    _ derivative: UnsafeMutablePointer<Float>, _ hidden: UnsafeMutablePointer<Float>,
    _ block: ParameterMap.Block, _ tile: ImageExtent, factors: UnsafePointer<Float>?
  ) {
    let width = 4 * tile.channels
    let bias = folded(block.expansion.bias)
    guard memory.purpose > .inference else {
      sfmedir_gelu(derivative, bias, hidden, tile.rows, width)
      return
    }
    guard let factors else {
      sfmedir_gelu_with_derivative(derivative, bias, 1, hidden, tile.rows, width)
      return
    }
    for image in 0..<tile.count {
      let at = image * tile.pixels * width
      sfmedir_gelu_with_derivative(
        derivative + at, bias, factors[image], hidden + at, tile.pixels, width)
    }
  }

  private func addBias(
    of block: ParameterMap.Block, to state: UnsafeMutablePointer<Float>, _ tile: ImageExtent,
    factors: UnsafePointer<Float>?
  ) {
    let bias = folded(block.projection.bias)
    guard let factors else {
      sfmedir_add_row(bias, 1, state, tile.rows, tile.channels)
      return
    }
    for image in 0..<tile.count {
      sfmedir_add_row(
        bias, factors[image], state + image * tile.pixels * tile.channels, tile.pixels,
        tile.channels)
    }
  }

  private func applyHead(outputs: UnsafeMutablePointer<Float>, observer: ConvNeXt.Observer?) {
    let extent = lastExtent
    let pooled = memory.head.standardized
    sfmedir_mean_of_rows(memory.state, pooled, extent.count, extent.pixels, extent.channels)
    let single = ImageExtent(count: extent.count, height: 1, width: 1, channels: extent.channels)
    report(observer, "pooled", pooled, single)
    standardize(pooled, memory.head, single)
    let bits = parameters.configuration.bits
    sfmedir_repeat_row(folded(map.head.bias), outputs, extent.count, bits)
    apply(
      map.head, to: memory.head.standardized, output: outputs, rows: extent.count, adds: true)
  }

  private func standardize(
    _ values: UnsafePointer<Float>, _ to: PassMemory.Normalization, _ extent: ImageExtent
  ) {
    sfmedir_standardize_rows(
      values, Self.normalizationEpsilon, to.standardized, to.scales, extent.rows, extent.channels)
  }

  // MARK: - What is seen between layers

  private func report(
    _ observer: ConvNeXt.Observer?, _ name: @autoclosure () -> String,
    _ values: UnsafePointer<Float>, _ extent: ImageExtent
  ) {
    if let observer {
      observer(name(), UnsafeBufferPointer(start: values, count: extent.elements), extent)
    }
  }

  /// The normalisation's output and the first pointwise layer's, which folding has moved into other numbers.
  private func observeExpansion(
    _ block: ParameterMap.Block, _ observer: @escaping ConvNeXt.Observer, _ name: String,
    _ tile: ImageExtent, standardized: UnsafePointer<Float>, _ products: UnsafePointer<Float>
  ) {
    let values = parameters.values.pointer
    var normalized = [Float](repeating: 0, count: tile.elements)
    sfmedir_scale_and_shift_rows(
      standardized, values + block.normalization.weight, values + block.normalization.bias,
      &normalized, tile.rows, tile.channels)
    report(observer, name + "norm", normalized, tile)
    var expanded = [Float](UnsafeBufferPointer(start: products, count: 4 * tile.elements))
    sfmedir_add_row(
      folded(block.expansion.bias), 1, &expanded, tile.rows, 4 * tile.channels)
    report(observer, name + "fc1", expanded, tile.divided(by: 1, channels: 4 * tile.channels))
  }

  /// The second pointwise layer's output before the layer scale.
  private func observeProjection(
    _ block: ParameterMap.Block, _ observer: @escaping ConvNeXt.Observer, _ name: String,
    _ tile: ImageExtent, hidden: UnsafePointer<Float>
  ) {
    let values = parameters.values.pointer
    var projected = [Float](repeating: 0, count: tile.elements)
    sfmedir_repeat_row(
      values + block.projection.bias, &projected, tile.rows, tile.channels)
    MatrixProduct.apply(
      values + block.projection.weight, to: hidden, output: &projected, rows: tile.rows,
      inputs: 4 * tile.channels, outputs: tile.channels, adds: true)
    report(observer, name + "fc2", projected, tile)
  }
}
