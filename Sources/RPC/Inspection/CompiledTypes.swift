import CWire
import Messages

/// The messages and enumerations that this program was built with, from their protobuf-c descriptors.
public enum CompiledTypes {
  private static let types = collected()

  /// Full names of all messages, sorted.
  public static var messageNames: [String] { types.messages.keys.sorted() }

  /// The types of these full names and all that they mention, each once, sorted by name.
  ///
  /// - Throws: NOT_FOUND with the first name that is no type.
  public static func describe(_ names: [String]) throws(RPCError) -> DescribeTypesReply {
    var messages: [String: MessageDescription] = [:]
    var enums: [String: EnumDescription] = [:]
    var waiting = names
    while let name = waiting.popLast() {
      if messages[name] != nil || enums[name] != nil { continue }
      if let message = types.messages[name] {
        messages[name] = message
        waiting += message.fields.lazy.map(\.typeName).filter { !$0.isEmpty }
      } else if let enumeration = types.enums[name] {
        enums[name] = enumeration
      } else {
        throw RPCError(.notFound, "no type '\(name.prefix(100))' here", reason: "NoSuchType")
      }
    }
    var reply = DescribeTypesReply()
    reply.messages = messages.values.sorted { $0.name < $1.name }
    reply.enums = enums.values.sorted { $0.name < $1.name }
    return reply
  }

  private struct Types: Sendable {
    var messages: [String: MessageDescription] = [:]
    var enums: [String: EnumDescription] = [:]
  }

  private static func collected() -> Types {
    var types = Types()
    for index in 0..<sfm_registered_message_count {
      let descriptor = sfm_registered_message_at(index).pointee.descriptor
      var message = MessageDescription()
      message.name = String(cString: descriptor.pointee.name)
      for index in 0..<Int(descriptor.pointee.n_fields) {
        let field = descriptor.pointee.fields[index]
        message.fields.append(description(of: field))
        guard field.type == PROTOBUF_C_TYPE_ENUM else { continue }
        let enumeration = description(
          of: field.descriptor.assumingMemoryBound(to: ProtobufCEnumDescriptor.self))
        types.enums[enumeration.name] = enumeration
      }
      types.messages[message.name] = message
    }
    return types
  }

  private static func description(of field: ProtobufCFieldDescriptor) -> FieldDescription {
    var description = FieldDescription()
    description.name = String(cString: field.name)
    description.number = field.id
    description.label = label(field.label)
    description.type = type(field.type)
    description.packed = field.flags & UInt32(PROTOBUF_C_FIELD_FLAG_PACKED.rawValue) != 0
    if field.type == PROTOBUF_C_TYPE_MESSAGE {
      let type = field.descriptor.assumingMemoryBound(to: ProtobufCMessageDescriptor.self)
      description.typeName = String(cString: type.pointee.name)
    } else if field.type == PROTOBUF_C_TYPE_ENUM {
      let type = field.descriptor.assumingMemoryBound(to: ProtobufCEnumDescriptor.self)
      description.typeName = String(cString: type.pointee.name)
    }
    return description
  }

  private static func description(
    of enumeration: UnsafePointer<ProtobufCEnumDescriptor>
  ) -> EnumDescription {
    var description = EnumDescription()
    description.name = String(cString: enumeration.pointee.name)
    for index in 0..<Int(enumeration.pointee.n_values) {
      var value = EnumValueDescription()
      value.name = String(cString: enumeration.pointee.values[index].name)
      value.number = UInt32(bitPattern: enumeration.pointee.values[index].value)
      description.values.append(value)
    }
    return description
  }

  private static func label(_ label: ProtobufCLabel) -> FieldLabel {
    switch label {
    case PROTOBUF_C_LABEL_REQUIRED: .required
    case PROTOBUF_C_LABEL_OPTIONAL: .optional
    case PROTOBUF_C_LABEL_REPEATED: .repeated
    default: .singular
    }
  }

  private static func type(_ type: ProtobufCType) -> FieldType {
    switch type {
    case PROTOBUF_C_TYPE_INT32: .int32
    case PROTOBUF_C_TYPE_SINT32: .sint32
    case PROTOBUF_C_TYPE_SFIXED32: .sfixed32
    case PROTOBUF_C_TYPE_INT64: .int64
    case PROTOBUF_C_TYPE_SINT64: .sint64
    case PROTOBUF_C_TYPE_SFIXED64: .sfixed64
    case PROTOBUF_C_TYPE_UINT32: .uint32
    case PROTOBUF_C_TYPE_FIXED32: .fixed32
    case PROTOBUF_C_TYPE_UINT64: .uint64
    case PROTOBUF_C_TYPE_FIXED64: .fixed64
    case PROTOBUF_C_TYPE_FLOAT: .float
    case PROTOBUF_C_TYPE_DOUBLE: .double
    case PROTOBUF_C_TYPE_BOOL: .bool
    case PROTOBUF_C_TYPE_ENUM: .enum
    case PROTOBUF_C_TYPE_STRING: .string
    case PROTOBUF_C_TYPE_BYTES: .bytes
    case PROTOBUF_C_TYPE_MESSAGE: .message
    default: .unspecified
    }
  }
}
