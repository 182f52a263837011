internal import CKernels

extension NetworkPass {
  /// From the gradient with regard to the outputs of the forward pass before it to those with regard to what went in.
  ///
  /// - Parameters:
  ///   - outputGradient: [count][l].
  ///   - branchFactors: those of the forward pass.
  ///   - parameterGradient: the flat vector of ``ParameterLayout``, in the folded form; the gradient is added to it.
  ///     Nil where only the images' is wanted.
  ///   - imageGradient: [count][channels][height][width]; nil where it is not wanted.
  func backward(
    _ outputGradient: UnsafePointer<Float>, branchFactors: UnsafePointer<Float>? = nil,
    parameterGradient: UnsafeMutablePointer<Float>?, imageGradient: UnsafeMutablePointer<Float>?
  ) {
    precondition(
      memory.purpose == (parameterGradient == nil ? .inputGradient : .parameterGradient),
      "the forward pass kept what \(memory.purpose) needs")
    reverseHead(outputGradient, parameterGradient)
    let blocks = map.stages.reduce(0) { $0 + $1.blocks.count }
    var factors = branchFactors.map { $0 + blocks * input.count }
    for index in map.stages.indices.reversed() {
      let stage = map.stages[index]
      for number in stage.blocks.indices.reversed() {
        factors = factors.map { $0 - input.count }
        reverseBlock(
          stage.blocks[number], memory.stages[index].blocks[number], extent: stageExtent(index),
          factors: factors, parameterGradient)
      }
      if let downsampling = stage.downsampling {
        reverseDownsampling(
          downsampling, from: stageExtent(index - 1), to: stageExtent(index), stage: index,
          parameterGradient)
      }
    }
    reverseStem(parameterGradient, imageGradient)
  }

  private func reverseHead(
    _ outputGradient: UnsafePointer<Float>, _ parameterGradient: UnsafeMutablePointer<Float>?
  ) {
    let extent = lastExtent
    let (count, channels) = (extent.count, extent.channels)
    if let parameterGradient {
      addGradient(
        of: map.head, outputGradient, input: memory.head.standardized, rows: count,
        to: parameterGradient)
    }
    let pooled = memory.nextGradient
    applyBackward(map.head, to: outputGradient, output: pooled, rows: count)
    sfmedir_standardize_rows_backward(
      pooled, memory.head.standardized, memory.head.scales, pooled, count, channels)
    sfmedir_mean_of_rows_backward(pooled, memory.gradient, count, extent.pixels, channels)
  }

  private func reverseBlock(
    _ block: ParameterMap.Block, _ kept: PassMemory.Block, extent: ImageExtent,
    factors: UnsafePointer<Float>?, _ parameterGradient: UnsafeMutablePointer<Float>?
  ) {
    let channels = extent.channels
    let width = 4 * channels
    forEachTile(of: extent) { first, tile in
      let (row, rows) = (first * extent.pixels, tile.rows)
      let gradient = UnsafePointer(memory.gradient + row * channels)
      let standardized = UnsafePointer(kept.standardized.at(row * channels))
      let derivative = UnsafePointer(kept.derivative.at(row * width))
      let (hidden, branch) = (memory.hidden, memory.branch)
      applyBackward(block.projection, to: gradient, output: hidden, rows: rows)
      if let parameterGradient {
        addBiasGradient(
          of: block, gradient, tile, factors: factors.map { $0 + first }, parameterGradient)
        addGradient(
          of: block.projection, gradient, input: kept.hidden.at(row * width), rows: rows,
          to: parameterGradient, withBias: false)
        sfmedir_multiply_and_sum(
          hidden, derivative, parameterGradient + block.expansion.bias, rows, width)
        addGradient(
          of: block.expansion, hidden, input: standardized, rows: rows, to: parameterGradient,
          withBias: false)
      } else {
        sfmedir_multiply(hidden, derivative, hidden, rows * width)
      }
      applyBackward(block.expansion, to: hidden, output: branch, rows: rows)
      sfmedir_standardize_rows_backward(
        branch, standardized, kept.scales.at(row), branch, rows, channels)
      if let parameterGradient {
        sfmedir_add_column_sums(
          branch, 1, parameterGradient + block.depthwise.bias, rows, channels)
        sfmedir_depthwise_7x7_add_tap_gradients(
          kept.padded.at(first * extent.paddedImageElements), branch,
          parameterGradient + block.depthwise.weight, tile.count, tile.height, tile.width, channels)
      }
      sfmedir_pad_for_depthwise_7x7(
        branch, memory.padded, tile.count, tile.height, tile.width, channels)
      // The residual connection is where the sum starts.
      sfmedir_depthwise_7x7(
        memory.padded, folded(block.mirroredKernel), gradient, channels,
        memory.nextGradient + row * channels, tile.count, tile.height, tile.width, channels)
    }
    memory.swapGradients()
  }

  private func addBiasGradient(
    of block: ParameterMap.Block, _ gradient: UnsafePointer<Float>, _ tile: ImageExtent,
    factors: UnsafePointer<Float>?, _ parameterGradient: UnsafeMutablePointer<Float>
  ) {
    let sums = parameterGradient + block.projection.bias
    guard let factors else {
      sfmedir_add_column_sums(gradient, 1, sums, tile.rows, tile.channels)
      return
    }
    for image in 0..<tile.count {
      sfmedir_add_column_sums(
        gradient + image * tile.pixels * tile.channels, factors[image], sums, tile.pixels,
        tile.channels)
    }
  }

  private func reverseDownsampling(
    _ downsampling: ParameterMap.Downsampling, from input: ImageExtent, to output: ImageExtent,
    stage: Int, _ parameterGradient: UnsafeMutablePointer<Float>?
  ) {
    guard let normalization = memory.stages[stage].downsampling else {
      preconditionFailure("stage \(stage) has no memory for its downsampling")
    }
    if let parameterGradient {
      sfmedir_gather_2x2(
        normalization.standardized, memory.patches, input.count, input.height, input.width,
        input.channels)
      addGradient(
        of: downsampling.convolution, memory.gradient, input: memory.patches, rows: output.rows,
        to: parameterGradient)
    }
    applyBackward(
      downsampling.convolution, to: memory.gradient, output: memory.patches, rows: output.rows)
    sfmedir_scatter_2x2(
      memory.patches, memory.nextGradient, input.count, input.height, input.width, input.channels)
    memory.swapGradients()
    sfmedir_standardize_rows_backward(
      memory.gradient, normalization.standardized, normalization.scales, memory.gradient,
      input.rows, input.channels)
  }

  private func reverseStem(
    _ parameterGradient: UnsafeMutablePointer<Float>?,
    _ imageGradient: UnsafeMutablePointer<Float>?
  ) {
    let extent = stageExtent(0)
    let (gradient, rows, channels) = (memory.gradient, extent.rows, extent.channels)
    if let parameterGradient {
      sfmedir_add_column_products(
        gradient, memory.stem.standardized, parameterGradient + map.stemNormalization.weight, rows,
        channels)
      sfmedir_add_column_sums(
        gradient, 1, parameterGradient + map.stemNormalization.bias, rows, channels)
    }
    sfmedir_scale_rows(
      gradient, folded(map.stemNormalization.weight), gradient, rows, channels)
    sfmedir_standardize_rows_backward(
      gradient, memory.stem.standardized, memory.stem.scales, gradient, rows, channels)
    if let parameterGradient {
      addGradient(
        of: map.stem, gradient, input: memory.stemPatches, rows: rows, to: parameterGradient)
    }
    if let imageGradient {
      applyBackward(map.stem, to: gradient, output: memory.patches, rows: rows)
      sfmedir_scatter_4x4_planar(
        memory.patches, Self.pixelScale, imageGradient, input.count, input.channels, input.height,
        input.width)
    }
  }
}
