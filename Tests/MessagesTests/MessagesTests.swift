import Base
import CWire
import Foundation
import Messages
import TestSupport
import Testing

@Suite struct MessagesTests {
  private static func record(_ entropy: SeededEntropy) -> ImageRecord {
    var record = ImageRecord()
    record.imageID = entropy.bytes(16)
    record.owner = "mo-\(entropy.uniform(below: 100))"
    record.codes = (0..<entropy.uniform(below: 4)).map { _ in
      var code = MaskedCode()
      code.modelVersion = entropy.bytes(8).hex
      code.indexKeyVersion = UInt32(truncatingIfNeeded: entropy.next())
      code.bits = 64
      code.code = entropy.next()
      return code
    }
    record.wrappedDataKey = entropy.bytes(Int(entropy.uniform(below: 80)))
    record.sealedTags = entropy.bytes(Int(entropy.uniform(below: 3000)))
    record.sealedBytes = entropy.next()
    record.storedAtMilliseconds = entropy.next()
    return record
  }

  @Test func whatIsEncodedIsDecoded() throws {
    let entropy = SeededEntropy.announced()
    for _ in 0..<200 {
      var result = SearchResult()
      result.rank = UInt32(truncatingIfNeeded: entropy.next())
      result.record = entropy.uniform(below: 4) == 0 ? nil : Self.record(entropy)
      result.imageMessage = "größer ≠ kleiner"
      #expect(try SearchResult(decoding: result.encoded()) == result)
    }
    #expect(try Empty(decoding: Empty().encoded()) == Empty())
  }

  /// Protobuf's own bytes (encoding guide): field 1 of varint 150 is 08 96 01.
  @Test func theBytesAreProtobuf() throws {
    var result = SearchResult()
    result.rank = 150
    #expect(result.encoded() == [0x08, 0x96, 0x01])
    var entry = MetadataEntry()
    entry.key = "testing"
    #expect(entry.encoded() == [0x0a, 7] + Array("testing".utf8))
    // A field of a later version is skipped.
    #expect(try SearchResult(decoding: [0x08, 0x96, 0x01, 0xfa, 0x01, 0x01, 0x00]) == result)
  }

  @Test func badBytesAreErrors() throws {
    let entropy = SeededEntropy.announced()
    let bytes = {
      var result = SearchResult()
      result.record = Self.record(entropy)
      return result.encoded()
    }()
    for end in 1..<bytes.count { _ = try? SearchResult(decoding: Array(bytes.prefix(end))) }
    for _ in 0..<3000 {
      var mutated = bytes
      for _ in 0...entropy.uniform(below: 4) {
        mutated[Int(entropy.uniform(below: UInt64(mutated.count)))] = UInt8(
          entropy.uniform(below: 256))
      }
      _ = try? SearchResult(decoding: mutated)
    }
    #expect(throws: WireError.malformed) { try SearchResult(decoding: [0x08]) }
    #expect(throws: WireError.notUTF8) { try MetadataEntry(decoding: [0x0a, 2, 0xff, 0xfe]) }
  }

  /// Two bytes on the wire, many in memory: the decoder's memory is bounded.
  @Test func amplificationIsBounded() {
    let bytes = [UInt8](repeating: 0, count: 4_000_000).enumerated().map { index, _ in
      UInt8(index.isMultiple(of: 2) ? 0x0a : 0x00)
    }
    #expect(throws: WireError.tooLarge(limitBytes: 1 << 20)) {
      try ListImagesReply(decoding: bytes, memoryLimitBytes: 1 << 20)
    }
  }

  /// Who hands on what it was sent must not run out of memory that the sender did not need.
  @Test func whatWasDecodedCanBeEncoded() throws {
    func bomb(_ count: Int) -> [UInt8] {
      Array(repeatElement([0x0a, 0x00] as [UInt8], count: count).joined())
    }
    // As many empty records as decoding has memory for.
    var (fits, tooMany) = (0, 1 << 20)
    while tooMany - fits > 100 {
      let count = (fits + tooMany) / 2
      if (try? ListImagesReply(decoding: bomb(count))) != nil {
        fits = count
      } else {
        tooMany = count
      }
    }
    let reply = try ListImagesReply(decoding: bomb(fits))
    #expect(reply.encoded() == bomb(fits))
  }

  @Test func everyMethodIsRegisteredOnce() {
    var names: Set<String> = []
    for index in 0..<sfm_registered_method_count {
      let method = sfm_registered_method_at(index).pointee
      let name = String(cString: method.service.pointee.name) + "/" + String(cString: method.method)
      #expect(names.insert(name).inserted)
    }
    #expect(names.contains(MasterCloudMethods.putImage.name))
    #expect(names.contains(KeyControlMethods.join.name))
    #expect(names.count == sfm_registered_method_count)
  }

  /// docs/formats/wire.md, "Worth repeating": every method may be repeated but those that act once more.
  @Test func theSchemaSaysWhatMayBeRepeated() {
    var unmarked: Set<String> = []
    for index in 0..<sfm_registered_method_count {
      let method = sfm_registered_method_at(index).pointee
      if method.idempotency == 0 { unmarked.insert(String(cString: method.method)) }
    }
    #expect(unmarked == ["Join", "RotateKey", "CreateToken"])
    #expect(KeyControlMethods.rotateKey.idempotency == .unknown)
    #expect(MasterCloudMethods.putImage.idempotency == .idempotent)
    #expect(SlaveCloudMethods.getShadow.idempotency == .noSideEffects)
  }

  /// The committed C and Swift are what the schemas give today.
  @Test func generatedCodeIsFresh() async throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let scratch = try TemporaryDirectory("generated")
    try await run("/bin/bash", [root.path + "/Protos/generate.sh", scratch.path])
    let wire = root.appendingPathComponent("Sources/CWire").path
    for name in try files(scratch.path("Sources/CWire")) {
      #expect(
        FileManager.default.contentsEqual(
          atPath: "\(wire)/\(name)", andPath: scratch.path("Sources/CWire/\(name)")),
        "Sources/CWire/\(name) is stale: run Protos/generate.sh")
    }
    // This program's own descriptors come from the committed C, which was just compared.
    let generator = try #require(productsFolder()) + "/wiregen"
    let swift = scratch.path("swift")
    try FileManager.default.createDirectory(atPath: swift, withIntermediateDirectories: true)
    try await run(generator, [swift])
    let committed = root.appendingPathComponent("Sources/Messages/Generated").path
    #expect(try files(swift) == files(committed))
    for name in try files(swift) {
      #expect(
        FileManager.default.contentsEqual(
          atPath: "\(swift)/\(name)", andPath: "\(committed)/\(name)"),
        "Sources/Messages/Generated/\(name) is stale: run Protos/generate.sh")
    }
  }

  private func files(_ folder: String) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: folder).filter { name in
      var isFolder: ObjCBool = false
      return FileManager.default.fileExists(atPath: "\(folder)/\(name)", isDirectory: &isFolder)
        && !isFolder.boolValue
    }.sorted()
  }

  private func run(_ program: String, _ arguments: [String]) async throws {
    let outcome = try await runProgram(program, arguments)
    #expect(outcome.status == 0, "\(program) \(arguments)")
  }
}
