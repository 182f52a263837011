import Testing

@testable import Imaging

@Suite struct JpegTests {
  static let fixtures = [
    (JpegFixtures.gray, JpegFixtures.grayPixels), (JpegFixtures.color, JpegFixtures.colorPixels),
    (JpegFixtures.progressive, JpegFixtures.progressivePixels),
  ]

  @Test(arguments: fixtures) func pixelsAreThoseOfAnotherDecoder(
    file: [UInt8], pixels: [UInt8]
  ) throws {
    let decoded = try ImageDecoder.decode(file)
    #expect(decoded.format == .jpeg)
    #expect(decoded.image.width == 12 && decoded.image.height == 10)
    #expect(decoded.image.bitsPerSample == 8)
    #expect(decoded.image.samples == pixels.map { UInt16($0) })
  }

  @Test(arguments: fixtures) func everyTruncationIsAnError(file: [UInt8], pixels: [UInt8]) {
    #expect(pixels.count == 120)
    for count in 0..<file.count {
      #expect(throws: ImageError.self, "cut to \(count) of \(file.count) bytes") {
        try ImageDecoder.decode(Array(file[..<count]))
      }
    }
    #expect(throws: ImageError.truncated) { try ImageDecoder.decode(file.dropLast(2)) }
  }

  @Test(arguments: fixtures) func flippedBytesNeverCrash(file: [UInt8], pixels: [UInt8]) {
    #expect(pixels.count == 120)
    let limits = ImageLimits(maximumPixels: 1_000_000)
    var refused = 0
    for at in file.indices {
      for bit in 0..<8 {
        var damaged = file
        damaged[at] ^= 1 << bit
        do {
          let image = try ImageDecoder.decode(damaged, limits: limits).image
          // Some flips only change pixels; JPEG carries no checksum.
          #expect(image.samples.count == image.width * image.height)
        } catch {
          refused += 1
        }
      }
    }
    #expect(refused > file.count)
  }

  @Test func cmykIsRefusedByName() {
    #expect(throws: ImageError.unsupported("CMYK pictures are not supported")) {
      try ImageDecoder.decode(JpegFixtures.cmyk)
    }
  }

  @Test func largeClaimsAreRefused() throws {
    var file = JpegFixtures.gray
    let frame = try #require(
      file.indices.dropLast().first { file[$0] == 0xFF && file[$0 + 1] == 0xC0 })
    file.replaceSubrange((frame + 5)..<(frame + 9), with: [0x50, 0x00, 0x4F, 0xFF])
    #expect(throws: ImageError.tooLarge(width: 20_479, height: 20_480, frames: 1)) {
      try ImageDecoder.decode(file)
    }
    file.replaceSubrange((frame + 5)..<(frame + 9), with: [0xFF, 0xFE, 0xFF, 0xFF])
    #expect(throws: ImageError.tooLarge(width: 65_535, height: 65_534, frames: 1)) {
      try ImageDecoder.decode(file)
    }
    file.replaceSubrange((frame + 5)..<(frame + 9), with: [0x10, 0x00, 0x10, 0x00])
    #expect(throws: ImageError.self) { try ImageDecoder.decode(file) }
  }

  @Test func endlessScansAreRefused() throws {
    // A progressive file whose last scan is repeated a thousand times.
    let file = JpegFixtures.progressive
    let starts = file.indices.dropLast().filter { file[$0] == 0xFF && file[$0 + 1] == 0xDA }
    let last = try #require(starts.last)
    let scan = Array(file[last..<(file.count - 2)])
    let bomb = file.dropLast(2) + (0..<1_000).flatMap { _ in scan } + file.suffix(2)
    #expect(throws: ImageError.self) { try ImageDecoder.decode(Array(bomb)) }
  }
}
