import Testing

@testable import Imaging

@Suite struct DicomTests {
  @Test(arguments: TestDicom.Syntax.allCases)
  func everyUncompressedSyntax(syntax: TestDicom.Syntax) throws {
    var file = TestDicom(syntax: syntax)
    file.bitsStored = 12
    file.samples = (0..<12).map { 100 + $0 * 300 }
    let decoded = try ImageDecoder.decode(file.encoded())
    let dicom = try #require(decoded.dicom)
    #expect(decoded.format == .dicom && decoded.frameCount == 1)
    #expect(dicom.rows == 3 && dicom.columns == 4 && dicom.modality == "MR")
    #expect(dicom.bitsAllocated == 16 && dicom.bitsStored == 12 && !dicom.isSigned)
    #expect(dicom.transferSyntaxUID == syntax.rawValue)
    #expect(decoded.image.width == 4 && decoded.image.height == 3)
    // Without a window: from the least to the greatest value.
    let spread = (0..<12).map { (step: Int) -> UInt16 in UInt16((step * 65_535 * 2 + 11) / 22) }
    #expect(decoded.image.samples == spread)
    let stored = try DicomFile(file.encoded()).storedValues(frame: 0)
    let written = file.samples.map { (value: Int) -> Int32 in Int32(value) }
    #expect(stored == written)
  }

  @Test(arguments: TestDicom.Syntax.allCases)
  func signedValuesWithRescaleAndWindow(syntax: TestDicom.Syntax) throws {
    var file = TestDicom(syntax: syntax)
    file.signed = true
    file.samples = [-2000, -100, -50, -1, 0, 1, 50, 100, 500, 1000, 2000, 32_767]
    file.slope = "2"
    file.intercept = "-10.5"
    file.windowCenter = "40\\400"
    file.windowWidth = "401\\2000"
    let dicom = try DicomFile(file.encoded())
    #expect(dicom.metadata.isSigned)
    #expect(try dicom.storedValues(frame: 0) == file.samples.map { Int32($0) })
    let rescaled = file.samples.map { Double($0) * 2 - 10.5 }
    #expect(try dicom.rescaledValues(frame: 0) == rescaled.map { Float($0) })
    let mapping = try dicom.valueMapping(frame: 0)
    #expect(mapping.slope == 2 && mapping.intercept == -10.5)
    #expect(mapping.window == .init(center: 40, width: 401, function: .linear))
    // PS3.3 C.11.2.1.2.1, written out anew.
    let expected = rescaled.map { value -> UInt16 in
      if value <= 39.5 - 200 { return 0 }
      if value > 39.5 + 200 { return 65_535 }
      return UInt16(((value - 39.5) / 400 + 0.5) * 65_535 + 0.5)
    }
    #expect(try dicom.grayImage(frame: 0).samples == expected)
    #expect(expected.contains { $0 > 0 && $0 < 65_535 })
  }

  @Test func windowFunctions() throws {
    var file = TestDicom(rows: 1, columns: 5)
    file.samples = [0, 25, 50, 75, 100]
    file.windowCenter = "50"
    file.windowWidth = "100"
    file.windowFunction = "LINEAR_EXACT"
    let exact = try DicomFile(file.encoded()).grayImage(frame: 0).samples
    #expect(exact == [0, 16_384, 32_768, 49_151, 65_535])
    file.windowFunction = "SIGMOID"
    let sigmoid = try DicomFile(file.encoded()).grayImage(frame: 0).samples
    // 65535 / (1 + exp(2)) and its mirror image.
    #expect(sigmoid == [7_812, 17_625, 32_768, 47_910, 57_723])
    file.windowFunction = nil
    file.windowWidth = "1"
    #expect(
      try DicomFile(file.encoded()).grayImage(frame: 0).samples == [0, 0, 65_535, 65_535, 65_535])
    file.windowWidth = "0"
    #expect(try DicomFile(file.encoded()).valueMapping(frame: 0).window == nil)
  }

  @Test func monochrome1IsInverted() throws {
    var file = TestDicom(rows: 1, columns: 3)
    file.photometric = "MONOCHROME1"
    file.samples = [0, 500, 1000]
    #expect(try DicomFile(file.encoded()).grayImage(frame: 0).samples == [65_535, 32_767, 0])
    file.samples = [7, 7, 7]
    #expect(try DicomFile(file.encoded()).grayImage(frame: 0).samples.allSatisfy { $0 == 65_535 })
  }

  @Test func bitsOutsideTheStoredOnesAreIgnored() throws {
    var file = TestDicom(rows: 1, columns: 2)
    file.bitsStored = 10
    file.highBit = 11
    file.signed = true
    // Two bits below and four above belong to something else.
    file.samples = [0xF003 | 0x1FF << 2, 0xA001 | 0x200 << 2]
    #expect(try DicomFile(file.encoded()).storedValues(frame: 0) == [511, -512])
  }

  @Test func multiFrameShowsItsMiddle() throws {
    for count in [1, 2, 5, 10] {
      var file = TestDicom()
      file.frames = count
      file.samples = (0..<(12 * count)).map { $0 * $0 % 4_001 }
      let decoded = try ImageDecoder.decode(file.encoded())
      #expect(decoded.frameCount == count && decoded.frameIndex == count / 2)
      let dicom = try DicomFile(file.encoded())
      for frame in 0..<count {
        let expected = file.samples[(12 * frame)..<(12 * frame + 12)].map { Int32($0) }
        #expect(try dicom.storedValues(frame: frame) == expected)
      }
      #expect(decoded.image == (try dicom.grayImage(frame: count / 2)))
    }
  }

  @Test(arguments: TestDicom.Syntax.allCases, [false, true])
  func functionalGroupsGiveEachFrameItsOwnWindow(syntax: TestDicom.Syntax, open: Bool) throws {
    var file = TestDicom(syntax: syntax)
    file.frames = 2
    file.samples = (0..<24).map { $0 * 10 }
    let rescale = file.sequence(
      0x28, 0x9145,
      items: file.item(
        file.text(0x28, 0x1052, "DS", "-5") + file.text(0x28, 0x1053, "DS", "3"), open: open),
      open: open)
    func window(_ center: String) -> [UInt8] {
      let values = file.text(0x28, 0x1050, "DS", center) + file.text(0x28, 0x1051, "DS", "80")
      return file.item(
        file.sequence(0x28, 0x9132, items: file.item(values, open: open), open: open), open: open)
    }
    file.functionalGroups =
      file.sequence(0x5200, 0x9229, items: file.item(rescale, open: open), open: open)
      + file.sequence(0x5200, 0x9230, items: window("33") + window("44"), open: open)
    let dicom = try DicomFile(file.encoded())
    for (frame, center) in [33.0, 44.0].enumerated() {
      let mapping = try dicom.valueMapping(frame: frame)
      #expect(mapping.slope == 3 && mapping.intercept == -5)
      #expect(mapping.window == .init(center: center, width: 80, function: .linear))
    }
  }

  @Test(arguments: TestDicom.Syntax.allCases)
  func eightBitsAndColor(syntax: TestDicom.Syntax) throws {
    var file = TestDicom(syntax: syntax, rows: 1, columns: 4, bitsAllocated: 8, bitsStored: 8)
    for pixelVR in ["OW", "OB"] {
      file.pixelVR = pixelVR
      file.samples = [0, 51, 102, 255]
      #expect(try DicomFile(file.encoded()).grayImage(frame: 0).samples.last == 65_535)
      #expect(try DicomFile(file.encoded()).storedValues(frame: 0) == [0, 51, 102, 255])
    }
    file.samplesPerPixel = 3
    let pixels = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]
    for (photometric, gray) in [("RGB", [76, 150, 29, 18]), ("YBR_FULL", [255, 0, 0, 10])] {
      file.photometric = photometric
      for planar in [0, 1] {
        file.planar = planar
        file.samples =
          planar == 0 ? pixels.flatMap { $0 } : (0..<3).flatMap { c in pixels.map { $0[c] } }
        let dicom = try DicomFile(file.encoded())
        let stored = gray.map { (value: Int) -> Int32 in Int32(value) }
        let wide = gray.map { (value: Int) -> UInt16 in UInt16(value * 257) }
        #expect(try dicom.storedValues(frame: 0) == stored)
        #expect(try dicom.grayImage(frame: 0).samples == wide)
      }
    }
    file.photometric = "YBR_FULL_422"
    file.planar = 0
    file.samples = [1, 2, 128, 128, 3, 4, 128, 128]
    #expect(try DicomFile(file.encoded()).storedValues(frame: 0) == [1, 2, 3, 4])
  }

  @Test func writerRoundTripsAndRepeats() throws {
    var random = TestRandom(state: 9)
    let pixels = (0..<(20 * 30)).map { _ in UInt16.random(in: 0..<4_096, using: &random) }
    var picture = DicomPicture(
      rows: 20, columns: 30, bitsStored: 12, pixels: pixels, windowCenter: 1_000.5,
      windowWidth: 700, patientName: "DOE^JANE", patientID: "ID-1", studySeed: 1, instanceSeed: 2)
    let bytes = try DicomWriter.encode(picture)
    #expect(bytes == (try DicomWriter.encode(picture)))
    let dicom = try DicomFile(bytes)
    #expect(dicom.metadata.modality == "MR")
    #expect(dicom.metadata.transferSyntaxUID == "1.2.840.10008.1.2.1")
    #expect(dicom.metadata.photometricInterpretation == "MONOCHROME2")
    #expect(dicom.metadata.bitsStored == 12)
    #expect(try dicom.storedValues(frame: 0) == pixels.map { Int32($0) })
    let mapping = try dicom.valueMapping(frame: 0)
    #expect(mapping.window == .init(center: 1_000.5, width: 700, function: .linear))
    picture.instanceSeed = 3
    #expect(bytes != (try DicomWriter.encode(picture)))
    picture.patientName = "back\\slash"
    #expect(throws: ImageError.self) { try DicomWriter.encode(picture) }
  }

  @Test func identifiersFollowTheStandard() {
    let uid = DicomWriter.uid(.max, .max)
    #expect(uid == "2.25.340282366920937934553716840013076889599")
    #expect(uid.count <= 64)
  }
}
