import Testing

@testable import Imaging

@Suite struct DicomHostileTests {
  @Test(arguments: TestDicom.Syntax.allCases)
  func everyTruncationIsAnError(syntax: TestDicom.Syntax) throws {
    var file = TestDicom(syntax: syntax)
    file.samples = .init(0..<12)
    let sequence = file.sequence(
      0x08, 0x1140, items: file.item(file.text(0x08, 0x60, "CS", "CT"), open: true), open: true)
    file.before = sequence
    let bytes = file.encoded()
    _ = try ImageDecoder.decode(bytes)
    for count in 0..<bytes.count {
      #expect(throws: ImageError.self, "cut to \(count) of \(bytes.count) bytes") {
        try ImageDecoder.decode(Array(bytes[..<count]))
      }
    }
    #expect(throws: ImageError.truncated) { try ImageDecoder.decode(bytes.dropLast(1)) }
  }

  @Test(arguments: TestDicom.Syntax.allCases)
  func flippedBytesNeverCrash(syntax: TestDicom.Syntax) {
    var file = TestDicom(syntax: syntax)
    file.frames = 2
    file.samples = .init(0..<24)
    file.slope = "2"
    file.windowCenter = "3"
    file.windowWidth = "4"
    file.functionalGroups = file.sequence(
      0x5200, 0x9229,
      items: file.item(
        file.sequence(
          0x28, 0x9132,
          items: file.item(
            file.text(0x28, 0x1050, "DS", "5") + file.text(0x28, 0x1051, "DS", "80"), open: true),
          open: true)))
    let bytes = file.encoded()
    let limits = ImageLimits(maximumPixels: 100_000, maximumInflatedBytes: 1 << 20)
    var refused = 0
    for at in 128..<bytes.count {
      for bit in 0..<8 {
        var damaged = bytes
        damaged[at] ^= 1 << bit
        do { _ = try ImageDecoder.decode(damaged, limits: limits) } catch { refused += 1 }
      }
    }
    let seed: UInt64 = 77
    var random = TestRandom(state: seed)
    for round in 0..<4_000 {
      var damaged = bytes
      for _ in 0..<Int.random(in: 2...12, using: &random) {
        damaged[Int.random(in: 128..<bytes.count, using: &random)] = .random(
          in: 0...255, using: &random)
      }
      do {
        let image = try ImageDecoder.decode(damaged, limits: limits).image
        #expect(image.width * image.height <= 100_000, "seed \(seed), round \(round)")
      } catch { refused += 1 }
    }
    #expect(refused > 1_000)
  }

  @Test(arguments: TestDicom.Syntax.allCases)
  func deepNestingIsRefused(syntax: TestDicom.Syntax) {
    var file = TestDicom(syntax: syntax)
    file.samples = .init(0..<12)
    let opening = file.element(0x08, 0x1140, "SQ", [], length: 0xFFFF_FFFF)
    let itemOpening = file.u16(0xFFFE) + file.u16(0xE000) + file.u32(0xFFFF_FFFF)
    file.before = (0..<200_000).flatMap { _ in opening + itemOpening }
    #expect(throws: ImageError.corrupt("sequences are nested too deeply")) {
      try ImageDecoder.decode(file.encoded())
    }
    // With defined lengths nothing has to be walked: the outermost sequence is skipped at once.
    var content = file.text(0x08, 0x60, "CS", "MR")
    for _ in 0..<500 { content = file.sequence(0x08, 0x1140, items: file.item(content)) }
    file.before = content
    #expect(throws: Never.self) { try ImageDecoder.decode(file.encoded()) }
  }

  @Test func pixelDataMustCoverEveryFrame() {
    var file = TestDicom()
    file.samples = .init(0..<12)
    file.frames = 2
    #expect(throws: ImageError.truncated) { try ImageDecoder.decode(file.encoded()) }
    file.frames = 0
    #expect(throws: ImageError.self) { try ImageDecoder.decode(file.encoded()) }
    file.frames = -3
    #expect(throws: ImageError.self) { try ImageDecoder.decode(file.encoded()) }
    file.frames = nil
    file.rows = 4
    #expect(throws: ImageError.truncated) { try ImageDecoder.decode(file.encoded()) }
    file.rows = 0
    #expect(throws: ImageError.noPixels) { try ImageDecoder.decode(file.encoded()) }
  }

  @Test func largeClaimsAreRefused() {
    var file = TestDicom()
    file.samples = .init(0..<12)
    file.rows = 65_535
    file.columns = 65_535
    #expect(throws: ImageError.tooLarge(width: 65_535, height: 65_535, frames: 1)) {
      try ImageDecoder.decode(file.encoded())
    }
    file.rows = 512
    file.columns = 512
    file.frames = 999_999_999
    #expect(throws: ImageError.tooLarge(width: 512, height: 512, frames: 999_999_999)) {
      try ImageDecoder.decode(file.encoded())
    }
  }

  @Test func lengthsBeyondTheFileAreRefused() {
    var file = TestDicom()
    file.samples = .init(0..<12)
    file.before = file.element(0x08, 0x05, "UT", [0x20, 0x20], length: 0xFFFF_FFF0)
    #expect(throws: ImageError.truncated) { try ImageDecoder.decode(file.encoded()) }
    file.before = file.element(0x08, 0x05, "??", [])
    #expect(throws: ImageError.self) { try ImageDecoder.decode(file.encoded()) }
  }

  @Test func inflatingHasALimit() {
    var file = TestDicom(syntax: .deflated)
    file.samples = .init(0..<12)
    file.before = file.element(0x08, 0x05, "UT", [UInt8](repeating: 0x20, count: 400_000))
    #expect(throws: Never.self) { try ImageDecoder.decode(file.encoded()) }
    #expect(throws: ImageError.self) {
      try ImageDecoder.decode(file.encoded(), limits: ImageLimits(maximumInflatedBytes: 100_000))
    }
  }

  @Test(arguments: [
    ("1.2.840.10008.1.2.4.50", "JPEG Baseline"), ("1.2.840.10008.1.2.4.90", "JPEG 2000"),
    ("1.2.840.10008.1.2.5", "RLE Lossless"), ("1.2.3.4", "unknown"),
  ])
  func compressedSyntaxesAreNamed(uid: String, name: String) {
    var file = TestDicom()
    file.samples = .init(0..<12)
    file.claimedSyntax = uid
    let error = #expect(throws: ImageError.self) { try ImageDecoder.decode(file.encoded()) }
    guard case .unsupported(let text)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(text.contains(uid) && text.contains(name))
  }

  @Test func whatIsNotHandledSaysSo() {
    var file = TestDicom()
    file.samples = .init(0..<12)
    file.photometric = "PALETTE COLOR"
    #expect(throws: ImageError.unsupported("photometric interpretation \"PALETTE COLOR\"")) {
      try ImageDecoder.decode(file.encoded())
    }
    file.photometric = "MONOCHROME2"
    file.bitsAllocated = 32
    file.bitsStored = 32
    #expect(throws: ImageError.unsupported("32 bits allocated per sample")) {
      try ImageDecoder.decode(file.encoded())
    }
    file.bitsAllocated = 16
    #expect(throws: ImageError.self) { try ImageDecoder.decode(file.encoded()) }
    file.bitsStored = 12
    file.slope = "steep"
    #expect(throws: ImageError.self) { try ImageDecoder.decode(file.encoded()) }
    #expect(throws: ImageError.noPixels) {
      try ImageDecoder.decode(file.encoded(dataSet: file.text(0x08, 0x60, "CS", "MR")))
    }
  }

  @Test func nothingIsPrinted() async throws {
    // DCMTK warns about malformed values on standard error unless it is told not to.
    let result = try await #require(
      processExitsWith: .success, observing: [\.standardErrorContent]
    ) {
      var file = TestDicom(syntax: .implicitLittle)
      file.samples = .init(0..<12)
      file.slope = "1.2.3"
      _ = try? ImageDecoder.decode(file.encoded())
      file.slope = nil
      file.photometric = "MONOCHROME2\u{1}\u{2}"
      _ = try? ImageDecoder.decode(file.encoded())
    }
    let lines = String(decoding: result.standardErrorContent, as: UTF8.self)
    #expect(!lines.contains("DCM") && !lines.contains("W:") && !lines.contains("E:"), "\(lines)")
  }
}
