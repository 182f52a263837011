import CImage

/// PNG and JPEG through the C functions, which hold every `setjmp`.
enum RasterDecoder {
  case png
  case jpeg

  func decode(_ bytes: [UInt8], limits: ImageLimits) throws(ImageError) -> GrayImage {
    var message = SfmedirImageMessage()
    var header = SfmedirImageHeader()
    let cLimits = SfmedirImageLimits(
      maximum_side: UInt32(limits.maximumSide), maximum_pixels: UInt64(limits.maximumPixels))
    let headerStatus = bytes.withUnsafeBufferPointer { buffer in
      switch self {
      case .png:
        sfmedir_png_header(buffer.baseAddress, buffer.count, cLimits, &header, &message)
      case .jpeg:
        sfmedir_jpeg_header(buffer.baseAddress, buffer.count, cLimits, &header, &message)
      }
    }
    try Self.check(headerStatus, header, message)
    let count = Int(header.width) * Int(header.height)
    var status = SFMEDIR_IMAGE_OK
    let samples = [UInt16](unsafeUninitializedCapacity: count) { out, initialized in
      status = bytes.withUnsafeBufferPointer { buffer in
        switch self {
        case .png:
          sfmedir_png_decode(buffer.baseAddress, buffer.count, header, out.baseAddress, &message)
        case .jpeg:
          sfmedir_jpeg_decode(buffer.baseAddress, buffer.count, header, out.baseAddress, &message)
        }
      }
      initialized = status == SFMEDIR_IMAGE_OK ? count : 0
    }
    try Self.check(status, header, message)
    return GrayImage(
      width: Int(header.width), height: Int(header.height),
      bitsPerSample: Int(header.bits_per_sample), samples: samples)
  }

  static func check(
    _ status: SfmedirImageStatus, _ header: SfmedirImageHeader, _ message: SfmedirImageMessage
  ) throws(ImageError) {
    let text = string(fromCharacters: message.text)
    switch status {
    case SFMEDIR_IMAGE_OK: return
    case SFMEDIR_IMAGE_TRUNCATED: throw .truncated
    case SFMEDIR_IMAGE_UNSUPPORTED: throw .unsupported(text)
    case SFMEDIR_IMAGE_TOO_LARGE:
      throw .tooLarge(width: Int(header.width), height: Int(header.height), frames: 1)
    case SFMEDIR_IMAGE_NO_PIXELS: throw .noPixels
    case SFMEDIR_IMAGE_OUT_OF_MEMORY: throw .outOfMemory
    default: throw .corrupt(text)
    }
  }
}

/// A NUL-terminated C character array, which Swift sees as a tuple.
func string<Characters>(fromCharacters characters: Characters) -> String {
  withUnsafeBytes(of: characters) { raw in
    String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
  }
}
