import Messages

/// A daemon's description of its types that does not hold together.
struct SchemaError: Error, Equatable, Sendable, CustomStringConvertible {
  let description: String
}

/// The types of some methods, as a daemon describes them: nothing here is compiled in.
struct Schema: Sendable {
  enum Kind: Equatable, Sendable {
    case double, float, int32, int64, uint32, uint64, sint32, sint64, bool, string, bytes
    case fixed32, fixed64, sfixed32, sfixed64
    case message(String)
    case enumeration(String)
    /// Of a later protobuf: skipped where it comes, refused where it is given.
    case unsupported(UInt32)
  }

  struct Field: Sendable {
    let name: String
    /// protobuf's lowerCamelCase of the name.
    let jsonName: String
    let number: UInt32
    let kind: Kind
    let label: FieldLabel
    let isPacked: Bool
  }

  struct Message: Sendable {
    let name: String
    /// By number.
    let fields: [Field]
    /// Indices into `fields`, by either name and by number.
    let keys: [String: Int]
    let numbers: [UInt32: Int]
  }

  struct Enumeration: Sendable {
    let name: String
    let values: [(name: String, number: Int32)]
    let numbers: [String: Int32]
    let names: [Int32: String]
  }

  /// More are no description of a service, but an attack on the memory of whoever asks.
  static let maximumTypes = 4096
  static let maximumFields = 1024

  private(set) var messages: [String: Message] = [:]
  private(set) var enumerations: [String: Enumeration] = [:]

  init(_ reply: DescribeTypesReply) throws(SchemaError) {
    guard reply.messages.count + reply.enums.count <= Self.maximumTypes else {
      throw SchemaError(description: "more than \(Self.maximumTypes) types")
    }
    for description in reply.enums {
      guard enumerations.updateValue(Enumeration(description), forKey: description.name) == nil
      else { throw SchemaError(description: "\(description.name) is described twice") }
    }
    for description in reply.messages {
      let message = try Message(description)
      guard messages.updateValue(message, forKey: message.name) == nil else {
        throw SchemaError(description: "\(message.name) is described twice")
      }
    }
    for message in messages.values {
      for field in message.fields { try checkType(of: field, in: message) }
    }
  }

  private func checkType(of field: Field, in message: Message) throws(SchemaError) {
    let isKnown =
      switch field.kind {
      case .message(let name): messages[name] != nil
      case .enumeration(let name): enumerations[name] != nil
      default: true
      }
    guard isKnown else {
      throw SchemaError(description: "\(message.name).\(field.name) is of a type not described")
    }
  }
}

extension Schema.Message {
  fileprivate init(_ description: MessageDescription) throws(SchemaError) {
    name = description.name
    guard description.fields.count <= Schema.maximumFields else {
      throw SchemaError(description: "\(name) has more than \(Schema.maximumFields) fields")
    }
    fields = description.fields.map(Schema.Field.init).sorted { $0.number < $1.number }
    var keys: [String: Int] = [:]
    var numbers: [UInt32: Int] = [:]
    for (index, field) in fields.enumerated() {
      guard (1...WireFieldReader.largestNumber).contains(field.number),
        numbers.updateValue(index, forKey: field.number) == nil
      else { throw SchemaError(description: "\(name) has a wrong number \(field.number)") }
      for key in Set([field.name, field.jsonName]) {
        guard keys.updateValue(index, forKey: key) == nil else {
          throw SchemaError(description: "\(name) has two fields '\(key)'")
        }
      }
    }
    (self.keys, self.numbers) = (keys, numbers)
  }
}

extension Schema.Field {
  fileprivate init(_ description: FieldDescription) {
    name = description.name
    jsonName = Self.jsonName(description.name)
    number = description.number
    label = description.label
    isPacked = description.packed
    kind = Schema.Kind(description)
  }

  static func jsonName(_ name: String) -> String {
    var result = ""
    var capital = false
    for character in name {
      if character == "_" {
        capital = true
      } else {
        result += capital ? character.uppercased() : String(character)
        capital = false
      }
    }
    return result
  }

  var isRepeated: Bool { label == .repeated }
}

extension Schema.Kind {
  fileprivate init(_ description: FieldDescription) {
    switch description.type {
    case .double: self = .double
    case .float: self = .float
    case .int64: self = .int64
    case .uint64: self = .uint64
    case .int32: self = .int32
    case .fixed64: self = .fixed64
    case .fixed32: self = .fixed32
    case .bool: self = .bool
    case .string: self = .string
    case .bytes: self = .bytes
    case .uint32: self = .uint32
    case .sfixed32: self = .sfixed32
    case .sfixed64: self = .sfixed64
    case .sint32: self = .sint32
    case .sint64: self = .sint64
    case .message: self = .message(description.typeName)
    case .enum: self = .enumeration(description.typeName)
    default: self = .unsupported(description.type.rawValue)
    }
  }

  /// As a schema says it.
  var name: String {
    switch self {
    case .message(let name), .enumeration(let name): name
    case .unsupported(let number): "type-\(number)"
    default: "\(self)"
    }
  }
}

extension Schema.Enumeration {
  fileprivate init(_ description: EnumDescription) {
    name = description.name
    values = description.values.map { ($0.name, Int32(bitPattern: $0.number)) }
    numbers = Dictionary(
      values.map { ($0.name, $0.number) }, uniquingKeysWith: { first, _ in first })
    names = Dictionary(values.map { ($0.number, $0.name) }, uniquingKeysWith: { first, _ in first })
  }
}

/// Where a message and its JSON do not fit, and why.
struct CodecError: Error, Equatable, Sendable, CustomStringConvertible {
  /// "record.codes[3].bits"; empty for the message itself.
  private(set) var path = ""
  let problem: String

  init(_ problem: String) { self.problem = problem }

  var description: String { path.isEmpty ? problem : "\(path): \(problem)" }

  /// The same, seen from one level further out.
  func within(_ name: String) -> CodecError {
    var outer = self
    outer.path = path.isEmpty ? name : path.hasPrefix("[") ? name + path : "\(name).\(path)"
    return outer
  }

  func within(index: Int) -> CodecError { within("[\(index)]") }

  /// Both directions: what nests deeper is refused.
  static let maximumDepth = 32
  static let tooDeep = CodecError("messages are nested more than \(maximumDepth) deep")
}
