import CDicom

/// An uncompressed DICOM file in memory.
///
/// Multi-frame files are read frame by frame; only the frame asked for is ever expanded.
public struct DicomFile: Sendable {
  public let metadata: DicomMetadata
  private let owner: Owner

  /// How the stored values of one frame become a picture.
  public struct ValueMapping: Sendable, Equatable {
    /// Output is `stored * slope + intercept`; 1 and 0 where the file does not say.
    public var slope: Double
    public var intercept: Double
    /// The first window, in rescaled values; nil where the file names none.
    public var window: Window?
  }

  /// A window of the values shown (PS3.3 C.11.2.1).
  public struct Window: Sendable, Equatable {
    public enum Function: Sendable, Equatable {
      case linear
      case linearExact
      case sigmoid
    }
    public var center: Double
    public var width: Double
    public var function: Function
  }

  /// The C++ parser's handle, and the bytes it borrows.
  private final class Owner: @unchecked Sendable {
    // Never changed after init, so any thread may read through it.
    let bytes: UnsafeMutableBufferPointer<UInt8>
    var handle: OpaquePointer?

    init(_ source: [UInt8]) {
      bytes = .allocate(capacity: source.count)
      _ = bytes.initialize(from: source)
    }

    deinit {
      sfmedir_dicom_close(handle)
      bytes.deallocate()
    }
  }

  /// Parses the file and checks its size and the length of its pixel data; no pixel is decoded yet.
  public init(_ bytes: [UInt8], limits: ImageLimits = .default) throws(ImageError) {
    let owner = Owner(bytes)
    var information = SfmedirDicomInformation()
    var message = SfmedirDicomMessage()
    let cLimits = SfmedirDicomLimits(
      maximum_side: UInt32(limits.maximumSide), maximum_pixels: UInt64(limits.maximumPixels),
      maximum_total_pixels: UInt64(limits.maximumTotalPixels),
      maximum_inflated_bytes: UInt64(limits.maximumInflatedBytes))
    let status = sfmedir_dicom_open(
      owner.bytes.baseAddress, owner.bytes.count, cLimits, &owner.handle, &information, &message)
    try Self.check(status, information, message)
    self.owner = owner
    metadata = DicomMetadata(
      rows: Int(information.rows), columns: Int(information.columns),
      frameCount: Int(information.frames), bitsAllocated: Int(information.bits_allocated),
      bitsStored: Int(information.bits_stored), isSigned: information.is_signed != 0,
      samplesPerPixel: Int(information.samples_per_pixel),
      modality: string(fromCharacters: information.modality),
      photometricInterpretation: string(fromCharacters: information.photometric_interpretation),
      transferSyntaxUID: string(fromCharacters: information.transfer_syntax_uid),
      transferSyntaxName: string(fromCharacters: information.transfer_syntax_name))
  }

  /// The rescale and the window that hold for one frame.
  public func valueMapping(frame: Int) throws(ImageError) -> ValueMapping {
    checkFrame(frame)
    var description = SfmedirDicomFrame()
    var message = SfmedirDicomMessage()
    let status = sfmedir_dicom_frame(owner.handle, UInt32(frame), &description, &message)
    try Self.check(status, SfmedirDicomInformation(), message)
    var window: Window?
    if description.has_window != 0 {
      let function: Window.Function =
        switch description.window_function {
        case 1: .linearExact
        case 2: .sigmoid
        default: .linear
        }
      window = Window(
        center: description.window_center, width: description.window_width, function: function)
    }
    return ValueMapping(
      slope: description.slope, intercept: description.intercept, window: window)
  }

  /// `rows * columns` values as they stand in the file, sign-extended; the luma of colour pictures.
  public func storedValues(frame: Int) throws(ImageError) -> [Int32] {
    try read(frame: frame) { handle, frame, out, message in
      sfmedir_dicom_stored_values(handle, frame, out, message)
    }
  }

  /// `rows * columns` values after rescale, in the units of the modality (Hounsfield units for CT).
  public func rescaledValues(frame: Int) throws(ImageError) -> [Float] {
    let mapping = try valueMapping(frame: frame)
    return try storedValues(frame: frame).map {
      Float(Double($0) * mapping.slope + mapping.intercept)
    }
  }

  /// The frame as a 16-bit picture after rescale and window; see ``ImageDecoder/decode(_:limits:)``.
  public func grayImage(frame: Int) throws(ImageError) -> GrayImage {
    let samples: [UInt16] = try read(frame: frame) { handle, frame, out, message in
      sfmedir_dicom_gray16(handle, frame, out, message)
    }
    return GrayImage(
      width: metadata.columns, height: metadata.rows, bitsPerSample: 16, samples: samples)
  }

  private func read<Value>(
    frame: Int,
    _ body: (
      OpaquePointer?, UInt32, UnsafeMutablePointer<Value>?,
      UnsafeMutablePointer<SfmedirDicomMessage>
    ) -> SfmedirDicomStatus
  ) throws(ImageError) -> [Value] {
    checkFrame(frame)
    var status = SFMEDIR_DICOM_OK
    var message = SfmedirDicomMessage()
    let count = metadata.rows * metadata.columns
    let values = [Value](unsafeUninitializedCapacity: count) { out, initialized in
      status = body(owner.handle, UInt32(frame), out.baseAddress, &message)
      initialized = status == SFMEDIR_DICOM_OK ? count : 0
    }
    try Self.check(status, SfmedirDicomInformation(), message)
    return values
  }

  private func checkFrame(_ frame: Int) {
    precondition(
      (0..<metadata.frameCount).contains(frame), "frame \(frame) of \(metadata.frameCount)")
  }

  static func check(
    _ status: SfmedirDicomStatus, _ information: SfmedirDicomInformation,
    _ message: SfmedirDicomMessage
  ) throws(ImageError) {
    let text = string(fromCharacters: message.text)
    switch status {
    case SFMEDIR_DICOM_OK: return
    case SFMEDIR_DICOM_TRUNCATED: throw .truncated
    case SFMEDIR_DICOM_UNSUPPORTED: throw .unsupported(text)
    case SFMEDIR_DICOM_TOO_LARGE:
      if information.rows == 0 { throw .corrupt(text) }
      throw .tooLarge(
        width: Int(information.columns), height: Int(information.rows),
        frames: Int(information.frames))
    case SFMEDIR_DICOM_NO_PIXELS: throw .noPixels
    case SFMEDIR_DICOM_OUT_OF_MEMORY: throw .outOfMemory
    case SFMEDIR_DICOM_NOT_DICOM: throw .unrecognisedFormat
    default: throw .corrupt(text)
    }
  }
}
