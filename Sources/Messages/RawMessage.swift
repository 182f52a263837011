public import CWire

/// A message of a type that this program was not built with: its fields as they stand on the wire.
///
/// To protobuf-c it is a message of no fields, all of whose content is unknown; that content is kept, where
/// other messages drop it.
public struct RawMessage: WireMessage, Equatable {
  /// Whole fields, in the order of the wire.
  public let bytes: [UInt8]

  public init() { bytes = [] }

  /// - Throws: `malformed` where the bytes are not fields; `tooLarge` where there are more of them than can
  ///   be encoded.
  public init(_ bytes: [UInt8]) throws(WireError) {
    var reader = WireFieldReader(bytes)
    var count = 0
    while try reader.next() != nil { count += 1 }
    // What encoding takes of its arena.
    let memory = bytes.count + count * MemoryLayout<ProtobufCMessageUnknownField>.stride
    guard memory <= messageMemoryLimitBytes / 2 else {
      throw .tooLarge(limitBytes: messageMemoryLimitBytes / 2)
    }
    self.bytes = bytes
  }

  public init(c: UnsafePointer<Sfmedir__V1__Empty>) throws(WireError) {
    var writer = WireFieldWriter()
    for index in 0..<Int(c.pointee.base.n_unknown_fields) {
      let field = c.pointee.base.unknown_fields[index]
      writer.unknown(field)
    }
    // protobuf-c takes numbers of fields that are none.
    try self.init(writer.bytes)
  }

  public func encode(into a: borrowing Arena) -> UnsafeMutablePointer<Sfmedir__V1__Empty> {
    let m = a.make(Sfmedir__V1__Empty.self)
    sfmedir__v1__empty__init(m)
    var reader = WireFieldReader(bytes)
    var fields: [ProtobufCMessageUnknownField] = []
    let copy = a.bytes(bytes)
    do {
      while let field = try reader.next() {
        // protobuf-c writes number and wire type itself, and behind them the bytes that it is given.
        var head = WireFieldReader(bytes, in: field.range)
        let tag = try head.varint()
        fields.append(
          ProtobufCMessageUnknownField(
            tag: field.number, wire_type: ProtobufCWireType(rawValue: UInt32(tag & 7)),
            len: field.range.upperBound - head.position, data: copy.data + head.position))
      }
    } catch {
      preconditionFailure("checked bytes of \(bytes.count) became malformed: \(error)")
    }
    let (pointer, count) = a.array(fields) { $0 }
    m.pointee.base.unknown_fields = pointer
    m.pointee.base.n_unknown_fields = UInt32(count)
    return m
  }

  public static var descriptor: UnsafePointer<ProtobufCMessageDescriptor> {
    messageDescriptor { sfmedir__v1__empty__init($0) }
  }
}

extension WireFieldWriter {
  fileprivate mutating func unknown(_ field: ProtobufCMessageUnknownField) {
    varint(UInt64(field.tag) << 3 | UInt64(field.wire_type.rawValue))
    append(UnsafeBufferPointer(start: field.data, count: field.len))
  }
}

/// A method that is known by its name and shape alone, for instance from reflection.
public typealias UntypedMethod = Method<RawMessage, RawMessage>
