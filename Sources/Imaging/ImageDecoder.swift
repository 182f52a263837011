/// Turns files into grey pictures.
public enum ImageDecoder {
  /// Decodes a PNG, JPEG or DICOM file, told apart by content.
  ///
  /// - PNG keeps 16 bits where the file has them; fewer than 8 bits are stretched to 8. Values of grey files are
  ///   taken as they are, without gamma conversion. Alpha is composited over black.
  /// - Colour becomes grey by ITU-R BT.601 luma in integers:
  ///   `(19595 R + 38470 G + 7471 B + 32768) >> 16`.
  /// - DICOM becomes 16 bits after rescale and the first window (without one: from the frame's own minimum to its
  ///   maximum); MONOCHROME1 is inverted. The representative picture of a multi-frame file is its middle frame,
  ///   `frameCount / 2`. Only uncompressed transfer syntaxes are read; others are named in the error.
  ///
  /// A file that is cut short or damaged anywhere up to the end of its picture is an error, never a partial picture.
  public static func decode(
    _ bytes: [UInt8], limits: ImageLimits = .default
  ) throws(ImageError) -> DecodedImage {
    if bytes.isEmpty { throw .empty }
    switch ImageFormat.sniffed(from: bytes) {
    case nil: throw .unrecognisedFormat
    case .dicom?:
      let file = try DicomFile(bytes, limits: limits)
      let frame = file.metadata.frameCount / 2
      return DecodedImage(
        format: .dicom, image: try file.grayImage(frame: frame),
        frameCount: file.metadata.frameCount, frameIndex: frame, dicom: file.metadata)
    case .png?: return try single(.png, RasterDecoder.png.decode(bytes, limits: limits))
    case .jpeg?: return try single(.jpeg, RasterDecoder.jpeg.decode(bytes, limits: limits))
    }
  }

  private static func single(
    _ format: ImageFormat, _ image: GrayImage
  ) throws(ImageError) -> DecodedImage {
    DecodedImage(format: format, image: image, frameCount: 1, frameIndex: 0, dicom: nil)
  }
}
