import Messages

/// Protobuf bytes to JSON, after protobuf's JSON mapping, for types known from a schema only.
///
/// Members come in the order of the fields' numbers. Fields that the schema does not know are skipped.
struct MessageDecoder {
  let schema: Schema
  /// Also members whose value is zero or empty; protobuf leaves them out.
  var givesZeros = false
  /// Values of one message; two bytes of a hostile message could become a hundred here.
  var maximumValues = 1 << 19

  func decode(_ bytes: [UInt8], as type: String) throws(CodecError) -> JSONObject {
    var budget = maximumValues
    return try object(bytes, in: 0..<bytes.count, as: type, depth: 0, &budget)
  }

  /// What has been read of one field so far.
  private enum Collected {
    case one(JSONValue)
    case list([JSONValue])
    /// A submessage may come in several parts, which belong one after the other.
    case parts([UInt8])
  }

  private func object(
    _ bytes: [UInt8], in range: Range<Int>, as type: String, depth: Int, _ budget: inout Int
  ) throws(CodecError) -> JSONObject {
    guard depth < CodecError.maximumDepth else { throw CodecError.tooDeep }
    guard let shape = schema.messages[type] else { throw CodecError("no type \(type)") }
    var collected = [Collected?](repeating: nil, count: shape.fields.count)
    var reader = WireFieldReader(bytes, in: range)
    while let next = try Self.next(&reader, type) {
      guard let index = shape.numbers[next.number] else { continue }
      let field = shape.fields[index]
      do throws(CodecError) {
        try collect(next.value, bytes, field, depth: depth, into: &collected[index], &budget)
      } catch {
        throw error.within(field.jsonName)
      }
    }
    var object = JSONObject()
    for (index, field) in shape.fields.enumerated() {
      switch collected[index] {
      case .one(let value):
        if givesZeros || field.label != .singular || value != zero(field.kind) {
          object.append(new: field.jsonName, value)
        }
      case .list(let values): object.append(new: field.jsonName, .array(values))
      case .parts(let parts):
        guard case .message(let type) = field.kind else { continue }
        do throws(CodecError) {
          let inner = try self.object(
            parts, in: 0..<parts.count, as: type, depth: depth + 1, &budget)
          object.append(new: field.jsonName, .object(inner))
        } catch {
          throw error.within(field.jsonName)
        }
      case nil:
        guard givesZeros, let zero = field.isRepeated ? .array([]) : zero(field.kind) else {
          continue
        }
        try Self.spend(&budget)
        object.append(new: field.jsonName, zero)
      }
    }
    return object
  }

  private static func next(
    _ reader: inout WireFieldReader, _ type: String
  ) throws(CodecError) -> WireField? {
    do {
      return try reader.next()
    } catch {
      throw CodecError("the bytes are no \(type): \(error)")
    }
  }

  private static func spend(_ budget: inout Int) throws(CodecError) {
    budget -= 1
    guard budget >= 0 else { throw CodecError("the message has too many values") }
  }

  private func collect(
    _ value: WireFieldValue, _ bytes: [UInt8], _ field: Schema.Field, depth: Int,
    into collected: inout Collected?, _ budget: inout Int
  ) throws(CodecError) {
    if case .message(let type) = field.kind {
      guard case .bytes(let range) = value else { return }
      try Self.spend(&budget)
      guard field.isRepeated else {
        var parts: [UInt8] = []
        if case .parts(let before)? = collected { parts = before }
        // The only reference from here on, so that appending does not copy.
        collected = nil
        parts += bytes[range]
        collected = .parts(parts)
        return
      }
      let inner = try object(bytes, in: range, as: type, depth: depth + 1, &budget)
      Self.append(.object(inner), to: &collected)
      return
    }
    if field.isRepeated, case .bytes(let range) = value, !isBytes(field.kind) {
      try collectPacked(bytes, range, field, into: &collected, &budget)
      return
    }
    // A number in the wrong encoding is what an unknown field is.
    guard let json = try json(value, bytes, field.kind) else { return }
    try Self.spend(&budget)
    if field.isRepeated {
      Self.append(json, to: &collected)
    } else {
      collected = .one(json)
    }
  }

  private static func append(_ value: JSONValue, to collected: inout Collected?) {
    var values: [JSONValue] = []
    if case .list(let before)? = collected { values = before }
    collected = nil
    values.append(value)
    collected = .list(values)
  }

  private func isBytes(_ kind: Schema.Kind) -> Bool { kind == .string || kind == .bytes }

  private func collectPacked(
    _ bytes: [UInt8], _ range: Range<Int>, _ field: Schema.Field,
    into collected: inout Collected?, _ budget: inout Int
  ) throws(CodecError) {
    var reader = WireFieldReader(bytes, in: range)
    do {
      while !reader.isAtEnd {
        let value: WireFieldValue
        switch field.kind {
        case .fixed64, .sfixed64, .double: value = .fixed64(try reader.fixed64())
        case .fixed32, .sfixed32, .float: value = .fixed32(try reader.fixed32())
        case .unsupported: return
        default: value = .varint(try reader.varint())
        }
        guard let json = try json(value, bytes, field.kind) else { return }
        try Self.spend(&budget)
        Self.append(json, to: &collected)
      }
    } catch let error as CodecError {
      throw error
    } catch {
      throw CodecError("packed numbers end in the middle of one")
    }
  }

  /// Nil where the encoding is not the kind's.
  private func json(
    _ value: WireFieldValue, _ bytes: [UInt8], _ kind: Schema.Kind
  ) throws(CodecError) -> JSONValue? {
    switch (kind, value) {
    case (.int32, .varint(let raw)): .integer(Int64(Int32(truncatingIfNeeded: raw)))
    case (.int64, .varint(let raw)): .string(String(Int64(bitPattern: raw)))
    case (.uint32, .varint(let raw)): .integer(Int64(UInt32(truncatingIfNeeded: raw)))
    case (.uint64, .varint(let raw)): .string(String(raw))
    case (.sint32, .varint(let raw)):
      .integer(Int64(Int32(truncatingIfNeeded: Self.unZigZag(raw & 0xffff_ffff))))
    case (.sint64, .varint(let raw)): .string(String(Self.unZigZag(raw)))
    case (.bool, .varint(let raw)): .bool(raw != 0)
    case (.enumeration(let type), .varint(let raw)):
      named(Int32(truncatingIfNeeded: raw), type)
    case (.fixed32, .fixed32(let raw)): .integer(Int64(raw))
    case (.sfixed32, .fixed32(let raw)): .integer(Int64(Int32(bitPattern: raw)))
    case (.float, .fixed32(let raw)): Self.number(Float(bitPattern: raw))
    case (.fixed64, .fixed64(let raw)): .string(String(raw))
    case (.sfixed64, .fixed64(let raw)): .string(String(Int64(bitPattern: raw)))
    case (.double, .fixed64(let raw)): Self.number(Double(bitPattern: raw))
    case (.bytes, .bytes(let range)): .string(Base64.encode(bytes[range]))
    case (.string, .bytes(let range)): .string(try text(bytes[range]))
    default: nil
    }
  }

  private func text(_ bytes: ArraySlice<UInt8>) throws(CodecError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw CodecError("a text is not UTF-8")
    }
    return text
  }

  private func named(_ number: Int32, _ type: String) -> JSONValue {
    schema.enumerations[type]?.names[number].map { .string($0) } ?? .integer(Int64(number))
  }

  private static func unZigZag(_ value: UInt64) -> Int64 {
    Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
  }

  private static func number<Value: BinaryFloatingPoint & CustomStringConvertible>(
    _ value: Value
  ) -> JSONValue {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
    // The shortest text of a float is shorter than that of the double with the same value.
    return .number(Double(value.description) ?? Double(value))
  }

  /// Nil for submessages, which are there or not.
  private func zero(_ kind: Schema.Kind) -> JSONValue? {
    switch kind {
    case .int32, .uint32, .sint32, .fixed32, .sfixed32: 0
    case .int64, .uint64, .sint64, .fixed64, .sfixed64: "0"
    case .double, .float: .number(0)
    case .bool: false
    case .string, .bytes: ""
    case .enumeration(let type): named(0, type)
    case .message, .unsupported: nil
    }
  }
}
