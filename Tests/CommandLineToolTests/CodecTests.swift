import Base
import Messages
import RPC
import TestSupport
import Testing

@testable import CommandLineTool

@Suite struct CodecTests {
  private static func everything() throws -> Schema {
    try Schema(CompiledTypes.describe(CompiledTypes.messageNames))
  }

  /// A schema of one message "m" (and "self", which contains itself) with types the project does not use.
  static func exotic() throws -> Schema {
    var reply = DescribeTypesReply()
    var message = MessageDescription()
    message.name = "m"
    let types: [FieldType] = [
      .double, .float, .int32, .int64, .sint32, .sint64, .sfixed32, .sfixed64, .enum, .string,
    ]
    for (index, type) in types.enumerated() {
      for repeated in [false, true] {
        var field = FieldDescription()
        field.name = "f_\(type.rawValue)" + (repeated ? "_list" : "")
        field.number = UInt32(index + 1) + (repeated ? 100 : 0)
        field.type = type
        field.typeName = type == .enum ? "e" : ""
        field.label = repeated ? .repeated : .singular
        field.packed = repeated && type != .string
        message.fields.append(field)
      }
    }
    var enumeration = EnumDescription()
    enumeration.name = "e"
    for (name, number) in [("ZERO", 0), ("MINUS", -1)] as [(String, Int32)] {
      var value = EnumValueDescription()
      (value.name, value.number) = (name, UInt32(bitPattern: number))
      enumeration.values.append(value)
    }
    var inner = MessageDescription()
    inner.name = "self"
    for (index, label) in [FieldLabel.optional, .repeated].enumerated() {
      var field = FieldDescription()
      field.name = index == 0 ? "one" : "many"
      field.number = UInt32(index + 1)
      (field.type, field.typeName, field.label) = (.message, "self", label)
      inner.fields.append(field)
    }
    reply.messages = [message, inner]
    reply.enums = [enumeration]
    return try Schema(reply)
  }

  // MARK: against the compiled types

  @Test func everyMessageGoesThereAndBack() throws {
    let entropy = SeededEntropy.announced()
    let schema = try Self.everything()
    for type in registeredMessageTypes {
      for _ in 0..<40 { try goThereAndBack(type, schema, entropy) }
    }
  }

  private func goThereAndBack<Message: WireMessage>(
    _: Message.Type, _ schema: Schema, _ entropy: SeededEntropy
  ) throws {
    let name = String(cString: Message.descriptor.pointee.name)
    let json = try RandomMessage(schema: schema, entropy: entropy).object(name)
    let bytes = try MessageEncoder(schema: schema).encode(.object(json), as: name)
    // protobuf-c reads the same values out of the bytes, for it writes the same bytes from them.
    #expect(try Message(decoding: bytes).encoded() == bytes, "\(name): \(json.line)")
    let back = try MessageDecoder(schema: schema).decode(bytes, as: name)
    #expect(back == json, "\(name): \(json.line) became \(back.line)")
    let parsed = try JSONValue(parsing: back.line)
    #expect(try MessageEncoder(schema: schema).encode(parsed, as: name) == bytes)
  }

  @Test func valuesAreThoseOfTheGeneratedTypes() throws {
    let schema = try Self.everything()
    let text = """
      {"image_id": "AAEC/w", "owner": "größe", "codes": [{"bits": "64", "code": 18446744073709551615}, {}],
       "sealedBytes": "9007199254740993", "imageKeyVersion": 7.0, "sealedDigest": "-_8="}
      """
    let record = try ImageRecord(
      decoding: MessageEncoder(schema: schema).encode(
        JSONValue(parsing: text), as: "sfmedir.v1.ImageRecord"))
    #expect(record.imageID == [0, 1, 2, 255])
    #expect(record.owner == "größe")
    #expect(record.codes.map(\.bits) == [64, 0])
    #expect(record.codes.map(\.code) == [.max, 0])
    #expect(record.sealedBytes == 9_007_199_254_740_993)
    #expect(record.imageKeyVersion == 7)
    #expect(record.sealedDigest == [0xfb, 0xff])
    let json = try MessageDecoder(schema: schema).decode(
      record.encoded(), as: "sfmedir.v1.ImageRecord")
    #expect(
      json.line == #"{"imageId":"AAEC/w==","owner":"größe","codes":"#
        + #"[{"bits":64,"code":"18446744073709551615"},{}],"imageKeyVersion":7,"#
        + #""sealedBytes":"9007199254740993","sealedDigest":"+/8="}"#)
  }

  @Test func zerosAreGivenWhereAskedFor() throws {
    var decoder = MessageDecoder(schema: try Self.everything())
    decoder.givesZeros = true
    #expect(
      try decoder.decode([], as: "sfmedir.v1.ImageRecord").line
        == #"{"imageId":"","owner":"","codes":[],"wrappedDataKey":"","imageKeyVersion":0,"#
        + #""sealedTags":"","sealedBytes":"0","sealedDigest":"","storedAtMilliseconds":"0"}"#)
    #expect(
      try decoder.decode([], as: "grpc.health.v1.HealthCheckResponse").line
        == #"{"status":"UNKNOWN"}"#)
  }

  // MARK: types that only a newer daemon has

  /// Bytes of protobuf's encoding guide, and of the definitions there.
  @Test(
    arguments: [
      (#"{"f1":1.5}"#, [0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]),
      (#"{"f1":"-Infinity"}"#, [0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0xff]),
      (#"{"f2":0.1}"#, [0x15, 0xcd, 0xcc, 0xcc, 0x3d]),
      (#"{"f5":-2}"#, [0x18, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
      (#"{"f3":"-1"}"#, [0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
      (#"{"f17":-1}"#, [0x28, 0x01]),
      (#"{"f17":2147483647}"#, [0x28, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
      (#"{"f17":-2147483648}"#, [0x28, 0xff, 0xff, 0xff, 0xff, 0x0f]),
      (#"{"f18":"-2"}"#, [0x30, 0x03]), (#"{"f15":-1}"#, [0x3d, 0xff, 0xff, 0xff, 0xff]),
      (#"{"f16":"1"}"#, [0x41, 1, 0, 0, 0, 0, 0, 0, 0]),
      (#"{"f14":"MINUS"}"#, [0x48, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
      (#"{"f5List":[3,270,86942]}"#, [0xba, 0x06, 6, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]),
      (#"{"f2List":[0.0,-1.5]}"#, [0xb2, 0x06, 8, 0, 0, 0, 0, 0, 0, 0xc0, 0xbf]),
      (#"{"f9List":["","a"]}"#, [0xf2, 0x06, 0, 0xf2, 0x06, 1, 0x61]),
    ] as [(String, [UInt8])]) func otherTypes(_ json: String, _ bytes: [UInt8]) throws
  {
    let schema = try Self.exotic()
    #expect(try MessageEncoder(schema: schema).encode(JSONValue(parsing: json), as: "m") == bytes)
    #expect(try MessageDecoder(schema: schema).decode(bytes, as: "m").line == json)
  }

  @Test(
    arguments: [
      // Numbers one by one where packed ones were due.
      ([0xb8, 0x06, 3, 0xb8, 0x06, 4], #"{"f5List":[3,4]}"#),
      // A field that the schema lacks, and one in another encoding, are passed over.
      ([0xf8, 0x01, 9, 0x28, 0x01], #"{"f17":-1}"#),
      ([0x2d, 1, 2, 3, 4, 0x28, 0x01], #"{"f17":-1}"#),
      // The last one counts.
      ([0x28, 0x01, 0x28, 0x03], #"{"f17":-2}"#),
      // Bits beyond the type are dropped.
      ([0x28, 0x81, 0x80, 0x80, 0x80, 0x10], #"{"f17":-1}"#),
      ([0x48, 0x05], #"{"f14":5}"#),
    ] as [([UInt8], String)]) func whatOthersMayWrite(_ bytes: [UInt8], _ json: String) throws
  {
    #expect(try MessageDecoder(schema: Self.exotic()).decode(bytes, as: "m").line == json)
  }

  /// A submessage in two parts is one submessage.
  @Test func partsOfASubmessageBelongTogether() throws {
    let bytes: [UInt8] = [0x0a, 2, 0x12, 0, 0x0a, 2, 0x12, 0]
    #expect(
      try MessageDecoder(schema: Self.exotic()).decode(bytes, as: "self").line
        == #"{"one":{"many":[{},{}]}}"#)
  }

  // MARK: wrong JSON

  @Test(arguments: [
    (
      #"{"record":{"codes":[{},{"bitz":1}]}}"#,
      "record.codes[1]: sfmedir.v1.MaskedCode has no field 'bitz'"
    ),
    (#"{"rank":-1}"#, "rank: an integer from 0 to 4294967295 is due, not -1"),
    (#"{"rank":4294967296}"#, "rank: an integer from 0 to 4294967295 is due, not 4294967296"),
    (#"{"rank":1.5}"#, "rank: an integer from 0 to 4294967295 is due, not 1.5"),
    (#"{"rank":"+1"}"#, #"rank: an integer from 0 to 4294967295 is due, not "+1""#),
    (#"{"rank":true}"#, "rank: an integer from 0 to 4294967295 is due, not true"),
    (#"{"record":[]}"#, "record: sfmedir.v1.ImageRecord is an object, not an array"),
    (#"{"record":{"codes":{}}}"#, "record.codes: an array is due, not an object"),
    (#"{"record":{"codes":[null]}}"#, "record.codes[0]: null is no element"),
    (#"{"record":{"owner":5}}"#, "record.owner: a text is due, not 5"),
    (#"{"record":{"imageId":"?"}}"#, #"record.imageId: "?" is not base64"#),
    (
      #"{"record":{"sealedBytes":1e19}}"#,
      "record.sealedBytes: an integer from 0 to 18446744073709551615 is due, not 1e+19"
    ),
    (
      #"{"record":{"image_id":"","imageId":""}}"#,
      "record: the field 'imageId' is given under both its names"
    ),
    ("[]", "sfmedir.v1.SearchResult is an object, not an array"),
  ]) func wrongJSONIsToldWithItsPlace(_ json: String, _ problem: String) throws {
    let encoder = MessageEncoder(schema: try Self.everything())
    let error = #expect(throws: CodecError.self) {
      try encoder.encode(JSONValue(parsing: json), as: "sfmedir.v1.SearchResult")
    }
    #expect(error?.description == problem)
  }

  @Test(arguments: [
    #"{"f2":1e39}"#, #"{"f1":"inf"}"#, #"{"f1":"1x"}"#, #"{"f14":"PLUS"}"#, #"{"f14":2147483648}"#,
    #"{"f5List":[1,"x"]}"#, #"{"f3":9223372036854775808}"#, #"{"f3":9007199254740994.0}"#,
    #"{"f17":" 1"}"#, #"{"f17":""}"#,
  ]) func wrongValuesOfOtherTypes(_ json: String) throws {
    let encoder = MessageEncoder(schema: try Self.exotic())
    let value = try JSONValue(parsing: json)
    #expect(throws: CodecError.self) { try encoder.encode(value, as: "m") }
  }

  @Test func nullIsNotGiven() throws {
    let encoder = MessageEncoder(schema: try Self.exotic())
    #expect(try encoder.encode(JSONValue(parsing: #"{"f1":null,"f5List":null}"#), as: "m") == [])
  }

  @Test func base64() {
    let vectors = [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
      ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
    ]
    for (plain, coded) in vectors {
      #expect(Base64.encode(Array(plain.utf8)) == coded)
      #expect(Base64.decode(coded) == Array(plain.utf8))
      #expect(Base64.decode(coded.replacing("=", with: "")) == Array(plain.utf8))
    }
    for wrong in ["Z", "Zg=", "Zg===", "=", "====", "Zm9v Zg", "Zm=v", "ä"] {
      #expect(Base64.decode(wrong) == nil, "\(wrong)")
    }
  }
}
