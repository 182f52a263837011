import CDicom

/// What goes into a DICOM file; see ``DicomWriter``.
public struct DicomPicture: Sendable {
  public var rows: Int
  public var columns: Int
  /// 1...16; every pixel is below `2^bitsStored`.
  public var bitsStored: Int
  /// `rows * columns` values, row by row.
  public var pixels: [UInt16]
  public var windowCenter: Double
  public var windowWidth: Double
  public var pixelSpacingMillimetres: Double = 0.9375
  public var instanceNumber: Int = 1
  /// Printable ASCII without backslash, at most 64 characters, like the other texts.
  public var patientName: String
  public var patientID: String
  public var seriesDescription: String = ""
  public var comments: String = ""
  /// The study, series, instance and frame-of-reference UIDs are derived from these, so that the same seeds name the
  /// same study or instance again.
  public var studySeed: UInt64
  public var instanceSeed: UInt64

  public init(
    rows: Int, columns: Int, bitsStored: Int, pixels: [UInt16], windowCenter: Double,
    windowWidth: Double, patientName: String, patientID: String, studySeed: UInt64,
    instanceSeed: UInt64
  ) {
    self.rows = rows
    self.columns = columns
    self.bitsStored = bitsStored
    self.pixels = pixels
    self.windowCenter = windowCenter
    self.windowWidth = windowWidth
    self.patientName = patientName
    self.patientID = patientID
    self.studySeed = studySeed
    self.instanceSeed = instanceSeed
  }
}

/// Writes 16-bit MONOCHROME2 MR images as Part 10 files in Explicit VR Little Endian.
public enum DicomWriter {
  /// The file's bytes; the same picture gives the same bytes with the same DCMTK.
  ///
  /// Throws ``ImageError/unsupported(_:)`` for texts that do not fit their attributes.
  public static func encode(_ picture: DicomPicture) throws(ImageError) -> [UInt8] {
    precondition(
      (1...65_535).contains(picture.rows) && (1...65_535).contains(picture.columns)
        && picture.pixels.count == picture.rows * picture.columns,
      "one value per pixel: \(picture.pixels.count) for \(picture.columns) x \(picture.rows)")
    precondition((1...16).contains(picture.bitsStored), "\(picture.bitsStored) bits stored")
    precondition(
      picture.pixels.allSatisfy { Int($0) < 1 << picture.bitsStored },
      "a pixel does not fit \(picture.bitsStored) bits")
    let texts = [
      picture.patientName, picture.patientID, picture.seriesDescription, picture.comments,
    ]
    for text in texts where !isWritable(text) {
      throw .unsupported(
        "DICOM texts are at most 64 printable ASCII characters without backslash")
    }
    return try write(picture)
  }

  private static func isWritable(_ text: String) -> Bool {
    text.utf8.count <= 64 && text.utf8.allSatisfy { (0x20..<0x7F).contains($0) && $0 != 0x5C }
  }

  /// A UID under `2.25` (PS3.5 B.2), whose number is a version 8 UUID made of both words.
  static func uid(_ high: UInt64, _ low: UInt64) -> String {
    var number = UInt128(high) << 64 | UInt128(low)
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return "2.25.\(number)"
  }

  private static func write(_ picture: DicomPicture) throws(ImageError) -> [UInt8] {
    var study = SplitMix64(seed: picture.studySeed)
    let studyUID = uid(study.next(), study.next())
    let seriesUID = uid(study.next(), study.next())
    let frameOfReferenceUID = uid(study.next(), study.next())
    var instance = SplitMix64(seed: picture.instanceSeed ^ study.next())
    let instanceUID = uid(instance.next(), instance.next())
    var out: UnsafeMutablePointer<UInt8>?
    var size = 0
    var message = SfmedirDicomMessage()
    let texts = [
      picture.patientName, picture.patientID, studyUID, seriesUID, instanceUID,
      frameOfReferenceUID, picture.seriesDescription, picture.comments,
    ]
    let status = withCStrings(texts) { text in
      picture.pixels.withUnsafeBufferPointer { pixels in
        var description = SfmedirDicomPicture(
          pixels: pixels.baseAddress, rows: UInt32(picture.rows), columns: UInt32(picture.columns),
          bits_stored: UInt32(picture.bitsStored), window_center: picture.windowCenter,
          window_width: picture.windowWidth,
          pixel_spacing_millimetres: picture.pixelSpacingMillimetres,
          instance_number: UInt32(picture.instanceNumber), patient_name: text[0],
          patient_id: text[1], study_uid: text[2], series_uid: text[3], instance_uid: text[4],
          frame_of_reference_uid: text[5], series_description: text[6], comments: text[7])
        return sfmedir_dicom_write(&description, &out, &size, &message)
      }
    }
    try DicomFile.check(status, SfmedirDicomInformation(), message)
    guard let out else { throw .outOfMemory }
    defer { sfmedir_dicom_free(out) }
    return [UInt8](UnsafeBufferPointer(start: out, count: size))
  }

  /// Calls `body` with a C string for each text, valid during the call.
  private static func withCStrings<Result>(
    _ texts: [String], _ body: ([UnsafePointer<CChar>]) -> Result
  ) -> Result {
    var storage: [CChar] = []
    var offsets: [Int] = []
    for text in texts {
      offsets.append(storage.count)
      storage += text.utf8.map { CChar(bitPattern: $0) } + [0]
    }
    return storage.withUnsafeBufferPointer { buffer in
      // Every text ends in a NUL, so the buffer is not empty.
      let base = buffer.baseAddress!
      return body(offsets.map { base + $0 })
    }
  }
}
