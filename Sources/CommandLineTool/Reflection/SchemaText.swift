import Messages
import RPC

extension MethodDescription {
  /// "sfmedir.v1.MasterCloud/HasImages"
  var fullName: String { "\(service)/\(name)" }

  /// gRPC's word for it.
  var shape: String {
    switch (clientStreams, serverStreams) {
    case (false, false): "unary"
    case (true, false): "client streaming"
    case (false, true): "server streaming"
    case (true, true): "both streaming"
    }
  }

  var idempotencyName: String {
    switch idempotency {
    case .idempotent: "idempotent"
    case .noSideEffects: "no_side_effects"
    default: "unknown"
    }
  }

  /// What becomes of the daemon when the same call is made twice.
  var repeating: String {
    switch idempotency {
    case .idempotent: "may be repeated"
    case .noSideEffects: "changes nothing"
    default: "once only"
    }
  }

  var callers: String { open ? "anybody" : roles.joined(separator: " ") }

  /// Those that `text` names: in full, or by the end of the full name ("HasImages").
  static func named(_ text: String, in methods: [MethodDescription]) -> [MethodDescription] {
    let exact = methods.filter { $0.fullName == text }
    if !exact.isEmpty { return exact }
    return methods.filter {
      $0.fullName.hasSuffix(".\(text)") || $0.fullName.hasSuffix("/\(text)")
    }
  }
}

/// A schema as people know it from .proto files.
enum SchemaText {
  static func line(of method: MethodDescription) -> String {
    "rpc \(method.fullName)(\(method.clientStreams ? "stream " : "")\(method.requestType)) returns "
      + "(\(method.serverStreams ? "stream " : "")\(method.replyType));"
  }

  static func lines(of message: Schema.Message) -> [String] {
    if message.fields.isEmpty { return ["message \(message.name) {}"] }
    let fields = message.fields.map { field in
      let label =
        switch field.label {
        case .repeated: "repeated "
        case .required: "required "
        default: ""
        }
      return "  \(label)\(field.kind.name) \(field.name) = \(field.number);"
    }
    return ["message \(message.name) {"] + fields + ["}"]
  }

  static func lines(of enumeration: Schema.Enumeration) -> [String] {
    let values = enumeration.values.map { "  \($0.name) = \($0.number);" }
    return ["enum \(enumeration.name) {"] + values + ["}"]
  }

  // MARK: JSON

  static func json(of method: MethodDescription) -> JSONObject {
    [
      "type": "method", "method": .string(method.fullName),
      "request": .string(method.requestType), "reply": .string(method.replyType),
      "client_streams": .bool(method.clientStreams),
      "server_streams": .bool(method.serverStreams),
      "idempotency": .string(method.idempotencyName),
      "roles": .array(method.roles.map { .string($0) }), "open": .bool(method.open),
    ]
  }

  static func json(of message: Schema.Message) -> JSONObject {
    [
      "type": "message", "name": .string(message.name),
      "fields": .array(
        message.fields.map { field in
          .object([
            "name": .string(field.name), "json_name": .string(field.jsonName),
            "number": JSONValue(field.number), "repeated": .bool(field.isRepeated),
            "field_type": .string(field.kind.name),
          ])
        }),
    ]
  }

  static func json(of enumeration: Schema.Enumeration) -> JSONObject {
    [
      "type": "enum", "name": .string(enumeration.name),
      "values": .array(
        enumeration.values.map {
          .object(["name": .string($0.name), "number": JSONValue($0.number)])
        }),
    ]
  }
}
