/// A grey picture in memory.
public struct GrayImage: Sendable, Equatable {
  /// In pixels, at least 1.
  public let width: Int
  /// In pixels, at least 1.
  public let height: Int
  /// 8 or 16.
  public let bitsPerSample: Int
  /// `width * height` values, row by row from the top, each at most `maximumValue`; 0 is black.
  public let samples: [UInt16]

  public init(width: Int, height: Int, bitsPerSample: Int, samples: [UInt16]) {
    precondition(width > 0 && height > 0, "a picture has pixels: \(width) x \(height)")
    precondition(bitsPerSample == 8 || bitsPerSample == 16, "8 or 16 bits, not \(bitsPerSample)")
    precondition(
      samples.count == width * height,
      "one sample per pixel: \(samples.count) for \(width) x \(height)")
    precondition(
      bitsPerSample == 16 || samples.allSatisfy { $0 <= 255 }, "8-bit samples are at most 255")
    self.width = width
    self.height = height
    self.bitsPerSample = bitsPerSample
    self.samples = samples
  }

  /// White: 255 or 65535.
  public var maximumValue: Int { bitsPerSample == 8 ? 255 : 65_535 }

  /// The same picture in 8 bits; 16-bit values are divided by 257 and rounded.
  public var reducedTo8Bits: GrayImage {
    if bitsPerSample == 8 { return self }
    return GrayImage(
      width: width, height: height, bitsPerSample: 8,
      samples: samples.map { UInt16((Int($0) + 128) / 257) })
  }
}

/// What a DICOM file says about its picture. Nothing that identifies a patient is kept.
public struct DicomMetadata: Sendable, Equatable {
  public var rows: Int
  public var columns: Int
  /// Frames in the file, at least 1.
  public var frameCount: Int
  public var bitsAllocated: Int
  public var bitsStored: Int
  public var isSigned: Bool
  /// 1 for grey, 3 for colour.
  public var samplesPerPixel: Int
  /// For example `MR`; empty where the file does not say.
  public var modality: String
  /// For example `MONOCHROME2`.
  public var photometricInterpretation: String
  public var transferSyntaxUID: String
  public var transferSyntaxName: String
}

/// A decoded file: its representative picture and where that came from.
public struct DecodedImage: Sendable, Equatable {
  public let format: ImageFormat
  public let image: GrayImage
  /// Frames in the file; 1 unless it is a multi-frame DICOM file.
  public let frameCount: Int
  /// Which frame `image` is, counted from 0.
  public let frameIndex: Int
  /// Nil unless the file is DICOM.
  public let dicom: DicomMetadata?
}
