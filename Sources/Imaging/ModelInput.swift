/// Prepares pictures for the hash network, the same way as its training pictures were prepared.
public enum ModelInput {
  /// The canvas that a picture is fitted into, in pixels a side.
  public static let canvasSide = 128
  /// The network's input where its model says nothing else, in pixels a side.
  public static let defaultSide = 64
  /// What a model may say.
  public static let sides = 32...512

  /// The picture fitted into a square: aspect kept, centred, black padding.
  ///
  /// Scaling is antialiased Lanczos-3 in fixed point, which is how the training pictures were made; the fitted sides
  /// are rounded to even at halves. A picture that fills the square already passes through unchanged. The depth is kept.
  public static func canvas(_ image: GrayImage, side: Int = canvasSide) -> GrayImage {
    let size = Resampler.fittedSize(width: image.width, height: image.height, into: side)
    let scaled = Resampler.scaled(image, width: size.width, height: size.height)
    if size.width == side && size.height == side { return scaled }
    let left = (side - size.width) / 2
    let top = (side - size.height) / 2
    var samples = [UInt16](repeating: 0, count: side * side)
    for y in 0..<size.height {
      let from = y * size.width
      let to = (top + y) * side + left
      samples.replaceSubrange(
        to..<(to + size.width), with: scaled.samples[from..<(from + size.width)])
    }
    return GrayImage(
      width: side, height: side, bitsPerSample: image.bitsPerSample, samples: samples)
  }

  /// side * side values in 0...1, row by row: the canvas divided by its white (255 or 65535).
  ///
  /// Where the side divides the canvas, it is the mean of each block of the canvas of 128 x 128 (2 x 2 for a side of 64),
  /// whose integers are added first and divided once, so that each value is the correctly rounded mean. Any other side is
  /// a canvas of its own.
  public static func pixels(_ image: GrayImage, side: Int = defaultSide) -> [Float] {
    let factor = canvasSide % side == 0 ? canvasSide / side : 1
    let canvas = canvas(image, side: factor * side)
    let divisor = Float(factor * factor * canvas.maximumValue)
    var out: [Float] = []
    out.reserveCapacity(side * side)
    for y in 0..<side {
      for x in 0..<side {
        var sum = 0
        for row in factor * y..<factor * (y + 1) {
          for column in factor * x..<factor * (x + 1) {
            sum += Int(canvas.samples[row * factor * side + column])
          }
        }
        out.append(Float(sum) / divisor)
      }
    }
    return out
  }
}
