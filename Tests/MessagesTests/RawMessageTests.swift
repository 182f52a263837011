import Messages
import TestSupport
import Testing

@Suite struct RawMessageTests {
  /// The bytes of one field of each kind: varint, fixed64, bytes, fixed32, and the highest number.
  private let example: [UInt8] =
    [0x08, 0x96, 0x01] + [0x11, 1, 2, 3, 4, 5, 6, 7, 8] + [0x1a, 3, 7, 8, 9] + [0x25, 1, 2, 3, 4]
    + [0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01] + [0x1a, 0]

  @Test func bytesGoThroughUnchanged() throws {
    let message = try RawMessage(example)
    #expect(message.encoded() == example)
    #expect(try RawMessage(decoding: example) == message)
    #expect(RawMessage().encoded().isEmpty)
    #expect(try RawMessage(decoding: []) == RawMessage())
  }

  /// What one program knows another carries blindly.
  @Test func everyMessageCanBeCarried() throws {
    var entry = MetadataEntry()
    entry.key = "größe"
    entry.value = [0, 1, 2]
    var trailer = Trailer()
    trailer.status = 300
    trailer.details = [entry, MetadataEntry(), entry]
    let raw = try RawMessage(decoding: trailer.encoded())
    #expect(try Trailer(decoding: raw.encoded()) == trailer)
  }

  @Test func fieldsAreCut() throws {
    var reader = WireFieldReader(example)
    var values: [WireFieldValue] = []
    var numbers: [UInt32] = []
    while let field = try reader.next() {
      numbers.append(field.number)
      values.append(field.value)
    }
    #expect(numbers == [1, 2, 3, 4, WireFieldReader.largestNumber, 3])
    #expect(
      values == [
        .varint(150), .fixed64(0x0807_0605_0403_0201), .bytes(14..<17), .fixed32(0x0403_0201),
        .varint(1), .bytes(30..<30),
      ])
    var writer = WireFieldWriter()
    writer.field(1, varint: 150)
    writer.field(2, fixed64: 0x0807_0605_0403_0201)
    writer.field(3, bytes: [7, 8, 9])
    writer.field(4, fixed32: 0x0403_0201)
    writer.field(WireFieldReader.largestNumber, varint: 1)
    writer.field(3, bytes: [])
    #expect(writer.bytes == example)
  }

  @Test(
    arguments: [
      [0x08], [0x80], [0x00, 0x01], [0x0b], [0x0c], [0x0e, 1], [0x0f, 1], [0x0a, 2, 1],
      [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], [0x09, 1, 2, 3],
      [0x0d, 1], [UInt8](repeating: 0xff, count: 12), [0x08] + [UInt8](repeating: 0x80, count: 10),
      // A field number of 2^29.
      [0x80, 0x80, 0x80, 0x80, 0x10, 0x01],
    ] as [[UInt8]]) func whatIsNoMessageIsAnError(_ bytes: [UInt8])
  {
    #expect(throws: WireError.malformed) { try RawMessage(bytes) }
    #expect(throws: WireError.self) { try RawMessage(decoding: bytes) }
  }

  /// More fields than could be encoded are refused before, not by a crash there.
  @Test func tooManyFieldsAreRefused() throws {
    let most = [UInt8](repeating: 0, count: 400_000).enumerated().map { index, _ in
      UInt8(index.isMultiple(of: 2) ? 0x0a : 0x00)
    }
    #expect(try RawMessage(most).encoded() == most)
    #expect(throws: WireError.tooLarge(limitBytes: 8 << 20)) { try RawMessage(most + most) }
  }

  @Test func randomBytesNeverCrash() {
    let entropy = SeededEntropy.announced()
    for _ in 0..<3000 {
      let bytes = entropy.bytes(Int(entropy.uniform(below: 40)))
      if let received = try? RawMessage(decoding: bytes) { _ = received.encoded() }
      guard let message = try? RawMessage(bytes) else { continue }
      // Numbers written with more bytes than needed come back shorter, but say the same.
      let once = message.encoded()
      #expect((try? RawMessage(once))?.encoded() == once)
    }
  }
}
