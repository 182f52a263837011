import DeepHash
import Testing

@Suite struct SafetensorsTests {
  /// A file with the given header text before `dataSizeBytes` zeros.
  private func file(_ header: String, dataSizeBytes: Int = 0) -> [UInt8] {
    let text = Array(header.utf8)
    let length = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    return length + text + Array(repeating: 0, count: dataSizeBytes)
  }

  private func entry(_ type: String, _ shape: String, _ begin: String, _ end: String) -> String {
    "{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(begin),\(end)]}"
  }

  private func error(of bytes: [UInt8]) -> SafetensorsError? {
    do throws(SafetensorsError) {
      _ = try Safetensors(bytes: bytes)
      return nil
    } catch {
      return error
    }
  }

  @Test func writesWhatItReads() throws {
    let seed: UInt64 = 21
    var generator = SeededGenerator(seed: seed)
    var writer = SafetensorsWriter(metadata: ["a": "quote \" slash \\ line\n", "unicode": "é🧠"])
    let tensors = [
      "matrix": Tensor(shape: [2, 3], elements: generator.pixels(6)),
      "scalar": Tensor(shape: [], elements: [-1.5]),
      "empty": Tensor(shape: [0, 4], elements: []),
      "odd \"name\"": Tensor(shape: [1, 1, 5], elements: generator.pixels(5)),
    ]
    for (name, tensor) in tensors { writer.add(tensor, named: name) }
    writer.add(Tensor(shape: [2], elements: [0.5, -65504]), named: "half", precision: .half)
    writer.add(Tensor(shape: [1], elements: [0.1]), named: "double", precision: .double)
    let bytes = try writer.encoded()
    let read = try Safetensors(bytes: bytes)

    #expect(read.metadata == writer.metadata)
    #expect(read.entries.count == 6)
    for (name, tensor) in tensors { #expect(try read.tensor(named: name) == tensor, "\(name)") }
    #expect(try read.tensor(named: "half").elements == [0.5, -65504])
    #expect(try read.tensor(named: "double").elements == [0.1])
    #expect(read.entry(named: "half")?.dataType == .float16)
    #expect(try writer.encoded() == bytes)
    #expect((bytes.count - read.entries.last!.dataRange.upperBound) % 8 == 0)
  }

  @Test func writesTheBytesOfTheFormat() throws {
    var writer = SafetensorsWriter()
    writer.add(Tensor(shape: [1], elements: [1]), named: "x")
    let header = "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
    let padding = String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
    #expect(try writer.encoded() == file(header + padding) + [0, 0, 0x80, 0x3F])
  }

  @Test func readsFilesOfOtherWriters() throws {
    // White space, another order of fields, escapes, and data that are not aligned.
    let header = """
      { "b\\u00e9\\ud83e\\udde0" : { "shape" : [ 1 ] , "data_offsets":[0,8], "dtype":"F64" },
        "__metadata__": {"k":"v\\/"} }\u{20}
      """
    let read = try Safetensors(bytes: file(header, dataSizeBytes: 8))
    #expect(try read.tensor(named: "bé🧠").elements == [0])
    #expect(read.metadata == ["k": "v/"])
    #expect(try Safetensors(bytes: file("{}")).entries.isEmpty)
  }

  @Test func everyTruncationIsAnError() throws {
    let bytes = try Fixture.bytes("odd-3x33x40.safetensors")
    let headerEnd = Int(bytes[0]) | Int(bytes[1]) << 8 | Int(bytes[2]) << 16
    var lengths = Array(0..<64) + Array(stride(from: 64, to: headerEnd, by: 131))
    lengths += Array(stride(from: headerEnd, to: bytes.count, by: 9973)) + [bytes.count - 1]
    for length in lengths {
      #expect(error(of: Array(bytes[..<length])) != nil, "cut at \(length)")
    }
    #expect(error(of: bytes + [0]) != nil)
    #expect(error(of: bytes) == nil)
  }

  @Test func everyDamagedHeaderIsReadOrRefused() throws {
    let seed: UInt64 = 22
    var generator = SeededGenerator(seed: seed)
    let intact = file(
      "{\"a\":\(entry("F32", "2,1", "0", "8")),\"b\":\(entry("F16", "2", "8", "12"))}",
      dataSizeBytes: 12)
    for _ in 0..<5000 {
      var bytes = intact
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(
          in: 0...255, using: &generator)
      }
      guard let read = try? Safetensors(bytes: bytes) else { continue }
      for entry in read.entries { _ = try? read.tensor(named: entry.name) }
    }
  }

  @Test func refusesImpossibleLengths() {
    let huge = [UInt8](repeating: 0, count: 7) + [0x80]
    #expect(error(of: huge + [1, 2]) == .headerTooLong(sizeBytes: 1 << 63))
    #expect(error(of: Array(repeating: 0xFF, count: 16)) == .headerTooLong(sizeBytes: .max))
    #expect(error(of: []) == .truncatedHeader(sizeBytes: 0))
    #expect(error(of: [9, 0, 0, 0, 0, 0, 0, 0, 0x7B]) == .truncatedHeader(sizeBytes: 9))
  }

  @Test func refusesMisplacedData() {
    func two(_ first: String, _ second: String, dataSizeBytes: Int) -> SafetensorsError? {
      error(of: file("{\"a\":\(first),\"b\":\(second)}", dataSizeBytes: dataSizeBytes))
    }
    let a = entry("F32", "2", "0", "8")
    #expect(
      two(a, entry("F32", "2", "4", "12"), dataSizeBytes: 12)
        == .misplacedData(name: "b", expectedOffset: 8, offset: 4))
    #expect(
      two(a, a, dataSizeBytes: 8) == .misplacedData(name: "b", expectedOffset: 8, offset: 0))
    #expect(
      two(a, entry("F32", "1", "12", "16"), dataSizeBytes: 16)
        == .misplacedData(name: "b", expectedOffset: 8, offset: 12))
    #expect(
      two(a, entry("F32", "1", "8", "12"), dataSizeBytes: 11)
        == .wrongFileSize(expected: 12, actual: 11))
    #expect(
      two(a, entry("F32", "1", "8", "12"), dataSizeBytes: 13)
        == .wrongFileSize(expected: 12, actual: 13))
  }

  @Test func refusesSizesThatDoNotFit() {
    func one(_ entry: String) -> SafetensorsError? {
      error(of: file("{\"a\":\(entry)}", dataSizeBytes: 8))
    }
    #expect(
      one(entry("F32", "3", "0", "8")) == .sizeMismatch(name: "a", shape: [3], sizeBytes: 8))
    let shape = "4294967296,4294967296,4"
    #expect(
      one(entry("F32", shape, "0", "8"))
        == .sizeMismatch(name: "a", shape: [4_294_967_296, 4_294_967_296, 4], sizeBytes: 8))
    #expect(
      one(entry("F64", "2305843009213693953", "0", "8"))
        == .sizeMismatch(name: "a", shape: [2_305_843_009_213_693_953], sizeBytes: 8))
    for entry in [
      entry("F32", "2", "8", "0"), entry("F32", "-2", "0", "8"), entry("F32", "2", "-8", "0"),
      entry("F32", "2", "0", "8.0"), entry("F32", "1,1,1,1,1,1,1,1,2", "0", "8"),
      "{\"dtype\":\"F32\",\"shape\":[2]}", "{\"dtype\":3,\"shape\":[2],\"data_offsets\":[0,8]}",
      "{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}", "[]", "null",
      "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"extra\":1}",
    ] {
      guard case .malformedEntry(name: "a", _)? = one(entry) else {
        Issue.record("\(entry) gave \(String(describing: one(entry)))")
        continue
      }
    }
  }

  @Test func refusesNamesThatRepeat() {
    let a = entry("F32", "1", "0", "4")
    #expect(
      error(of: file("{\"a\":\(a),\"\\u0061\":\(a)}", dataSizeBytes: 4)) == .duplicateName("a"))
    #expect(
      error(of: file("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}")) == .duplicateName("dtype"))
  }

  @Test func refusesOtherDataTypes() throws {
    #expect(
      error(of: file("{\"a\":\(entry("F8", "8", "0", "8"))}", dataSizeBytes: 8))
        == .unknownDataType(name: "a", dataType: "F8"))
    let read = try Safetensors(
      bytes: file("{\"a\":\(entry("I32", "2", "0", "8"))}", dataSizeBytes: 8))
    #expect(throws: SafetensorsError.unsupportedDataType(name: "a", dataType: .int32)) {
      try read.tensor(named: "a")
    }
    #expect(throws: SafetensorsError.missingTensor("b")) { try read.tensor(named: "b") }
  }

  @Test func refusesTextThatIsNotStrictJSON() {
    let nested = String(repeating: "[", count: 100_000)
    for header in [
      "", " {}", "[]", "{", "{}}", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}",
      "{\"a\":01}", "{\"a\":+1}", "{\"a\":1.}", "{\"a\":tru}", "{\"a\":\"\\x\"}",
      "{\"a\":\"\\ud800\"}", "{\"a\":\"\\ud800\\u0041\"}", "{\"a\":\"\\u12\"}",
      "{\"a\":\"\u{1}\"}", "{\"a\":\"", "{\"a\":99999999999999999999}", "{\"a\":\(nested)",
      "{\"a\":[\(String(repeating: "1,", count: 2000))1]}",
    ] {
      guard case .malformedHeader? = error(of: file(header)) else {
        Issue.record("\(header.prefix(40)) gave \(String(describing: error(of: file(header))))")
        continue
      }
    }
    let notUTF8 = file("{\"").dropLast(0) + [0xFF, 0x22, 0x3A, 0x31, 0x7D]
    var bytes = Array(notUTF8)
    bytes[0] = UInt8(bytes.count - 8)
    #expect(
      error(of: bytes) == .malformedHeader(offset: 4, reason: "a string is not UTF-8"))
  }
}
