internal import CKernels

/// A pass of some images through a network, forwards and back, on the caller's thread.
struct NetworkPass {
  let parameters: NetworkParameters
  let memory: PassMemory
  /// The images; planar, [count][channels][height][width].
  let input: ImageExtent
  /// After the stem and after each downsampling.
  let extents: [ImageExtent]

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
    extents = input.stages(of: parameters.configuration)
  }

  var map: ParameterMap { parameters.map }

  /// What the kernels read.
  func folded(_ offset: Int) -> UnsafePointer<Float> {
    UnsafePointer(parameters.folded.pointer + offset)
  }

  /// Calls for each tile with the number of its first image and its extent.
  func forEachTile(of extent: ImageExtent, _ body: (Int, ImageExtent) -> Void) {
    let size = extent.tileImages
    for first in stride(from: 0, to: extent.count, by: size) {
      body(first, extent.with(count: min(size, extent.count - first)))
    }
  }
}
