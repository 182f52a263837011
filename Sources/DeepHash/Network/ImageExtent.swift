/// Size of a batch of interleaved images, [count][height][width][channels].
package struct ImageExtent: Equatable, Sendable {
  package let count: Int
  package let height: Int
  package let width: Int
  package let channels: Int

  package init(count: Int, height: Int, width: Int, channels: Int) {
    self.count = count
    self.height = height
    self.width = width
    self.channels = channels
  }

  package var pixels: Int { height * width }
  /// Pixels of the whole batch: rows of the matrices that the pointwise layers multiply.
  package var rows: Int { count * pixels }
  package var elements: Int { rows * channels }

  /// The batch after a convolution without overlap: what a kernel does not fill is dropped.
  func divided(by stride: Int, channels: Int) -> ImageExtent {
    ImageExtent(count: count, height: height / stride, width: width / stride, channels: channels)
  }

  func with(count: Int) -> ImageExtent {
    ImageExtent(count: count, height: height, width: width, channels: channels)
  }

  /// Elements of one image with the border that the depthwise convolution needs.
  var paddedImageElements: Int { (height + 6) * (width + 6) * channels }

  /// The images after the stem and after each downsampling.
  func stages(of configuration: ConvNeXtConfiguration) -> [ImageExtent] {
    var stages = [divided(by: 4, channels: configuration.dims[0])]
    for width in configuration.dims.dropFirst() {
      stages.append(stages[stages.count - 1].divided(by: 2, channels: width))
    }
    return stages
  }

  /// How many images go through a block at a time: what one layer writes, the next one finds in the cache.
  var tileImages: Int {
    min(count, max(1, Self.tileElements / (4 * pixels * channels)))
  }

  /// Values of the widest activations of a tile: a megabyte of them.
  private static let tileElements = 1 << 18
}
