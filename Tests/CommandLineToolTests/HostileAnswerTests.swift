import Messages
import RPC
import TestSupport
import Testing

@testable import CommandLineTool

/// What a daemon that means ill, or is broken, can answer.
@Suite(.timeLimit(.minutes(1))) struct HostileAnswerTests {
  @Test func damagedBytesNeverCrash() throws {
    let entropy = SeededEntropy.announced()
    let schema = try Schema(CompiledTypes.describe(CompiledTypes.messageNames))
    let decoder = MessageDecoder(schema: schema)
    let names = CompiledTypes.messageNames
    for _ in 0..<4000 {
      let name = names[Int(entropy.uniform(below: UInt64(names.count)))]
      let json = try RandomMessage(schema: schema, entropy: entropy).object(name)
      var bytes = try MessageEncoder(schema: schema).encode(.object(json), as: name)
      if bytes.isEmpty { continue }
      for _ in 0...entropy.uniform(below: 4) {
        bytes[Int(entropy.uniform(below: UInt64(bytes.count)))] = UInt8(entropy.uniform(below: 256))
      }
      if entropy.uniform(below: 2) == 0 {
        bytes.removeLast(Int(entropy.uniform(below: UInt64(bytes.count))))
      }
      guard let read = try? decoder.decode(bytes, as: name) else { continue }
      // What can be read can be written.
      #expect(throws: Never.self) {
        try MessageEncoder(schema: schema).encode(.object(read), as: name)
      }
    }
  }

  @Test func textThatIsNoUTF8() throws {
    let decoder = MessageDecoder(schema: try CodecTests.exotic())
    let error = #expect(throws: CodecError.self) {
      try decoder.decode([0x52, 2, 0xff, 0xfe], as: "m")
    }
    #expect(error?.description == "f9: a text is not UTF-8")
  }

  @Test(
    arguments: [
      [0x08], [0x09, 1], [0x52, 5, 1], [0xba, 0x06, 1, 0x80], [0xb2, 0x06, 3, 1, 2, 3], [0x0b],
      [0x00],
    ] as [[UInt8]]) func brokenBytes(_ bytes: [UInt8]) throws
  {
    let decoder = MessageDecoder(schema: try CodecTests.exotic())
    #expect(throws: CodecError.self) { try decoder.decode(bytes, as: "m") }
  }

  /// A type that contains itself could be nested until the stack ends.
  @Test func depthIsBounded() throws {
    let schema = try CodecTests.exotic()
    func nested(_ depth: Int) -> [UInt8] {
      var bytes: [UInt8] = []
      for _ in 0..<depth {
        var writer = WireFieldWriter()
        writer.field(2, bytes: bytes)
        bytes = writer.bytes
      }
      return bytes
    }
    let decoder = MessageDecoder(schema: schema)
    let deepest = try decoder.decode(nested(CodecError.maximumDepth - 1), as: "self")
    #expect(deepest.keys == ["many"])
    #expect(throws: CodecError.self) {
      try decoder.decode(nested(CodecError.maximumDepth), as: "self")
    }
    #expect(throws: CodecError.self) { try decoder.decode(nested(10_000), as: "self") }
    // The same the other way round.
    var value = JSONValue.object([:])
    for _ in 0..<CodecError.maximumDepth - 1 { value = .object(["one": value]) }
    let encoder = MessageEncoder(schema: schema)
    #expect(throws: Never.self) { try encoder.encode(value, as: "self") }
    #expect(throws: CodecError.self) { try encoder.encode(.object(["one": value]), as: "self") }
  }

  /// Two bytes each on the wire, and many in memory.
  @Test func amplificationIsBounded() throws {
    var decoder = MessageDecoder(schema: try CodecTests.exotic())
    decoder.maximumValues = 1000
    let empty = (0..<1001).flatMap { _ in [0x12, 0] as [UInt8] }
    #expect(throws: CodecError.self) { try decoder.decode(empty, as: "self") }
    #expect(try decoder.decode(Array(empty.dropLast(2)), as: "self").keys == ["many"])
    var packed = WireFieldWriter()
    packed.field(103, bytes: [UInt8](repeating: 1, count: 1001))
    #expect(throws: CodecError.self) { try decoder.decode(packed.bytes, as: "m") }
    // Many parts of one submessage are put together without copying them each time.
    decoder.maximumValues = 1 << 19
    let parts = (0..<200_000).flatMap { _ in [0x0a, 2, 0x12, 0] as [UInt8] }
    #expect(try decoder.decode(parts, as: "self").keys == ["one"])
  }

  private func description(
    _ fields: [(name: String, number: UInt32, type: FieldType, typeName: String)]
  ) -> DescribeTypesReply {
    var message = MessageDescription()
    message.name = "m"
    message.fields = fields.map {
      var field = FieldDescription()
      (field.name, field.number, field.type, field.typeName) = (
        $0.name, $0.number, $0.type, $0.typeName
      )
      return field
    }
    var reply = DescribeTypesReply()
    reply.messages = [message]
    return reply
  }

  @Test func schemasThatDoNotHoldTogether() {
    let wrong: [DescribeTypesReply] = [
      description([("a", 0, .bool, "")]), description([("a", 1 << 29, .bool, "")]),
      description([("a", 1, .bool, ""), ("b", 1, .bool, "")]),
      description([("a", 1, .bool, ""), ("a", 2, .bool, "")]),
      description([("a_b", 1, .bool, ""), ("aB", 2, .bool, "")]),
      description([("a", 1, .message, "nowhere")]), description([("a", 1, .enum, "nowhere")]),
      description((1...1025).map { ("f\($0)", $0, .bool, "") }),
    ]
    for reply in wrong { #expect(throws: SchemaError.self) { try Schema(reply) } }
    var twice = description([])
    twice.messages += twice.messages
    #expect(throws: SchemaError.self) { try Schema(twice) }
    var many = DescribeTypesReply()
    many.messages = (0...4096).map {
      var message = MessageDescription()
      message.name = "m\($0)"
      return message
    }
    #expect(throws: SchemaError.self) { try Schema(many) }
  }

  /// A type of a later protobuf is skipped where it comes and refused where it is given.
  @Test func aTypeThatNobodyKnows() throws {
    let schema = try Schema(
      description([("a", 1, FieldType(rawValue: 99), ""), ("b", 2, .bool, "")]))
    let bytes: [UInt8] = [0x0a, 1, 7, 0x10, 1]
    #expect(try MessageDecoder(schema: schema).decode(bytes, as: "m").line == #"{"b":true}"#)
    #expect(throws: CodecError.self) {
      try MessageEncoder(schema: schema).encode(.object(["a": 1]), as: "m")
    }
  }
}
