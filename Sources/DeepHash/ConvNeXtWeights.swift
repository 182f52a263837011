/// Weight and bias of one layer; what their lengths are, the layer knows.
struct AffineWeights {
  let weight: UnsafePointer<Float>
  let bias: UnsafePointer<Float>
}

/// Parameters of one ConvNeXt block.
struct BlockWeights {
  /// Depthwise convolution with its kernel rearranged to [7][7][channels].
  let depthwise: AffineWeights
  let normalization: AffineWeights
  /// Pointwise layer from d to 4 d channels.
  let expansion: AffineWeights
  /// Pointwise layer from 4 d back to d channels.
  let projection: AffineWeights
  /// Layer scale, one factor a channel.
  let scale: UnsafePointer<Float>
}

/// Parameters of the step between two stages.
struct DownsamplingWeights {
  let normalization: AffineWeights
  /// 2 x 2 convolution with its kernel rearranged to [out][2][2][in].
  let convolution: AffineWeights
}

/// Parameters of one stage.
struct StageWeights {
  /// Absent in the first stage, whose input is the stem.
  let downsampling: DownsamplingWeights?
  let blocks: [BlockWeights]
}

/// All parameters of a network in the form the kernels read.
///
/// Sendable although it holds pointers: nothing writes through them after the initialiser, and the
/// buffers that they point into live as long as this object.
final class ConvNeXtWeights: @unchecked Sendable {
  let layout: ParameterLayout
  /// The flat vector that ``ParameterLayout`` describes.
  let parameters: FloatBuffer
  let stem: AffineWeights
  let stemNormalization: AffineWeights
  let stages: [StageWeights]
  let headNormalization: AffineWeights
  let head: AffineWeights

  /// Copies of the convolution kernels with channels innermost, as images are stored.
  private let rearranged: FloatBuffer

  init(configuration: ConvNeXtConfiguration, layout: ParameterLayout, parameters: FloatBuffer) {
    precondition(
      parameters.count == layout.parameterCount,
      "\(parameters.count) parameters where the layout has \(layout.parameterCount)")
    let kernels = layout.entries.filter { Self.isRearranged($0) }
    let rearranged = FloatBuffer(count: kernels.reduce(0) { $0 + $1.range.count })
    var rearrangedWeights: [String: UnsafePointer<Float>] = [:]
    var end = 0
    for kernel in kernels {
      let destination = rearranged.pointer + end
      Self.moveChannelsInnermost(
        kernel.shape, from: parameters.pointer + kernel.range.lowerBound, to: destination)
      rearrangedWeights[kernel.name] = UnsafePointer(destination)
      end += kernel.range.count
    }

    func vector(_ name: String) -> UnsafePointer<Float> {
      guard let entry = layout.entry(named: name) else {
        preconditionFailure("the layout has no parameter \(name)")
      }
      return rearrangedWeights[name] ?? UnsafePointer(parameters.pointer + entry.range.lowerBound)
    }
    func affine(_ name: String) -> AffineWeights {
      AffineWeights(weight: vector("\(name).weight"), bias: vector("\(name).bias"))
    }
    self.layout = layout
    self.parameters = parameters
    self.rearranged = rearranged
    self.stem = affine("stem.0")
    self.stemNormalization = affine("stem.1")
    self.headNormalization = affine("head.norm")
    self.head = affine("head.fc")
    self.stages = configuration.depths.enumerated().map { stage, depth in
      StageWeights(
        downsampling: stage == 0
          ? nil
          : DownsamplingWeights(
            normalization: affine("stages.\(stage).downsample.0"),
            convolution: affine("stages.\(stage).downsample.1")),
        blocks: (0..<depth).map { block in
          let name = "stages.\(stage).blocks.\(block)"
          return BlockWeights(
            depthwise: affine("\(name).conv_dw"), normalization: affine("\(name).norm"),
            expansion: affine("\(name).mlp.fc1"), projection: affine("\(name).mlp.fc2"),
            scale: vector("\(name).gamma"))
        })
    }
  }

  /// The stem keeps its order, because its input image is planar.
  private static func isRearranged(_ entry: ParameterLayout.Entry) -> Bool {
    entry.shape.count == 4 && entry.name != "stem.0.weight"
  }

  /// [out][in][y][x] to [out][y][x][in], or for a depthwise kernel [out][1][y][x] to [y][x][out].
  private static func moveChannelsInnermost(
    _ shape: [Int], from source: UnsafePointer<Float>, to destination: UnsafeMutablePointer<Float>
  ) {
    let (outputs, inputs, taps) = (shape[0], shape[1], shape[2] * shape[3])
    for output in 0..<outputs {
      for input in 0..<inputs {
        for tap in 0..<taps {
          let value = source[(output * inputs + input) * taps + tap]
          if inputs == 1 {
            destination[tap * outputs + output] = value
          } else {
            destination[(output * taps + tap) * inputs + input] = value
          }
        }
      }
    }
  }
}
