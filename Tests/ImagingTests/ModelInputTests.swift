import Testing

@testable import Imaging

@Suite struct ModelInputTests {
  @Test func trainingSizePassesThrough() {
    var random = TestRandom(state: 4)
    let samples = (0..<(128 * 128)).map { _ in UInt16.random(in: 0...255, using: &random) }
    let image = GrayImage(width: 128, height: 128, bitsPerSample: 8, samples: samples)
    #expect(ModelInput.canvas(image) == image)
    let pixels = ModelInput.pixels(image)
    #expect(pixels.count == 4_096)
    for (x, y) in [(0, 0), (63, 63), (5, 40)] {
      let at = 2 * y * 128 + 2 * x
      var sum = Int(samples[at]) + Int(samples[at + 1])
      sum += Int(samples[at + 128]) + Int(samples[at + 129])
      let mean = Float(sum) / 1_020
      #expect(pixels[y * 64 + x] == mean)
    }
  }

  /// Checksums of what Pillow's LANCZOS gives for the same synthetic pictures.
  @Test func scalingEqualsThatOfTheTrainingPictures() {
    let small = pattern(width: 53, height: 37) { x, y in (y * 5 + x * 3) % 256 }
    #expect(Resampler.fittedSize(width: 53, height: 37, into: 128) == (128, 89))
    #expect(checksum(Resampler.scaled(small, width: 128, height: 89)) == 1_948_524_450)
    let large = pattern(width: 201, height: 300) { x, y in (y * 7 + x * 3) % 251 }
    #expect(Resampler.fittedSize(width: 201, height: 300, into: 128) == (86, 128))
    #expect(checksum(Resampler.scaled(large, width: 86, height: 128)) == 991_291_706)
  }

  @Test func aspectIsKeptAndPaddingIsBlackAndCentred() {
    let wide = GrayImage(
      width: 300, height: 100, bitsPerSample: 16,
      samples: [UInt16](repeating: 40_000, count: 30_000))
    let canvas = ModelInput.canvas(wide)
    #expect(canvas.bitsPerSample == 16)
    // 100 * 128 / 300 = 42.67, so 43 rows from row (128 - 43) / 2 = 42 on.
    for y in 0..<128 {
      let expected: UInt16 = (42..<85).contains(y) ? 40_000 : 0
      let row = Set(canvas.samples[(y * 128)..<(y * 128 + 128)])
      #expect(row == [expected], "row \(y)")
    }
    let middle = ModelInput.pixels(wide)[32 * 64 + 32]
    #expect(middle == Float(40_000) / 65_535)
  }

  @Test func extremeShapesWork() {
    for (width, height) in [(1, 1), (1, 5_000), (5_000, 1), (127, 129), (3, 2)] {
      let white = GrayImage(
        width: width, height: height, bitsPerSample: 8,
        samples: [UInt16](repeating: 255, count: width * height))
      let pixels = ModelInput.pixels(white)
      let brightest = pixels.max() ?? 0
      #expect(pixels.count == 4_096)
      #expect(brightest > 0.2, "\(width) x \(height)")
    }
  }

  @Test func depthsAgree() {
    let eight = pattern(width: 90, height: 120) { x, y in (x * y) % 256 }
    let sixteen = GrayImage(
      width: 90, height: 120, bitsPerSample: 16, samples: eight.samples.map { $0 * 257 })
    var greatest: Float = 0
    for (a, b) in zip(ModelInput.pixels(eight), ModelInput.pixels(sixteen)) {
      greatest = max(greatest, abs(a - b))
    }
    let limit: Float = 1.1 / 255
    #expect(greatest < limit)
  }

  private func pattern(
    width: Int, height: Int, _ value: (Int, Int) -> Int
  ) -> GrayImage {
    var samples: [UInt16] = []
    for y in 0..<height { for x in 0..<width { samples.append(UInt16(value(x, y))) } }
    return GrayImage(width: width, height: height, bitsPerSample: 8, samples: samples)
  }

  private func checksum(_ image: GrayImage) -> UInt32 { crc32(image.samples.map { UInt8($0) }) }
}
