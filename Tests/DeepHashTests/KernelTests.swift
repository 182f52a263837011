import CKernels
import Testing

/// The vector kernels against the plainest loops in double precision, at sizes around the vector width.
@Suite struct KernelTests {
  @Test(arguments: [1, 3, 8, 15, 16, 17, 24, 40, 48], [(1, 1), (2, 3), (4, 4), (3, 5), (9, 10)])
  func depthwiseConvolutionAgrees(channels: Int, size: (Int, Int)) {
    let (height, width) = size
    let count = 2
    let seed = UInt64(channels * 100 + height * 10 + width)
    var generator = SeededGenerator(seed: seed)
    let images = generator.pixels(count * height * width * channels)
    let taps = generator.pixels(49 * channels).map { $0 - 0.5 }
    let bias = generator.pixels(channels)
    var padded = [Float](repeating: .nan, count: count * (height + 6) * (width + 6) * channels)
    var actual = [Float](repeating: .nan, count: images.count)
    sfmedir_pad_for_depthwise_7x7(images, &padded, count, height, width, channels)
    sfmedir_depthwise_7x7(padded, taps, bias, 0, &actual, count, height, width, channels)

    var worst = 0.0
    for index in actual.indices {
      let (pixel, channel) = index.quotientAndRemainder(dividingBy: channels)
      let (row, x) = pixel.quotientAndRemainder(dividingBy: width)
      let (image, y) = row.quotientAndRemainder(dividingBy: height)
      var sum = Double(bias[channel])
      for ky in max(0, 3 - y)..<min(7, height + 3 - y) {
        for kx in max(0, 3 - x)..<min(7, width + 3 - x) {
          let source = (image * height + y + ky - 3) * width + x + kx - 3
          sum +=
            Double(images[source * channels + channel])
            * Double(taps[(ky * 7 + kx) * channels + channel])
        }
      }
      let difference = abs(Double(actual[index]) - sum)
      worst = difference.isNaN ? .infinity : max(worst, difference)
    }
    #expect(worst < 1e-5, "seed \(seed)")
  }

  @Test(arguments: [1, 2, 5, 6, 7, 25, 64], [(1, 1), (3, 17), (16, 16), (40, 33), (700, 5)])
  func panelProductsAgree(rows: Int, size: (Int, Int)) {
    let (inner, columns) = size
    let seed = UInt64(rows * 1000 + inner)
    var generator = SeededGenerator(seed: seed)
    let input = generator.pixels(rows * inner).map { $0 - 0.5 }
    // [inner][columns]
    let matrix = generator.pixels(inner * columns).map { $0 - 0.5 }
    let transposed = (0..<columns).flatMap { column in
      (0..<inner).map { matrix[$0 * columns + column] }
    }
    let before = generator.pixels(rows * columns)
    for isTransposed in [false, true] {
      var panels = [Float](repeating: .nan, count: sfmedir_panel_floats(inner, columns))
      if isTransposed {
        sfmedir_make_panels_of_columns(transposed, &panels, inner, columns)
      } else {
        sfmedir_make_panels_of_rows(matrix, &panels, inner, columns)
      }
      for adds in [false, true] {
        // One more at the end: nothing may be written there.
        var out = adds ? before + [7] : [Float](repeating: .nan, count: before.count) + [7]
        sfmedir_panel_product(input, panels, &out, rows, inner, columns, adds ? 1 : 0)
        #expect(out[before.count] == 7)
        var worst = 0.0
        for row in 0..<rows {
          for column in 0..<columns {
            var sum = adds ? Double(before[row * columns + column]) : 0
            for index in 0..<inner {
              sum += Double(input[row * inner + index]) * Double(matrix[index * columns + column])
            }
            let difference = abs(Double(out[row * columns + column]) - sum)
            worst = difference.isNaN ? .infinity : max(worst, difference)
          }
        }
        #expect(worst < 1e-5 * Double(max(8, inner)).squareRoot(), "seed \(seed)")
      }
    }
  }

  @Test(arguments: [1, 2, 15, 16, 17, 40, 64])
  func layerNormalizationAgrees(channels: Int) {
    let rows = 3
    let seed = UInt64(channels)
    var generator = SeededGenerator(seed: seed)
    // A mean far from zero: one-pass formulas lose the variance here.
    let input = generator.pixels(rows * channels).map { $0 + 100 }
    var actual = input
    var scales = [Float](repeating: .nan, count: rows)
    sfmedir_standardize_rows(actual, 1e-6, &actual, &scales, rows, channels)
    for row in 0..<rows {
      let values = input[row * channels..<(row + 1) * channels].map(Double.init)
      let mean = values.reduce(0, +) / Double(channels)
      let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(channels)
      let scale = 1 / (variance + 1e-6).squareRoot()
      #expect(abs(Double(scales[row]) / scale - 1) < 1e-4, "seed \(seed)")
      for channel in 0..<channels {
        let expected = (values[channel] - mean) * scale
        #expect(abs(Double(actual[row * channels + channel]) - expected) < 1e-4, "seed \(seed)")
      }
    }
  }

  @Test(arguments: [0, 1, 7, 8, 15, 16, 33, 1000])
  func hammingScanFindsEveryCode(count: Int) {
    let seed = UInt64(count + 1)
    var generator = SeededGenerator(seed: seed)
    let query = generator.next()
    let codes = (0..<count).map { _ in query ^ (generator.next() & generator.next()) }
    for radius in [0, 10, 16, 20, 64] {
      var positions = [UInt32](repeating: 0, count: count)
      let found = sfmedir_codes_within(codes, count, query, UInt32(radius), &positions)
      let expected = codes.indices.filter { (codes[$0] ^ query).nonzeroBitCount <= radius }
      #expect(positions[..<found].map(Int.init) == expected, "seed \(seed), radius \(radius)")
    }
  }
}
