import CWire

/// What in a schema the project's rules forbid.
struct SchemaError: Error, CustomStringConvertible {
  let description: String
}

/// Writes the Swift value type of one message, from its protobuf-c descriptor.
struct MessageGenerator {
  private let descriptor: ProtobufCMessageDescriptor
  private var properties: [String] = []
  private var decoding: [String] = []
  private var encoding: [String] = []

  init(_ descriptor: UnsafePointer<ProtobufCMessageDescriptor>) throws {
    self.descriptor = descriptor.pointee
    for index in 0..<Int(self.descriptor.n_fields) {
      try add(self.descriptor.fields[index])
    }
  }

  var swiftName: String { String(cString: descriptor.short_name) }

  private mutating func add(_ field: ProtobufCFieldDescriptor) throws {
    let source = String(cString: field.name)
    let flag = UInt32(PROTOBUF_C_FIELD_FLAG_ONEOF.rawValue)
    guard field.flags & flag == 0 else {
      throw SchemaError(description: "\(swiftName).\(source): oneof is not used here")
    }
    let type = try FieldType(field)
    let name = lowerCamel(source)
    if field.label == PROTOBUF_C_LABEL_REPEATED {
      addRepeated(name, source, type)
    } else if type.isMessage {
      properties.append("public var \(name): \(type.swift)?")
      decoding.append("if let p = c.pointee.\(source) { \(name) = \(type.decode("p")) }")
      encoding.append("if let v = \(name) { m.pointee.\(source) = \(type.encode("v")) }")
    } else {
      properties.append("public var \(name): \(type.swift) = \(type.zero)")
      decoding.append("\(name) = \(type.decode("c.pointee.\(source)"))")
      encoding.append("m.pointee.\(source) = \(type.encode(name))")
    }
  }

  private mutating func addRepeated(_ name: String, _ source: String, _ type: FieldType) {
    properties.append("public var \(name): [\(type.swift)] = []")
    let element = type.isPointer ? "c.pointee.\(source)[i]!" : "c.pointee.\(source)[i]"
    decoding.append(
      "\(name) = try (0..<c.pointee.n_\(source)).map { i throws(WireError) in")
    decoding.append("  \(type.decode(element))")
    decoding.append("}")
    encoding.append(
      "(m.pointee.\(source), m.pointee.n_\(source)) = a.array(\(name)) { \(type.encode("$0")) }")
  }

  /// The Swift text of the message's type.
  var text: String {
    let c = String(cString: descriptor.c_name)
    let function = snakeCase(c)
    func lines(_ list: [String]) -> String { list.map { "    \($0)\n" }.joined() }
    let decodingBody = decoding.isEmpty ? "    _ = c\n" : lines(decoding)
    return """
      public struct \(swiftName): WireMessage, Equatable {
      \(properties.map { "  \($0)\n" }.joined())
        public init() {}

        public init(c: UnsafePointer<\(c)>) throws(WireError) {
      \(decodingBody)  }

        public func encode(into a: borrowing Arena) -> UnsafeMutablePointer<\(c)> {
          let m = a.make(\(c).self)
          \(function)__init(m)
      \(lines(encoding))    return m
        }

        public static var descriptor: UnsafePointer<ProtobufCMessageDescriptor> {
          messageDescriptor { \(function)__init($0) }
        }
      }

      """
  }
}

/// How one field's type is named, read and written in Swift.
struct FieldType {
  let swift: String
  let zero: String
  let isMessage: Bool
  /// C keeps an array of pointers, not of values.
  let isPointer: Bool
  let decode: (String) -> String
  let encode: (String) -> String

  init(_ field: ProtobufCFieldDescriptor) throws {
    var (zero, isMessage, isPointer) = ("0", false, false)
    var decode: (String) -> String = { $0 }
    var encode: (String) -> String = { $0 }
    switch field.type {
    case PROTOBUF_C_TYPE_UINT32, PROTOBUF_C_TYPE_FIXED32: swift = "UInt32"
    case PROTOBUF_C_TYPE_UINT64, PROTOBUF_C_TYPE_FIXED64: swift = "UInt64"
    case PROTOBUF_C_TYPE_BOOL:
      (swift, zero) = ("Bool", "false")
      decode = { "\($0) != 0" }
      encode = { "\($0) ? 1 : 0" }
    case PROTOBUF_C_TYPE_STRING:
      (swift, zero, isPointer) = ("String", "\"\"", true)
      decode = { "try String(wire: \($0))" }
      encode = { "a.string(\($0))" }
    case PROTOBUF_C_TYPE_BYTES:
      (swift, zero) = ("[UInt8]", "[]")
      decode = { "[UInt8](wire: \($0))" }
      encode = { "a.bytes(\($0))" }
    case PROTOBUF_C_TYPE_ENUM:
      let type = field.descriptor.assumingMemoryBound(to: ProtobufCEnumDescriptor.self).pointee
      let (name, c) = (String(cString: type.short_name), String(cString: type.c_name))
      (swift, zero) = (name, "\(name)(rawValue: 0)")
      decode = { "\(name)(rawValue: \($0).rawValue)" }
      encode = { "\(c)(rawValue: \($0).rawValue)" }
    case PROTOBUF_C_TYPE_MESSAGE:
      let type = field.descriptor.assumingMemoryBound(to: ProtobufCMessageDescriptor.self).pointee
      let name = String(cString: type.short_name)
      (swift, isMessage, isPointer) = (name, true, true)
      decode = { "try \(name)(c: \($0))" }
      encode = { "\($0).encode(into: a)" }
    default:
      throw SchemaError(
        description: "\(String(cString: field.name)): type \(field.type.rawValue) is not used here")
    }
    (self.zero, self.isMessage, self.isPointer) = (zero, isMessage, isPointer)
    (self.decode, self.encode) = (decode, encode)
  }
}

/// The schema's words that Swift keeps for itself.
private let keywords: Set = [
  "case", "class", "default", "enum", "extension", "func", "import", "in", "init", "internal", "is",
  "let", "operator", "private", "protocol", "public", "repeat", "return", "self", "static",
  "struct", "switch", "throws", "true", "false", "nil", "var", "where", "while",
]

/// `image_id` becomes `imageID`-style camel case; the schema's own words are kept otherwise.
func lowerCamel(_ snake: String) -> String {
  let parts = snake.split(separator: "_").map(String.init)
  if keywords.contains(snake) { return "`\(snake)`" }
  return parts.enumerated().map { index, part in
    if index == 0 { return part }
    if part == "id" { return "ID" }
    if part == "ids" { return "IDs" }
    return part.prefix(1).uppercased() + part.dropFirst()
  }.joined()
}

/// protobuf-c's function prefix of a C type: `Sfmedir__V1__ImageRecord`, `sfmedir__v1__image_record`.
func snakeCase(_ cName: String) -> String {
  var result = ""
  var atPartStart = true
  for character in cName {
    if character.isUppercase {
      if !atPartStart { result += "_" }
      result += character.lowercased()
      atPartStart = false
    } else {
      result.append(character)
      atPartStart = character == "_"
    }
  }
  return result
}
