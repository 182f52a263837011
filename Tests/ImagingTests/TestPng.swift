import Imaging

/// A PNG file written by hand, in every kind that the encoder of the package does not write.
struct TestPng {
  enum Color: UInt8 {
    case gray = 0
    case rgb = 2
    case palette = 3
    case grayAlpha = 4
    case rgba = 6

    var channels: Int {
      switch self {
      case .gray, .palette: 1
      case .grayAlpha: 2
      case .rgb: 3
      case .rgba: 4
      }
    }
  }

  var width: Int
  var height: Int
  var depth: Int
  var color: Color
  var interlaced = false
  /// `width * height * channels` values.
  var samples: [Int]
  /// Red, green and blue of each entry.
  var palette: [UInt8] = []
  var transparency: [UInt8] = []
  /// Further chunks before the pixels.
  var extra: [(type: String, content: [UInt8])] = []

  func encoded() -> [UInt8] {
    var file: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    file += Self.chunk(
      "IHDR",
      big32(width) + big32(height) + [
        UInt8(depth), color.rawValue, 0, 0, interlaced ? 1 : 0,
      ])
    for part in extra { file += Self.chunk(part.type, part.content) }
    if !palette.isEmpty { file += Self.chunk("PLTE", palette) }
    if !transparency.isEmpty { file += Self.chunk("tRNS", transparency) }
    let rows = interlaced ? interlacedRows() : rows(0..<height, x: 0, step: 1, yStep: 1)
    file += Self.chunk("IDAT", zlibStored(rows))
    return file + Self.chunk("IEND", [])
  }

  private func interlacedRows() -> [UInt8] {
    // Adam7: first column and row, then steps.
    let passes = [
      (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
      (0, 1, 1, 2),
    ]
    return passes.flatMap { x, y, step, yStep in
      x < width && y < height ? rows(y..<height, x: x, step: step, yStep: yStep) : []
    }
  }

  private func rows(_ range: Range<Int>, x first: Int, step: Int, yStep: Int) -> [UInt8] {
    var out: [UInt8] = []
    for y in stride(from: range.lowerBound, to: range.upperBound, by: yStep) {
      out.append(0)  // no filter
      var bits = 0
      var count = 0
      for x in stride(from: first, to: width, by: step) {
        for channel in 0..<color.channels {
          bits = bits << depth | samples[(y * width + x) * color.channels + channel]
          count += depth
          while count >= 8 {
            count -= 8
            out.append(UInt8(bits >> count & 0xFF))
          }
          bits &= 1 << count - 1
        }
      }
      if count > 0 { out.append(UInt8(bits << (8 - count) & 0xFF)) }
    }
    return out
  }

  static func chunk(_ type: String, _ content: [UInt8]) -> [UInt8] {
    let body = Array(type.utf8) + content
    return big32(content.count) + body + big32(Int(crc32(body)))
  }
}

func big32(_ value: Int) -> [UInt8] {
  [24, 16, 8, 0].map { UInt8(value >> $0 & 0xFF) }
}

func crc32(_ bytes: [UInt8]) -> UInt32 {
  var crc: UInt32 = 0xFFFF_FFFF
  for byte in bytes {
    crc ^= UInt32(byte)
    for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
  }
  return ~crc
}

/// Deflate's stored blocks, without a wrapper.
func deflateStored(_ bytes: [UInt8]) -> [UInt8] {
  var out: [UInt8] = []
  var at = 0
  repeat {
    let count = min(65_535, bytes.count - at)
    let last: UInt8 = at + count == bytes.count ? 1 : 0
    out += [
      last, UInt8(count & 0xFF), UInt8(count >> 8), UInt8(~count & 0xFF), UInt8(~count >> 8 & 0xFF),
    ]
    out += bytes[at..<(at + count)]
    at += count
  } while at < bytes.count
  return out
}

func zlibStored(_ bytes: [UInt8]) -> [UInt8] {
  var a = 1
  var b = 0
  for byte in bytes {
    a = (a + Int(byte)) % 65_521
    b = (b + a) % 65_521
  }
  return [0x78, 0x01] + deflateStored(bytes) + big32(b << 16 | a)
}

/// Seeded numbers for tests.
struct TestRandom: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    var z = state
    z = (z ^ z >> 32) &* 0xD6E8_FEB8_6659_FD93
    return z ^ z >> 32
  }
}
