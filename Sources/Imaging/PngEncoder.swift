import CImage

/// Writes PNG files. The same pixels give the same bytes with the same zlib.
public enum PngEncoder {
  /// A grey file of the picture's own depth, 8 or 16 bits.
  public static func encode(_ image: GrayImage) -> [UInt8] {
    let width = UInt32(image.width)
    let height = UInt32(image.height)
    if image.bitsPerSample == 16 {
      return collect { out, size, message in
        sfmedir_png_encode_gray16(image.samples, width, height, out, size, message)
      }
    }
    let bytes = image.samples.map { UInt8($0) }
    return collect { out, size, message in
      sfmedir_png_encode_8(bytes, width, height, 1, out, size, message)
    }
  }

  /// An 8-bit RGB file; `pixels` holds `3 * width * height` values, row by row.
  public static func encode(rgb pixels: [UInt8], width: Int, height: Int) -> [UInt8] {
    precondition(
      width > 0 && height > 0 && pixels.count == 3 * width * height,
      "three samples per pixel: \(pixels.count) for \(width) x \(height)")
    return collect { out, size, message in
      sfmedir_png_encode_8(pixels, UInt32(width), UInt32(height), 3, out, size, message)
    }
  }

  private static func collect(
    _ encode: (
      UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>, UnsafeMutablePointer<Int>,
      UnsafeMutablePointer<SfmedirImageMessage>
    ) -> SfmedirImageStatus
  ) -> [UInt8] {
    var out: UnsafeMutablePointer<UInt8>?
    var size = 0
    var message = SfmedirImageMessage()
    let status = encode(&out, &size, &message)
    // Sound pixels can only fail for want of memory, which Swift's own allocations do not survive either.
    guard status == SFMEDIR_IMAGE_OK, let out else {
      preconditionFailure("PNG encoding failed: \(string(fromCharacters: message.text))")
    }
    defer { sfmedir_image_free(out) }
    return [UInt8](UnsafeBufferPointer(start: out, count: size))
  }
}
