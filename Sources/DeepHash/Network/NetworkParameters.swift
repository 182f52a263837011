internal import CKernels

/// The parameters of a network, and the same in the form that the kernels read.
///
/// Three things are folded into the layers beside them, so that they cost nothing for each pixel: the weight and bias of
/// a layer normalisation into the linear layer that follows it, W (w x + b) = (W w) x + W b; the layer scale of a block
/// into its second pointwise layer; the order of a convolution's kernel, whose channels come innermost, as images are
/// stored. Only the stem's normalisation stays as it is, since no linear layer follows. Matrices stand once more in panels, as the
/// product with them wants them.
///
/// Gradients come in the folded form too, and ``unfold(_:)`` makes those of the parameters of them.
///
/// Sendable although it holds pointers: only its owner writes, and never while others read.
final class NetworkParameters: @unchecked Sendable {
  static let kernelTaps = 49
  private static let downsamplingTaps = 4

  let configuration: ConvNeXtConfiguration
  let layout: ParameterLayout
  let map: ParameterMap
  /// The flat vector that ``layout`` describes.
  let values: FloatBuffer
  /// Each parameter's folded form where the layout has the parameter, then the depthwise kernels once more, mirrored.
  let folded: FloatBuffer
  /// The matrices of the folded form in panels.
  let panels: FloatBuffer
  /// Whether there will be gradients: the panels for them are made only then.
  private let isTrained: Bool
  /// A kernel's gradient while it is put into another order.
  private let moved: FloatBuffer

  init(
    configuration: ConvNeXtConfiguration, layout: ParameterLayout, values: FloatBuffer,
    isTrained: Bool
  ) {
    precondition(
      values.count == layout.parameterCount,
      "\(values.count) parameters where the layout has \(layout.parameterCount)")
    _ = MatrixProduct.useOneThread
    self.configuration = configuration
    self.layout = layout
    self.values = values
    map = ParameterMap(configuration: configuration, layout: layout)
    folded = FloatBuffer(count: map.foldedCount)
    panels = FloatBuffer(count: map.panelCount)
    self.isTrained = isTrained
    let widest = max(configuration.dims.max() ?? 0, configuration.channels)
    moved = FloatBuffer(count: isTrained ? Self.kernelTaps * widest : 0)
    fold(lanes: 1)
  }

  /// Brings the folded form and the panels up to date with the values.
  func fold(lanes: Int) {
    foldAll()
    Lane.inParallel(lanes) { [self] lane in
      for number in Lane.share(of: map.linears.count, lane: lane, lanes: lanes) {
        makePanels(of: map.linears[number])
      }
    }
  }

  private func makePanels(of linear: ParameterMap.Linear) {
    let weight = folded.pointer + linear.weight
    sfmedir_make_panels_of_columns(
      weight, panels.pointer + linear.panels, linear.inputs, linear.outputs)
    if isTrained {
      sfmedir_make_panels_of_rows(
        weight, panels.pointer + linear.backwardPanels, linear.outputs, linear.inputs)
    }
  }

  private func foldAll() {
    let (from, to) = (values.pointer, folded.pointer)
    to.update(from: from, count: values.count)
    for (index, stage) in map.stages.enumerated() {
      if let downsampling = stage.downsampling {
        let (inputs, taps) = (downsampling.inputs, Self.downsamplingTaps)
        for output in 0..<downsampling.outputs {
          let begin = downsampling.convolution.weight + output * taps * inputs
          var shift: Float = 0
          for input in 0..<inputs {
            let weight = from[downsampling.normalization.weight + input]
            let bias = from[downsampling.normalization.bias + input]
            for tap in 0..<taps {
              let value = from[begin + input * taps + tap]
              to[begin + tap * inputs + input] = value * weight
              shift += value * bias
            }
          }
          to[downsampling.convolution.bias + output] += shift
        }
      }
      for block in stage.blocks { fold(block, hidden: 4 * configuration.dims[index]) }
    }
    foldNormalization(map.headNormalization, into: map.head)
  }

  private func fold(_ block: ParameterMap.Block, hidden: Int) {
    let (from, to, width) = (values.pointer, folded.pointer, block.width)
    for tap in 0..<Self.kernelTaps {
      for channel in 0..<width {
        let value = from[block.depthwise.weight + channel * Self.kernelTaps + tap]
        to[block.depthwise.weight + tap * width + channel] = value
        to[block.mirroredKernel + (Self.kernelTaps - 1 - tap) * width + channel] = value
      }
    }
    foldNormalization(block.normalization, into: block.expansion)
    for output in 0..<width {
      let scale = from[block.scale + output]
      let begin = block.projection.weight + output * hidden
      for input in 0..<hidden { to[begin + input] = scale * from[begin + input] }
      to[block.projection.bias + output] *= scale
    }
  }

  private func foldNormalization(
    _ normalization: ParameterMap.Layer, into layer: ParameterMap.Linear
  ) {
    let (from, to) = (values.pointer, folded.pointer)
    let inputs = layer.inputs
    for output in 0..<layer.outputs {
      let begin = layer.weight + output * inputs
      var shift: Float = 0
      for input in 0..<inputs {
        let value = from[begin + input]
        to[begin + input] = value * from[normalization.weight + input]
        shift += value * from[normalization.bias + input]
      }
      to[layer.bias + output] += shift
    }
  }

  /// Turns the gradient with regard to the folded form into the one with regard to the parameters, in place.
  ///
  /// Where folding has made W w and W b of W, w and b, the chain rule gives for G and g, the gradients of both:
  /// G w + g b for W, the columns of W G for w, W g for b.
  func unfold(_ gradient: UnsafeMutablePointer<Float>) {
    for (index, stage) in map.stages.enumerated() {
      if let downsampling = stage.downsampling { unfold(downsampling, gradient) }
      for block in stage.blocks { unfold(block, hidden: 4 * configuration.dims[index], gradient) }
    }
    unfoldNormalization(map.headNormalization, from: map.head, gradient)
  }

  private func unfold(
    _ downsampling: ParameterMap.Downsampling, _ gradient: UnsafeMutablePointer<Float>
  ) {
    let (inputs, taps) = (downsampling.inputs, Self.downsamplingTaps)
    let normalization = downsampling.normalization
    let moved = moved.pointer
    for output in 0..<downsampling.outputs {
      let begin = downsampling.convolution.weight + output * taps * inputs
      let shift = gradient[downsampling.convolution.bias + output]
      moved.update(from: gradient + begin, count: taps * inputs)
      for input in 0..<inputs {
        let weight = values.pointer[normalization.weight + input]
        let bias = values.pointer[normalization.bias + input]
        for tap in 0..<taps {
          let value = values.pointer[begin + input * taps + tap]
          let slope = moved[tap * inputs + input]
          gradient[normalization.weight + input] += value * slope
          gradient[normalization.bias + input] += value * shift
          gradient[begin + input * taps + tap] = slope * weight + shift * bias
        }
      }
    }
  }

  private func unfold(
    _ block: ParameterMap.Block, hidden: Int, _ gradient: UnsafeMutablePointer<Float>
  ) {
    let width = block.width
    let kernels = gradient + block.depthwise.weight
    let moved = moved.pointer
    moved.update(from: kernels, count: Self.kernelTaps * width)
    for tap in 0..<Self.kernelTaps {
      for channel in 0..<width {
        kernels[channel * Self.kernelTaps + tap] = moved[tap * width + channel]
      }
    }
    unfoldNormalization(block.normalization, from: block.expansion, gradient)
    for output in 0..<width {
      let scale = values.pointer[block.scale + output]
      let begin = block.projection.weight + output * hidden
      let shift = gradient[block.projection.bias + output]
      var product = values.pointer[block.projection.bias + output] * shift
      for input in 0..<hidden {
        product += values.pointer[begin + input] * gradient[begin + input]
        gradient[begin + input] *= scale
      }
      gradient[block.scale + output] = product
      gradient[block.projection.bias + output] = scale * shift
    }
  }

  private func unfoldNormalization(
    _ normalization: ParameterMap.Layer, from layer: ParameterMap.Linear,
    _ gradient: UnsafeMutablePointer<Float>
  ) {
    let (weights, biases) = (gradient + normalization.weight, gradient + normalization.bias)
    let inputs = layer.inputs
    for output in 0..<layer.outputs {
      let begin = layer.weight + output * inputs
      let shift = gradient[layer.bias + output]
      for input in 0..<inputs {
        let value = values.pointer[begin + input]
        let slope = gradient[begin + input]
        weights[input] += value * slope
        biases[input] += value * shift
        gradient[begin + input] =
          slope * values.pointer[normalization.weight + input]
          + shift * values.pointer[normalization.bias + input]
      }
    }
  }
}
