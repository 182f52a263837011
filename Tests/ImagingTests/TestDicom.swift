import Imaging

/// A DICOM file written element by element.
struct TestDicom {
  enum Syntax: String, CaseIterable {
    case implicitLittle = "1.2.840.10008.1.2"
    case explicitLittle = "1.2.840.10008.1.2.1"
    case deflated = "1.2.840.10008.1.2.1.99"
    case explicitBig = "1.2.840.10008.1.2.2"
  }

  var syntax = Syntax.explicitLittle
  /// Written in place of the syntax's own UID.
  var claimedSyntax: String?
  var rows = 3
  var columns = 4
  var frames: Int?
  var bitsAllocated = 16
  var bitsStored = 16
  var highBit: Int?
  var signed = false
  var samplesPerPixel = 1
  var planar = 0
  var photometric = "MONOCHROME2"
  var slope: String?
  var intercept: String?
  var windowCenter: String?
  var windowWidth: String?
  var windowFunction: String?
  /// All samples as they stand in the file.
  var samples: [Int] = []
  /// Raw elements before and after the picture's description, already in the syntax's encoding.
  var before: [UInt8] = []
  var functionalGroups: [UInt8] = []
  var pixelVR = "OW"

  private var big: Bool { syntax == .explicitBig }

  func u16(_ value: Int) -> [UInt8] {
    let (low, high) = (UInt8(value & 0xFF), UInt8(value >> 8 & 0xFF))
    return big ? [high, low] : [low, high]
  }

  func u32(_ value: Int) -> [UInt8] {
    big ? u16(value >> 16) + u16(value) : u16(value) + u16(value >> 16)
  }

  func element(
    _ group: Int, _ element: Int, _ vr: String, _ value: [UInt8], length: Int? = nil
  ) -> [UInt8] {
    var value = value
    if value.count % 2 == 1 { value.append(vr == "UI" ? 0 : 0x20) }
    let count = length ?? value.count
    let tag = u16(group) + u16(element)
    if syntax == .implicitLittle { return tag + u32(count) + value }
    let long = ["OB", "OW", "SQ", "UN", "UT"].contains(vr)
    return tag + Array(vr.utf8) + (long ? u16(0) + u32(count) : u16(count)) + value
  }

  func text(_ group: Int, _ number: Int, _ vr: String, _ value: String) -> [UInt8] {
    element(group, number, vr, Array(value.utf8))
  }

  func item(_ content: [UInt8], open: Bool = false) -> [UInt8] {
    let tag = u16(0xFFFE) + u16(0xE000)
    return open
      ? tag + u32(0xFFFF_FFFF) + content + u16(0xFFFE) + u16(0xE00D) + u32(0)
      : tag + u32(content.count) + content
  }

  func sequence(_ group: Int, _ number: Int, items: [UInt8], open: Bool = false) -> [UInt8] {
    open
      ? element(group, number, "SQ", items, length: 0xFFFF_FFFF) + u16(0xFFFE) + u16(0xE0DD)
        + u32(0)
      : element(group, number, "SQ", items)
  }

  private func short(_ number: Int, _ value: Int) -> [UInt8] {
    element(0x28, number, "US", u16(value))
  }

  var pixelBytes: [UInt8] {
    if bitsAllocated != 8 { return samples.flatMap { u16($0) } }
    var bytes = samples.map { UInt8($0 & 0xFF) }
    if bytes.count % 2 == 1 { bytes.append(0) }
    if big && pixelVR == "OW" {
      for at in stride(from: 0, to: bytes.count, by: 2) { bytes.swapAt(at, at + 1) }
    }
    return bytes
  }

  func dataSet() -> [UInt8] {
    var out = before
    out += text(0x08, 0x60, "CS", "MR")
    out += text(0x10, 0x10, "PN", "TEST^PATIENT")
    out += short(0x02, samplesPerPixel)
    out += text(0x28, 0x04, "CS", photometric)
    if samplesPerPixel > 1 { out += short(0x06, planar) }
    if let frames { out += text(0x28, 0x08, "IS", "\(frames)") }
    out += short(0x10, rows) + short(0x11, columns)
    out += short(0x100, bitsAllocated) + short(0x101, bitsStored)
    out += short(0x102, highBit ?? bitsStored - 1) + short(0x103, signed ? 1 : 0)
    if let windowCenter { out += text(0x28, 0x1050, "DS", windowCenter) }
    if let windowWidth { out += text(0x28, 0x1051, "DS", windowWidth) }
    if let intercept { out += text(0x28, 0x1052, "DS", intercept) }
    if let slope { out += text(0x28, 0x1053, "DS", slope) }
    if let windowFunction { out += text(0x28, 0x1056, "CS", windowFunction) }
    out += functionalGroups
    return out + element(0x7FE0, 0x10, pixelVR, pixelBytes)
  }

  func encoded(dataSet replacement: [UInt8]? = nil) -> [UInt8] {
    var meta = TestDicom()
    meta.syntax = .explicitLittle
    let body = meta.text(0x02, 0x10, "UI", claimedSyntax ?? syntax.rawValue)
    let length = meta.element(0x02, 0x00, "UL", meta.u32(body.count))
    let content = replacement ?? dataSet()
    return [UInt8](repeating: 0, count: 128) + Array("DICM".utf8) + length + body
      + (syntax == .deflated ? deflateStored(content) : content)
  }
}
