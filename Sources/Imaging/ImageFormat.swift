/// The kinds of files that can be decoded.
public enum ImageFormat: String, Sendable, Equatable, CaseIterable {
  case png
  case jpeg
  case dicom

  /// Tells the kind from the content; a file's name is never looked at.
  ///
  /// PNG by its eight-byte signature, JPEG by its start-of-image marker followed by another marker, DICOM by `DICM`
  /// after the 128-byte preamble (PS3.10 section 7.1). Nil for everything else.
  public static func sniffed(from bytes: [UInt8]) -> ImageFormat? {
    if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) { return .png }
    if bytes.starts(with: [0xFF, 0xD8, 0xFF]) { return .jpeg }
    if bytes.count >= 132, bytes[128..<132].elementsEqual("DICM".utf8) { return .dicom }
    return nil
  }
}

/// Why a file could not be decoded, or a picture not be encoded.
public enum ImageError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The file holds no bytes.
  case empty
  /// The content is neither PNG nor JPEG nor DICOM.
  case unrecognisedFormat
  /// The file ends before its picture does.
  case truncated
  /// The content contradicts its own format.
  case corrupt(String)
  /// A sound file of a kind that is not handled; names what is missing.
  case unsupported(String)
  /// Larger than the limits; what the header claims, in pixels and frames.
  case tooLarge(width: Int, height: Int, frames: Int)
  /// The file holds no picture, or one without pixels.
  case noPixels
  /// The machine has no memory for the picture.
  case outOfMemory

  public var description: String {
    switch self {
    case .empty: "the file is empty"
    case .unrecognisedFormat: "the file is neither PNG nor JPEG nor DICOM"
    case .truncated: "the file ends before its picture does"
    case .corrupt(let what): "the file is damaged: \(what)"
    case .unsupported(let what): "the file needs something that is not supported: \(what)"
    case .tooLarge(let width, let height, let frames):
      "the picture is larger than the limit: \(width) x \(height)"
        + (frames == 1 ? "" : " in \(frames) frames")
    case .noPixels: "the file holds no picture"
    case .outOfMemory: "there is no memory for the picture"
    }
  }
}

/// What a file may ask for; checked before anything of the picture's size is allocated.
public struct ImageLimits: Sendable, Equatable {
  /// The longest side, in pixels.
  public var maximumSide: Int
  /// The pixels of one picture or frame.
  public var maximumPixels: Int
  /// The pixels of all frames of a DICOM file together.
  public var maximumTotalPixels: Int
  /// What a deflated DICOM data set may inflate to.
  public var maximumInflatedBytes: Int

  public init(
    maximumSide: Int = 16_384, maximumPixels: Int = 64_000_000,
    maximumTotalPixels: Int = 1_000_000_000, maximumInflatedBytes: Int = 512 << 20
  ) {
    precondition(
      (1...65_535).contains(maximumSide) && maximumPixels > 0 && maximumTotalPixels > 0
        && maximumInflatedBytes > 0,
      "limits must be positive and sides fit 16 bits: side \(maximumSide), pixels \(maximumPixels)")
    self.maximumSide = maximumSide
    self.maximumPixels = maximumPixels
    self.maximumTotalPixels = maximumTotalPixels
    self.maximumInflatedBytes = maximumInflatedBytes
  }

  /// 16,384 a side, 64 megapixels.
  public static let `default` = ImageLimits()
}
