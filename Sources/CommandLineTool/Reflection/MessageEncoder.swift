import Messages

/// JSON to protobuf bytes, after protobuf's JSON mapping, for types known from a schema only.
struct MessageEncoder {
  let schema: Schema

  func encode(_ value: JSONValue, as type: String) throws(CodecError) -> [UInt8] {
    var writer = WireFieldWriter()
    try write(value, as: type, depth: 0, to: &writer)
    return writer.bytes
  }

  private enum Scalar {
    case varint(UInt64)
    case fixed64(UInt64)
    case fixed32(UInt32)
    case bytes([UInt8])

    var isZero: Bool {
      switch self {
      case .varint(let value), .fixed64(let value): value == 0
      case .fixed32(let value): value == 0
      case .bytes(let value): value.isEmpty
      }
    }
  }

  private func write(
    _ value: JSONValue, as type: String, depth: Int, to writer: inout WireFieldWriter
  ) throws(CodecError) {
    guard depth < CodecError.maximumDepth else { throw CodecError.tooDeep }
    guard let shape = schema.messages[type] else { throw CodecError("no type \(type)") }
    guard case .object(let object) = value else {
      throw CodecError("\(type) is an object, not \(value.kind)")
    }
    var given: [Int: JSONValue] = [:]
    for member in object.members {
      guard let index = shape.keys[member.key] else {
        throw CodecError("\(type) has no field '\(member.key)'")
      }
      guard given.updateValue(member.value, forKey: index) == nil else {
        throw CodecError("the field '\(member.key)' is given under both its names")
      }
    }
    for (index, field) in shape.fields.enumerated() {
      guard let value = given[index], value != .null else { continue }
      do throws(CodecError) {
        try write(value, field, depth: depth, to: &writer)
      } catch {
        throw error.within(field.jsonName)
      }
    }
  }

  private func write(
    _ value: JSONValue, _ field: Schema.Field, depth: Int, to writer: inout WireFieldWriter
  ) throws(CodecError) {
    guard field.isRepeated else {
      try writeOne(value, field, depth: depth, keepsZero: field.label != .singular, to: &writer)
      return
    }
    guard case .array(let elements) = value else {
      throw CodecError("an array is due, not \(value.kind)")
    }
    var packed = WireFieldWriter()
    for (index, element) in elements.enumerated() {
      do throws(CodecError) {
        if element == .null { throw CodecError("null is no element") }
        if field.isPacked {
          switch try scalar(element, field.kind) {
          case .varint(let value): packed.varint(value)
          case .fixed64(let value): packed.fixed64(value)
          case .fixed32(let value): packed.fixed32(value)
          case .bytes: throw CodecError("\(field.kind.name) cannot be packed")
          }
        } else {
          try writeOne(element, field, depth: depth, keepsZero: true, to: &writer)
        }
      } catch {
        throw error.within(index: index)
      }
    }
    if !packed.bytes.isEmpty { writer.field(field.number, bytes: packed.bytes) }
  }

  private func writeOne(
    _ value: JSONValue, _ field: Schema.Field, depth: Int, keepsZero: Bool,
    to writer: inout WireFieldWriter
  ) throws(CodecError) {
    if case .message(let type) = field.kind {
      var inner = WireFieldWriter()
      try write(value, as: type, depth: depth + 1, to: &inner)
      writer.field(field.number, bytes: inner.bytes)
      return
    }
    let scalar = try scalar(value, field.kind)
    if scalar.isZero && !keepsZero { return }
    switch scalar {
    case .varint(let value): writer.field(field.number, varint: value)
    case .fixed64(let value): writer.field(field.number, fixed64: value)
    case .fixed32(let value): writer.field(field.number, fixed32: value)
    case .bytes(let value): writer.field(field.number, bytes: value)
    }
  }

  private func scalar(_ value: JSONValue, _ kind: Schema.Kind) throws(CodecError) -> Scalar {
    switch kind {
    case .int32: .varint(UInt64(bitPattern: Int64(try integer(value, Int32.self))))
    case .int64: .varint(UInt64(bitPattern: try integer(value, Int64.self)))
    case .uint32: .varint(UInt64(try integer(value, UInt32.self)))
    case .uint64: .varint(try integer(value, UInt64.self))
    case .sint32: .varint(Self.zigZag(Int64(try integer(value, Int32.self))))
    case .sint64: .varint(Self.zigZag(try integer(value, Int64.self)))
    case .fixed32: .fixed32(try integer(value, UInt32.self))
    case .fixed64: .fixed64(try integer(value, UInt64.self))
    case .sfixed32: .fixed32(UInt32(bitPattern: try integer(value, Int32.self)))
    case .sfixed64: .fixed64(UInt64(bitPattern: try integer(value, Int64.self)))
    case .double: .fixed64(try double(value).bitPattern)
    case .float: .fixed32(try float(value).bitPattern)
    case .bool: .varint(try bool(value) ? 1 : 0)
    case .string: .bytes(Array(try string(value, "a text").utf8))
    case .bytes: .bytes(try bytes(value))
    case .enumeration(let type): .varint(UInt64(bitPattern: Int64(try number(value, type))))
    case .message(let type): throw CodecError("\(type) is not a single value")
    case .unsupported: throw CodecError("this program does not know \(kind.name)")
    }
  }

  private static func zigZag(_ value: Int64) -> UInt64 {
    UInt64(bitPattern: value << 1) ^ UInt64(bitPattern: value >> 63)
  }

  /// A number without a fraction, or the same as a text.
  private func integer<Value: FixedWidthInteger>(
    _ value: JSONValue, _: Value.Type
  ) throws(CodecError) -> Value {
    let exact: Value? =
      switch value {
      case .integer(let value): Value(exactly: value)
      case .unsigned(let value): Value(exactly: value)
      // Beyond 2^53 the text may have said another number than was read.
      case .number(let value) where abs(value) <= 0x1p53: Value(exactly: value)
      case .string(let text) where !text.hasPrefix("+"): Value(text)
      default: nil
      }
    guard let exact else {
      throw CodecError(
        "an integer from \(Value.min) to \(Value.max) is due, not \(value.shortText)")
    }
    return exact
  }

  private func double(_ value: JSONValue) throws(CodecError) -> Double {
    switch value {
    case .integer(let value): return Double(value)
    case .unsigned(let value): return Double(value)
    case .number(let value): return value
    case .string("NaN"): return .nan
    case .string("Infinity"): return .infinity
    case .string("-Infinity"): return -.infinity
    case .string(let text):
      switch try? JSONValue(parsing: text) {
      case .integer(let value): return Double(value)
      case .unsigned(let value): return Double(value)
      case .number(let value): return value
      default: break
      }
    default: break
    }
    throw CodecError("a number is due, not \(value.shortText)")
  }

  private func float(_ value: JSONValue) throws(CodecError) -> Float {
    let double = try double(value)
    let float = Float(double)
    guard float.isFinite || !double.isFinite else {
      throw CodecError("\(value.shortText) is too large for a float")
    }
    return float
  }

  private func bool(_ value: JSONValue) throws(CodecError) -> Bool {
    guard case .bool(let flag) = value else {
      throw CodecError("true or false is due, not \(value.shortText)")
    }
    return flag
  }

  private func string(_ value: JSONValue, _ wanted: String) throws(CodecError) -> String {
    guard case .string(let text) = value else {
      throw CodecError("\(wanted) is due, not \(value.shortText)")
    }
    return text
  }

  private func bytes(_ value: JSONValue) throws(CodecError) -> [UInt8] {
    guard let bytes = Base64.decode(try string(value, "base64")) else {
      throw CodecError("\(value.shortText) is not base64")
    }
    return bytes
  }

  private func number(_ value: JSONValue, _ type: String) throws(CodecError) -> Int32 {
    guard case .string(let name) = value else { return try integer(value, Int32.self) }
    guard let enumeration = schema.enumerations[type], let number = enumeration.numbers[name] else {
      let names = schema.enumerations[type]?.values.prefix(20).map(\.name) ?? []
      throw CodecError(
        "\(type) has no value '\(name)'; it has \(names.joined(separator: ", "))")
    }
    return number
  }
}

extension JSONValue {
  /// What it is, for a sentence.
  fileprivate var kind: String {
    switch self {
    case .null: "null"
    case .bool: "true or false"
    case .integer, .unsigned, .number: "a number"
    case .string: "a text"
    case .array: "an array"
    case .object: "an object"
    }
  }

  /// Itself where it is short.
  fileprivate var shortText: String {
    switch self {
    case .array, .object: kind
    default: shortened(text, to: 40)
    }
  }
}
