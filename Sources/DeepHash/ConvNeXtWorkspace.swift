/// Size of a batch of interleaved images, [count][height][width][channels].
package struct ImageExtent: Equatable, Sendable {
  package let count: Int
  package let height: Int
  package let width: Int
  package let channels: Int

  /// Pixels of the whole batch: rows of the matrices that the pointwise layers multiply.
  package var rows: Int { count * height * width }
  package var elements: Int { rows * channels }

  /// The batch after a convolution without overlap: what a kernel does not fill is dropped.
  func divided(by stride: Int, channels: Int) -> ImageExtent {
    ImageExtent(count: count, height: height / stride, width: width / stride, channels: channels)
  }

  /// Elements of the batch with the border that the depthwise convolution needs.
  var paddedElements: Int { count * (height + 6) * (width + 6) * channels }
}

/// Memory that a forward pass computes in, kept from one call to the next.
///
/// Calls with the same image size and no larger batch allocate nothing. One workspace serves one call at
/// a time, so it is not Sendable: a thread that infers often keeps its own.
public final class ConvNeXtWorkspace {
  /// What the buffers are laid out for.
  struct Plan: Equatable {
    let configuration: ConvNeXtConfiguration
    let input: ImageExtent
    /// The images after the stem and after each downsampling.
    let stages: [ImageExtent]

    init(configuration: ConvNeXtConfiguration, input: ImageExtent) {
      self.configuration = configuration
      self.input = input
      var stages = [input.divided(by: 4, channels: configuration.dims[0])]
      for width in configuration.dims.dropFirst() {
        stages.append(stages[stages.count - 1].divided(by: 2, channels: width))
      }
      self.stages = stages
    }
  }

  private(set) var plan: Plan?
  /// The activations that pass from layer to layer.
  private(set) var state: UnsafeMutablePointer<Float>
  /// The residual branch of a block at the width of its stage.
  private(set) var branch: UnsafeMutablePointer<Float>
  /// The residual branch at four times the width.
  private(set) var hidden: UnsafeMutablePointer<Float>
  /// The input of a depthwise convolution with its border.
  private(set) var padded: UnsafeMutablePointer<Float>
  /// The windows of a strided convolution, one a row.
  private(set) var patches: UnsafeMutablePointer<Float>

  private var storage: FloatBuffer

  public init() {
    storage = FloatBuffer(count: 0)
    (state, branch, hidden) = (storage.pointer, storage.pointer, storage.pointer)
    (padded, patches) = (storage.pointer, storage.pointer)
  }

  /// Lays the buffers out for a batch, and makes them larger where they are too small.
  func prepare(configuration: ConvNeXtConfiguration, input: ImageExtent) -> Plan {
    if let plan, plan.input == input, plan.configuration == configuration { return plan }
    let plan = Plan(configuration: configuration, input: input)
    let stages = plan.stages
    func largest(_ size: (ImageExtent) -> Int) -> Int { stages.map(size).max() ?? 0 }
    let stemPatches = stages[0].rows * 16 * input.channels
    let patchElements = zip(stages, stages.dropFirst()).map { $1.rows * 4 * $0.channels }
    let sizes = [
      largest { $0.elements },
      largest { $0.elements },
      largest { 4 * $0.elements },
      largest { $0.paddedElements },
      max(stemPatches, patchElements.max() ?? 0),
    ].map { ($0 + 15) / 16 * 16 }

    let total = sizes.reduce(0, +)
    if storage.count < total { storage = FloatBuffer(count: total) }
    state = storage.pointer
    branch = state + sizes[0]
    hidden = branch + sizes[1]
    padded = hidden + sizes[2]
    patches = padded + sizes[3]
    self.plan = plan
    return plan
  }
}
