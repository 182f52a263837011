/// A JSON value as far as model files use it.
enum JSONValue: Equatable {
  case object([JSONMember])
  case array([JSONValue])
  case string(String)
  /// A whole number from 0 to `Int.max`, written without sign, fraction or exponent.
  case count(Int)
  /// A valid value of another kind: a literal or any other number.
  case other

  subscript(name: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.name == name }?.value
  }

  /// The elements, where this is an array of counts.
  var counts: [Int]? {
    guard case .array(let values) = self else { return nil }
    var result: [Int] = []
    result.reserveCapacity(values.count)
    for value in values {
      guard case .count(let count) = value else { return nil }
      result.append(count)
    }
    return result
  }
}

/// One name and value of a JSON object, in the order of the text.
struct JSONMember: Equatable {
  let name: String
  let value: JSONValue
}

/// Why a text is not acceptable JSON.
enum JSONError: Error, Equatable {
  case malformed(offset: Int, reason: String)
  case duplicateName(String)
}

/// A strict JSON parser (RFC 8259) for text from outside.
///
/// Nesting is limited, so hostile input cannot exhaust the stack; the tree is smaller than a fixed
/// multiple of the text, whose length the caller limits. Names may not repeat within an object: two
/// readers that pick different ones would see different files.
struct BoundedJSONParser {
  /// A safetensors header needs four levels: header, entry, shape, extent.
  static let maximumDepth = 8
  /// Most elements of one array: shapes and lists of sizes are short.
  static let maximumArrayCount = 1024

  private let bytes: [UInt8]
  private var position = 0

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  /// Parses one value that fills the whole text, white space aside.
  static func parse(_ bytes: [UInt8]) throws(JSONError) -> JSONValue {
    var parser = BoundedJSONParser(bytes)
    let value = try parser.value(depth: 1)
    parser.skipWhiteSpace()
    if parser.position != bytes.count { throw parser.malformed("text follows the value") }
    return value
  }

  private func malformed(_ reason: String) -> JSONError {
    .malformed(offset: position, reason: reason)
  }

  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipWhiteSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      position += 1
    }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
    if depth > Self.maximumDepth { throw malformed("nested deeper than \(Self.maximumDepth)") }
    skipWhiteSpace()
    switch next {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true")
    case UInt8(ascii: "f"): return try literal("false")
    case UInt8(ascii: "n"): return try literal("null")
    default: return try number()
    }
  }

  private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
    position += 1
    var members: [JSONMember] = []
    var names: Set<String> = []
    skipWhiteSpace()
    if take("}") { return .object([]) }
    repeat {
      skipWhiteSpace()
      if next != UInt8(ascii: "\"") { throw malformed("a name is missing") }
      let name = try string()
      if !names.insert(name).inserted { throw .duplicateName(name) }
      skipWhiteSpace()
      if !take(":") { throw malformed("a colon is missing") }
      members.append(JSONMember(name: name, value: try value(depth: depth + 1)))
      skipWhiteSpace()
    } while take(",")
    if !take("}") { throw malformed("an object does not end") }
    return .object(members)
  }

  private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
    position += 1
    var values: [JSONValue] = []
    skipWhiteSpace()
    if take("]") { return .array([]) }
    repeat {
      if values.count == Self.maximumArrayCount { throw malformed("an array is too long") }
      values.append(try value(depth: depth + 1))
      skipWhiteSpace()
    } while take(",")
    if !take("]") { throw malformed("an array does not end") }
    return .array(values)
  }

  private mutating func literal(_ text: StaticString) throws(JSONError) -> JSONValue {
    let matches = text.withUTF8Buffer { bytes[position...].starts(with: $0) }
    if !matches { throw malformed("an unknown word") }
    position += text.utf8CodeUnitCount
    return .other
  }

  private mutating func digits() throws(JSONError) -> Range<Int> {
    let start = position
    while let byte = next, byte >= 0x30, byte <= 0x39 { position += 1 }
    if position == start { throw malformed("a value is missing") }
    return start..<position
  }

  private mutating func number() throws(JSONError) -> JSONValue {
    var isCount = !take("-")
    let whole = try digits()
    if whole.count > 1 && bytes[whole.lowerBound] == 0x30 {
      throw malformed("a number begins with zero")
    }
    if take(".") {
      isCount = false
      _ = try digits()
    }
    if take("e") || take("E") {
      isCount = false
      _ = take("+") || take("-")
      _ = try digits()
    }
    if !isCount { return .other }
    var value = 0
    for byte in bytes[whole] {
      let (scaled, tooLarge) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflow) = scaled.addingReportingOverflow(Int(byte - 0x30))
      if tooLarge || overflow { throw malformed("a number does not fit 63 bits") }
      value = sum
    }
    return .count(value)
  }

  private mutating func string() throws(JSONError) -> String {
    position += 1
    var content: [UInt8] = []
    while let byte = next {
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: content, as: UTF8.self) else {
          throw malformed("a string is not UTF-8")
        }
        return text
      case UInt8(ascii: "\\"):
        content.append(contentsOf: String(try escape()).utf8)
      case 0..<0x20:
        throw malformed("a control character stands in a string")
      default:
        content.append(byte)
      }
    }
    throw malformed("a string does not end")
  }

  private mutating func escape() throws(JSONError) -> Unicode.Scalar {
    let byte = next
    position += 1
    switch byte {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{C}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      let first = try codeUnit()
      if let scalar = Unicode.Scalar(UInt32(first)) { return scalar }
      // A scalar beyond the first plane is written as a pair of surrogates.
      if UTF16.isLeadSurrogate(first), take("\\"), take("u") {
        let second = try codeUnit()
        if UTF16.isTrailSurrogate(second) {
          return UTF16.decode(UTF16.EncodedScalar([first, second]))
        }
      }
      throw malformed("half of a surrogate pair")
    default: throw malformed("an unknown escape")
    }
  }

  private mutating func codeUnit() throws(JSONError) -> UInt16 {
    var unit: UInt16 = 0
    for _ in 0..<4 {
      guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw malformed("four hexadecimal digits are missing")
      }
      position += 1
      unit = unit << 4 | UInt16(digit)
    }
    return unit
  }
}
