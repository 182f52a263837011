import Glibc

/// Scales pictures with an antialiased Lanczos-3 filter in fixed point.
///
/// The training pictures were made with this filter (the one that the Pillow library calls LANCZOS), and the network
/// must see its queries the way it saw those: bilinear or box scaling changes them by 1 to 2 grey levels on average
/// and by dozens at edges. Weights have 22 fractional bits, rows are scaled before columns, and each pass rounds to
/// whole grey levels, so the result does not depend on the machine and equals Pillow's for 8 bits.
enum Resampler {
  private static let fractionBits = 22

  /// The source positions and weights of one output position.
  private struct Taps {
    var first: Int
    var weights: [Int]
  }

  static func scaled(_ image: GrayImage, width: Int, height: Int) -> GrayImage {
    precondition(width > 0 && height > 0, "cannot scale to \(width) x \(height)")
    var samples = image.samples
    if width != image.width {
      samples = pass(
        samples, taps: taps(from: image.width, to: width), maximum: image.maximumValue,
        lines: image.height, inputStride: (line: image.width, sample: 1),
        outputStride: (line: width, sample: 1))
    }
    if height != image.height {
      samples = pass(
        samples, taps: taps(from: image.height, to: height), maximum: image.maximumValue,
        lines: width, inputStride: (line: 1, sample: width),
        outputStride: (line: 1, sample: width))
    }
    return GrayImage(
      width: width, height: height, bitsPerSample: image.bitsPerSample, samples: samples)
  }

  /// The size of a picture fitted into a box with its aspect kept, each side at least 1.
  static func fittedSize(
    width: Int, height: Int, into side: Int
  ) -> (width: Int, height: Int) {
    let factor = Double(side) / Double(max(width, height))
    return (
      max(1, Int((Double(width) * factor).rounded(.toNearestOrEven))),
      max(1, Int((Double(height) * factor).rounded(.toNearestOrEven)))
    )
  }

  private static func lanczos3(_ x: Double) -> Double {
    guard x > -3, x < 3 else { return 0 }
    return sinc(x) * sinc(x / 3)
  }

  private static func sinc(_ x: Double) -> Double {
    if x == 0 { return 1 }
    let angle = x * Double.pi
    return sin(angle) / angle
  }

  private static func taps(from inputCount: Int, to outputCount: Int) -> [Taps] {
    let scale = Double(inputCount) / Double(outputCount)
    // When shrinking, the filter widens with the scale and so averages what falls into one output pixel.
    let filterScale = max(scale, 1)
    let support = 3 * filterScale
    return (0..<outputCount).map { position in
      let center = (Double(position) + 0.5) * scale
      let first = max(0, Int(center - support + 0.5))
      let end = min(inputCount, Int(center + support + 0.5))
      let inverse = 1 / filterScale
      let raw = (0..<(end - first)).map {
        lanczos3((Double($0 + first) - center + 0.5) * inverse)
      }
      let sum = raw.reduce(0, +)
      let one = Double(1 << fractionBits)
      return Taps(
        first: first,
        weights: raw.map { weight in
          let fixed = weight / sum * one
          return Int(fixed < 0 ? fixed - 0.5 : fixed + 0.5)
        })
    }
  }

  private static func pass(
    _ input: [UInt16], taps: [Taps], maximum: Int, lines: Int,
    inputStride: (line: Int, sample: Int), outputStride: (line: Int, sample: Int)
  ) -> [UInt16] {
    let half = 1 << (fractionBits - 1)
    return [UInt16](unsafeUninitializedCapacity: lines * taps.count) { output, initialized in
      input.withUnsafeBufferPointer { input in
        for line in 0..<lines {
          for (position, tap) in taps.enumerated() {
            var sum = half
            var at = line * inputStride.line + tap.first * inputStride.sample
            for weight in tap.weights {
              sum += weight * Int(input[at])
              at += inputStride.sample
            }
            let value = min(max(sum >> fractionBits, 0), maximum)
            output[line * outputStride.line + position * outputStride.sample] = UInt16(value)
          }
        }
      }
      initialized = lines * taps.count
    }
  }
}
