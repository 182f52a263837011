/// Prepares pictures for the hash network, the same way as its training pictures were prepared.
public enum ModelInput {
  /// The canvas that a picture is fitted into, in pixels a side.
  public static let canvasSide = 128
  /// The network's input, in pixels a side.
  public static let side = 64

  /// The picture fitted into 128 x 128: aspect kept, centred, black padding.
  ///
  /// Scaling is antialiased Lanczos-3 in fixed point, which is how the training pictures were made; the fitted sides
  /// are rounded to even at halves. A picture that is 128 x 128 already passes through unchanged. The depth is kept.
  public static func canvas(_ image: GrayImage) -> GrayImage {
    let size = Resampler.fittedSize(
      width: image.width, height: image.height, into: canvasSide)
    let scaled = Resampler.scaled(image, width: size.width, height: size.height)
    if size.width == canvasSide && size.height == canvasSide { return scaled }
    let left = (canvasSide - size.width) / 2
    let top = (canvasSide - size.height) / 2
    var samples = [UInt16](repeating: 0, count: canvasSide * canvasSide)
    for y in 0..<size.height {
      let from = y * size.width
      let to = (top + y) * canvasSide + left
      samples.replaceSubrange(
        to..<(to + size.width), with: scaled.samples[from..<(from + size.width)])
    }
    return GrayImage(
      width: canvasSide, height: canvasSide, bitsPerSample: image.bitsPerSample, samples: samples)
  }

  /// 64 * 64 values in 0...1, row by row: the canvas divided by its white (255 or 65535), then the mean of each
  /// 2 x 2 block.
  ///
  /// The four integers are added first and divided once, so each value is the correctly rounded mean.
  public static func pixels(_ image: GrayImage) -> [Float] {
    let canvas = canvas(image)
    let divisor = Float(4 * canvas.maximumValue)
    var out: [Float] = []
    out.reserveCapacity(side * side)
    for y in 0..<side {
      for x in 0..<side {
        let at = 2 * y * canvasSide + 2 * x
        let sum =
          Int(canvas.samples[at]) + Int(canvas.samples[at + 1])
          + Int(canvas.samples[at + canvasSide]) + Int(canvas.samples[at + canvasSide + 1])
        out.append(Float(sum) / divisor)
      }
    }
    return out
  }
}
