/// Memory of a pass through a network over some images.
///
/// What a backward pass will read is kept layer by layer; all else is scratch of the size of a tile, see
/// ``ImageExtent/tileImages``.
final class PassMemory {
  /// What the forward pass is followed by.
  enum Purpose: Int, Comparable {
    case inference
    /// A backward pass to the input alone, as attacks need it.
    case inputGradient
    case parameterGradient

    static func < (left: Purpose, right: Purpose) -> Bool { left.rawValue < right.rawValue }
  }

  /// Values of one layer for each image.
  struct Values {
    let pointer: UnsafeMutablePointer<Float>
    /// Otherwise each tile overwrites those of the one before.
    let isKept: Bool

    /// The values from an offset on, which counts from the first image.
    func at(_ offset: Int) -> UnsafeMutablePointer<Float> { isKept ? pointer + offset : pointer }
  }

  struct Block {
    /// The block's input, with a border.
    let padded: Values
    /// What the normalisation made of it, and its scales, one a row.
    let standardized: Values
    let scales: Values
    /// After the activation function, and the function's derivative.
    let hidden: Values
    let derivative: Values
  }

  /// Of a normalisation over all images.
  struct Normalization {
    let standardized: UnsafeMutablePointer<Float>
    let scales: UnsafeMutablePointer<Float>
  }

  struct Stage {
    let downsampling: Normalization?
    let blocks: [Block]
  }

  let configuration: ConvNeXtConfiguration
  /// Its count is the largest that fits.
  let capacity: ImageExtent
  /// Of so many images after the stem and after each downsampling.
  let extents: [ImageExtent]
  let purpose: Purpose

  /// The activations that pass from layer to layer.
  let state: UnsafeMutablePointer<Float>
  /// Gradients with regard to them; a block reads the one and writes the other.
  private(set) var gradient: UnsafeMutablePointer<Float>
  private(set) var nextGradient: UnsafeMutablePointer<Float>
  /// The windows of a strided convolution, one a row.
  let patches: UnsafeMutablePointer<Float>
  /// Those of the stem, for the gradient of its kernel.
  let stemPatches: UnsafeMutablePointer<Float>
  let stem: Normalization
  let stages: [Stage]
  let head: Normalization

  // Of a tile.
  let branch: UnsafeMutablePointer<Float>
  let hidden: UnsafeMutablePointer<Float>
  let padded: UnsafeMutablePointer<Float>

  private let buffers: [FloatBuffer]

  init(configuration: ConvNeXtConfiguration, capacity: ImageExtent, purpose: Purpose) {
    self.configuration = configuration
    self.capacity = capacity
    self.purpose = purpose
    let extents = capacity.stages(of: configuration)
    let isKept = purpose > .inference
    let keepsAll = purpose == .parameterGradient
    var buffers: [FloatBuffer] = []
    func reserve(_ count: Int) -> UnsafeMutablePointer<Float> {
      let buffer = FloatBuffer(count: count)
      buffers.append(buffer)
      return buffer.pointer
    }
    func largest(_ size: (ImageExtent) -> Int) -> Int { extents.map(size).max() ?? 0 }
    func tile(_ extent: ImageExtent) -> ImageExtent { extent.with(count: extent.tileImages) }

    let state = reserve(largest { $0.elements })
    (gradient, nextGradient) =
      isKept ? (reserve(largest { $0.elements }), reserve(largest { $0.elements })) : (state, state)
    let patchElements = zip(extents, extents.dropFirst()).map { $1.rows * 4 * $0.channels }
    let stemPatchElements = extents[0].rows * 16 * capacity.channels
    patches = reserve(max(stemPatchElements, patchElements.max() ?? 0))
    stemPatches = keepsAll ? reserve(stemPatchElements) : patches
    let rowScales = reserve(largest { $0.rows })
    branch = reserve(largest { tile($0).elements })
    let (hidden, padded, standardized) = (
      reserve(largest { 4 * tile($0).elements }),
      reserve(largest { $0.tileImages * $0.paddedImageElements }),
      reserve(largest { tile($0).elements })
    )
    func values(_ isKept: Bool, _ count: Int, else scratch: UnsafeMutablePointer<Float>) -> Values {
      Values(pointer: isKept ? reserve(count) : scratch, isKept: isKept)
    }
    /// In place where nothing is kept.
    func normalization(_ extent: ImageExtent) -> Normalization {
      Normalization(
        standardized: values(isKept, extent.elements, else: state).pointer,
        scales: values(isKept, extent.rows, else: rowScales).pointer)
    }
    func block(_ extent: ImageExtent) -> Block {
      Block(
        padded: values(keepsAll, extent.count * extent.paddedImageElements, else: padded),
        standardized: values(isKept, extent.elements, else: standardized),
        scales: values(isKept, extent.rows, else: rowScales),
        hidden: values(keepsAll, 4 * extent.elements, else: hidden),
        derivative: values(isKept, 4 * extent.elements, else: hidden))
    }
    stem = normalization(extents[0])
    stages = extents.enumerated().map { index, extent in
      Stage(
        downsampling: index == 0 ? nil : normalization(extents[index - 1]),
        blocks: (0..<configuration.depths[index]).map { _ in block(extent) })
    }
    head = Normalization(
      standardized: reserve(capacity.count * extents[extents.count - 1].channels),
      scales: reserve(capacity.count))
    self.extents = extents
    (self.state, self.hidden, self.padded, self.buffers) = (state, hidden, padded, buffers)
  }

  func fits(_ input: ImageExtent, configuration: ConvNeXtConfiguration, purpose: Purpose) -> Bool {
    self.purpose == purpose && capacity.count >= input.count
      && capacity == input.with(count: capacity.count) && self.configuration == configuration
  }

  func swapGradients() { swap(&gradient, &nextGradient) }
}
