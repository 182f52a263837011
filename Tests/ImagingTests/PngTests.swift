import Testing

@testable import Imaging

@Suite struct PngTests {
  @Test(arguments: [1, 2, 4, 8, 16], [false, true])
  func grayOfEveryDepth(depth: Int, interlaced: Bool) throws {
    var random = TestRandom(state: UInt64(depth))
    let (width, height) = (13, 11)
    let samples = (0..<(width * height)).map { _ in
      Int.random(in: 0..<1 << depth, using: &random)
    }
    let file = TestPng(
      width: width, height: height, depth: depth, color: .gray, interlaced: interlaced,
      samples: samples)
    let decoded = try ImageDecoder.decode(file.encoded())
    #expect(decoded.format == .png)
    #expect(decoded.frameCount == 1 && decoded.dicom == nil)
    #expect(decoded.image.width == width && decoded.image.height == height)
    #expect(decoded.image.bitsPerSample == (depth == 16 ? 16 : 8))
    let scale = depth >= 8 ? 1 : 255 / (1 << depth - 1)
    let expected = samples.map { (value: Int) -> UInt16 in UInt16(value * scale) }
    #expect(decoded.image.samples == expected)
  }

  @Test(arguments: [TestPng.Color.rgb, .rgba, .grayAlpha], [false, true])
  func colorAndAlpha(color: TestPng.Color, interlaced: Bool) throws {
    for depth in [8, 16] {
      var random = TestRandom(state: UInt64(depth) + UInt64(color.rawValue))
      let (width, height) = (9, 10)
      let channels = color.channels
      let full = 1 << depth - 1
      let samples = (0..<(width * height * channels)).map { _ in
        Int.random(in: 0...full, using: &random)
      }
      let file = TestPng(
        width: width, height: height, depth: depth, color: color, interlaced: interlaced,
        samples: samples)
      let expected = (0..<(width * height)).map { pixel -> UInt16 in
        let part = samples[(pixel * channels)..<((pixel + 1) * channels)].map { $0 }
        let gray = channels >= 3 ? luma(part[0], part[1], part[2]) : part[0]
        let alpha = channels % 2 == 0 ? part[channels - 1] : full
        return UInt16((gray * alpha + full / 2) / full)
      }
      let image = try ImageDecoder.decode(file.encoded()).image
      #expect(image.bitsPerSample == depth)
      #expect(image.samples == expected)
    }
  }

  @Test(arguments: [1, 2, 4, 8], [false, true])
  func palettes(depth: Int, withAlpha: Bool) throws {
    let entries = min(1 << depth, 6)
    let palette = (0..<(3 * entries)).map { UInt8(truncatingIfNeeded: $0 &* 53 &+ 20) }
    let alphas: [UInt8] = withAlpha ? [0, 128] : []
    let samples = (0..<35).map { $0 * 7 % entries }
    let file = TestPng(
      width: 7, height: 5, depth: depth, color: .palette, interlaced: depth == 4,
      samples: samples, palette: palette, transparency: alphas)
    let expected = samples.map { index -> UInt16 in
      let gray = luma(
        Int(palette[3 * index]), Int(palette[3 * index + 1]), Int(palette[3 * index + 2]))
      let alpha = index < alphas.count ? Int(alphas[index]) : 255
      return UInt16((gray * alpha + 127) / 255)
    }
    #expect(try ImageDecoder.decode(file.encoded()).image.samples == expected)
  }

  @Test func lumaKeepsGrayAndWhite() {
    for value in [0, 1, 77, 254, 255, 65_535] { #expect(luma(value, value, value) == value) }
  }

  @Test func gammaAndProfilesChangeNothing() throws {
    let samples = (0..<64).map { $0 * 4 }
    var file = TestPng(width: 8, height: 8, depth: 8, color: .gray, samples: samples)
    file.extra = [
      ("gAMA", big32(100_000)), ("iCCP", Array("bad\0\0not a zlib stream".utf8)),
      ("zTXt", Array("key\0\0neither is this".utf8)),
    ]
    let expected = samples.map { (value: Int) -> UInt16 in UInt16(value) }
    #expect(try ImageDecoder.decode(file.encoded()).image.samples == expected)
  }

  @Test func everyTruncationIsAnError() throws {
    for interlaced in [false, true] {
      let file = TestPng(
        width: 9, height: 9, depth: 8, color: .rgb, interlaced: interlaced,
        samples: (0..<243).map { $0 }
      ).encoded()
      for count in 0..<file.count {
        let error = #expect(throws: ImageError.self) {
          try ImageDecoder.decode(Array(file[..<count]))
        }
        let expected: ImageError =
          count == 0 ? .empty : count < 8 ? .unrecognisedFormat : .truncated
        #expect(error == expected, "cut to \(count) of \(file.count) bytes")
      }
      _ = try ImageDecoder.decode(file)
      // What follows the end of the picture is not ours to judge.
      _ = try ImageDecoder.decode(file + [1, 2, 3])
    }
  }

  @Test func everyFlippedByteIsAnError() throws {
    let file = TestPng(
      width: 6, height: 5, depth: 8, color: .gray, samples: (0..<30).map { $0 * 8 }
    ).encoded()
    for at in file.indices {
      for mask: UInt8 in [0x01, 0x80, 0xFF] {
        var damaged = file
        damaged[at] ^= mask
        #expect(throws: ImageError.self, "byte \(at) ^ \(mask)") {
          try ImageDecoder.decode(damaged)
        }
      }
    }
  }

  @Test func damagedPixelsUnderASoundChecksumAreAnError() {
    // Too few rows, and a zlib stream that is none, each with right CRCs.
    let sound = TestPng(width: 4, height: 4, depth: 8, color: .gray, samples: .init(0..<16))
    let start = Array(sound.encoded()[..<8])
    let ihdr = TestPng.chunk("IHDR", big32(4) + big32(40) + [8, 0, 0, 0, 0])
    for content in [zlibStored([0, 1, 2, 3, 4]), [1, 2, 3, 4]] {
      let file = start + ihdr + TestPng.chunk("IDAT", content) + TestPng.chunk("IEND", [])
      #expect(throws: ImageError.self) { try ImageDecoder.decode(file) }
    }
  }

  @Test func sizesAreCheckedBeforeAnythingIsAllocated() {
    func claiming(_ width: Int, _ height: Int) -> [UInt8] {
      let sound = TestPng(width: 1, height: 1, depth: 8, color: .gray, samples: [0]).encoded()
      let header = TestPng.chunk("IHDR", big32(width) + big32(height) + [8, 0, 0, 0, 0])
      return Array(sound[..<8]) + header + Array(sound[33...])
    }
    let huge = 1 << 31
    #expect(throws: ImageError.tooLarge(width: huge, height: huge, frames: 1)) {
      try ImageDecoder.decode(claiming(huge, huge))
    }
    #expect(throws: ImageError.tooLarge(width: 16_384, height: 16_384, frames: 1)) {
      try ImageDecoder.decode(claiming(16_384, 16_384))
    }
    #expect(throws: ImageError.tooLarge(width: 16_385, height: 1, frames: 1)) {
      try ImageDecoder.decode(claiming(16_385, 1))
    }
    #expect(throws: ImageError.noPixels) { try ImageDecoder.decode(claiming(0, 7)) }
    #expect(throws: ImageError.self) { try ImageDecoder.decode(claiming(8_000, 8_000)) }
    #expect(throws: ImageError.tooLarge(width: 1, height: 11, frames: 1)) {
      try ImageDecoder.decode(claiming(1, 11), limits: ImageLimits(maximumPixels: 10))
    }
  }

  @Test func whatIsNoPictureSaysSo() {
    #expect(throws: ImageError.empty) { try ImageDecoder.decode([]) }
    let text = Array("This is a text file that somebody named scan.png.\n".utf8)
    #expect(throws: ImageError.unrecognisedFormat) { try ImageDecoder.decode(text) }
    let long = [UInt8](repeating: 0x20, count: 4_000)
    #expect(throws: ImageError.unrecognisedFormat) { try ImageDecoder.decode(long) }
    #expect("\(ImageError.unrecognisedFormat)".contains("neither PNG"))
  }

  @Test func encoderRoundTrips() throws {
    var random = TestRandom(state: 3)
    for bits in [8, 16] {
      let samples = (0..<(31 * 17)).map { _ in
        UInt16.random(in: 0...(bits == 8 ? 255 : .max), using: &random)
      }
      let image = GrayImage(width: 31, height: 17, bitsPerSample: bits, samples: samples)
      let bytes = PngEncoder.encode(image)
      #expect(bytes == PngEncoder.encode(image))
      #expect(try ImageDecoder.decode(bytes).image == image)
    }
    let rgb: [UInt8] = (0..<(5 * 4 * 3)).map { UInt8($0 * 4) }
    let decoded = try ImageDecoder.decode(PngEncoder.encode(rgb: rgb, width: 5, height: 4)).image
    let expected = (0..<20).map {
      UInt16(luma(Int(rgb[3 * $0]), Int(rgb[3 * $0 + 1]), Int(rgb[3 * $0 + 2])))
    }
    #expect(decoded.samples == expected)
  }

  private func luma(_ red: Int, _ green: Int, _ blue: Int) -> Int {
    (19_595 * red + 38_470 * green + 7_471 * blue + 32_768) / 65_536
  }
}
