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

  private let storage: FloatBuffer

  init(configuration: ConvNeXtConfiguration, capacity: ImageExtent, purpose: Purpose) {
    self.configuration = configuration
    self.capacity = capacity
    self.purpose = purpose
    let extents = capacity.stages(of: configuration)
    let isKept = purpose > .inference
    let keepsAll = purpose == .parameterGradient
    var end = 0
    // Offsets come first: the storage is made when its size is known.
    func reserve(_ count: Int) -> Int {
      defer { end += (count + 15) / 16 * 16 }
      return end
    }
    func largest(_ size: (ImageExtent) -> Int) -> Int { extents.map(size).max() ?? 0 }
    func tile(_ extent: ImageExtent) -> ImageExtent { extent.with(count: extent.tileImages) }

    let state = reserve(largest { $0.elements })
    let gradients =
      isKept ? (reserve(largest { $0.elements }), reserve(largest { $0.elements })) : (0, 0)
    let patchElements = zip(extents, extents.dropFirst()).map { $1.rows * 4 * $0.channels }
    let stemPatchElements = extents[0].rows * 16 * capacity.channels
    let patches = reserve(max(stemPatchElements, patchElements.max() ?? 0))
    let stemPatches = keepsAll ? reserve(stemPatchElements) : patches
    let rowScales = reserve(largest { $0.rows })
    let branch = reserve(largest { tile($0).elements })
    let hidden = reserve(largest { 4 * tile($0).elements })
    let padded = reserve(largest { $0.tileImages * $0.paddedImageElements })
    let standardized = reserve(largest { tile($0).elements })

    typealias Offsets = (standardized: Int, scales: Int)
    func normalization(_ extent: ImageExtent) -> Offsets {
      isKept ? (reserve(extent.elements), reserve(extent.rows)) : (state, rowScales)
    }
    let stem = normalization(extents[0])
    typealias BlockOffsets = (
      padded: Int, standardized: Int, scales: Int, hidden: Int, derivative: Int
    )
    let stageOffsets = extents.enumerated().map { index, extent in
      (
        downsampling: index == 0 ? nil : normalization(extents[index - 1]),
        blocks: (0..<configuration.depths[index]).map { _ -> BlockOffsets in
          (
            keepsAll ? reserve(extent.count * extent.paddedImageElements) : padded,
            isKept ? reserve(extent.elements) : standardized,
            isKept ? reserve(extent.rows) : rowScales,
            keepsAll ? reserve(4 * extent.elements) : hidden,
            isKept ? reserve(4 * extent.elements) : hidden
          )
        }
      )
    }
    let headElements = capacity.count * extents[extents.count - 1].channels
    let head = (reserve(headElements), reserve(capacity.count))

    let storage = FloatBuffer(count: end)
    let base = storage.pointer
    func place(_ offsets: Offsets) -> Normalization {
      Normalization(standardized: base + offsets.standardized, scales: base + offsets.scales)
    }
    self.storage = storage
    self.state = base + state
    (gradient, nextGradient) = (base + gradients.0, base + gradients.1)
    self.patches = base + patches
    self.stemPatches = base + stemPatches
    self.branch = base + branch
    self.hidden = base + hidden
    self.padded = base + padded
    self.stem = place(stem)
    self.head = place(head)
    stages = stageOffsets.map { stage in
      Stage(
        downsampling: stage.downsampling.map(place),
        blocks: stage.blocks.map { block in
          Block(
            padded: Values(pointer: base + block.padded, isKept: keepsAll),
            standardized: Values(pointer: base + block.standardized, isKept: isKept),
            scales: Values(pointer: base + block.scales, isKept: isKept),
            hidden: Values(pointer: base + block.hidden, isKept: keepsAll),
            derivative: Values(pointer: base + block.derivative, isKept: isKept))
        })
    }
  }

  func fits(_ input: ImageExtent, configuration: ConvNeXtConfiguration, purpose: Purpose) -> Bool {
    self.purpose == purpose && capacity.count >= input.count
      && capacity == input.with(count: capacity.count) && self.configuration == configuration
  }

  func swapGradients() { swap(&gradient, &nextGradient) }
}
