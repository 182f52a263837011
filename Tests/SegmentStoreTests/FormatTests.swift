import Base
import CSystem
import Simulator
import Testing

@testable import SegmentStore

/// CRC32C bit by bit, written from the polynomial and from nothing in the module.
private func slowChecksum(_ bytes: some Sequence<UInt8>) -> UInt32 {
  var value = UInt32.max
  for byte in bytes {
    value ^= UInt32(byte)
    for _ in 0..<8 { value = value & 1 == 1 ? value >> 1 ^ 0x82F6_3B78 : value >> 1 }
  }
  return ~value
}

private func number(_ bytes: [UInt8], _ offset: Int, _ size: Int) -> UInt64 {
  (0..<size).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
}

private func bytes(hexadecimal text: String) -> [UInt8] {
  let digits = text.filter { !$0.isWhitespace }.map { UInt8($0.hexDigitValue!) }
  return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

@Suite struct FormatTests {
  @Test func checksumsAgreeWithThePublishedValueAndEachOther() {
    #expect(Checksum.crc32c(Array("123456789".utf8)) == 0xE306_9283)
    #expect(Checksum.crc32c([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)  // RFC 3720 B.4
    var random = SeededGenerator(seed: 9)
    for size in Array(0...70) + [1000, 4099] {
      let bytes = random.bytes(size)
      let expected = slowChecksum(bytes)
      #expect(Checksum.crc32c(bytes) == expected)
      #expect(
        bytes.withUnsafeBytes { sfm_crc32c_portable(0, $0.baseAddress, $0.count) } == expected)
      let cut = size / 3
      let first = Checksum.crc32c(Array(bytes[..<cut]))
      #expect(Checksum.crc32c(Array(bytes[cut...]), continuing: first) == expected)
    }
  }

  /// Two appends and a deletion, each a batch of its own, then a close.
  private func writeGoldenStore() async throws -> SimulatedDisk {
    let disk = SimulatedDisk()
    let (store, _) = try open(disk)
    _ = try await store.append(key: bytes("alpha"), payload: bytes("first payload"))
    _ = try await store.append(key: bytes("b"), payload: [])
    _ = try await store.delete(key: bytes("alpha"))
    await store.close()
    return disk
  }

  @Test func theGoldenSegmentIsWrittenAgainByteForByte() async throws {
    let disk = try await writeGoldenStore()
    #expect(disk.content(segmentPath(1)).map(hexadecimal) == hexadecimal(goldenSegment))
    #expect(
      disk.content("\(folder)/store.manifest").map(hexadecimal) == hexadecimal(goldenManifest))
  }

  @Test func theGoldenSegmentIsReadAgain() async throws {
    let disk = SimulatedDisk()
    disk.setContent(segmentPath(1), goldenSegment)
    disk.setContent("\(folder)/store.manifest", goldenManifest)
    let (store, report) = try open(disk)
    var expected = RecoveryReport()
    expected.segments = 1
    expected.valueRecords = 2
    expected.tombstones = 1
    expected.nextSequence = 4
    #expect(report == expected)
    #expect(store.keys(limit: 10) == [bytes("b")])
    #expect(try await store.read(key: bytes("b")) == [])
    await store.close()
    #expect(disk.content(segmentPath(1)) == goldenSegment)
  }

  /// Reads the golden bytes by the table of docs/formats/segment.md, with nothing from the module.
  @Test func theGoldenSegmentFollowsItsByteTable() {
    let file = goldenSegment
    #expect(Array(file[0..<8]) == bytes("SFMSEGMT") && number(file, 8, 4) == 1)
    #expect(number(file, 12, 4) == 0 && number(file, 16, 8) == 1)
    #expect(Array(file[24..<40]) == storeIdentifier && number(file, 40, 8) == 1)
    #expect(number(file, 60, 4) == UInt64(slowChecksum(file[0..<60])))
    var offset = 64
    var summary: [String] = []
    while offset < file.count {
      #expect(Array(file[offset..<(offset + 4)]) == bytes("SFMR") && file[offset + 4] == 1)
      let keySize = Int(file[offset + 6])
      let payloadSize = Int(number(file, offset + 16, 4))
      let key = Array(file[(offset + 32)..<(offset + 32 + keySize)])
      let payload = Array(file[(offset + 32 + keySize)...].prefix(payloadSize))
      #expect(number(file, offset + 20, 4) == UInt64(slowChecksum(payload)))
      let place = storeIdentifier + littleEndian(UInt64(1)) + littleEndian(UInt64(offset))
      let checksum = slowChecksum(place + file[offset..<(offset + 28)] + key)
      #expect(number(file, offset + 28, 4) == UInt64(checksum))
      let kind = ["?", "value", "tombstone", "commit", "void"][Int(file[offset + 5])]
      let name = String(decoding: key, as: UTF8.self)
      summary.append(
        "\(kind) \(number(file, offset + 8, 8)) \(name) \(payloadSize) \(number(file, offset + 24, 4))"
      )
      offset += 32 + keySize + payloadSize
    }
    #expect(
      summary == [
        "value 1 alpha 13 64", "commit 2  0 114", "value 2 b 0 114", "commit 3  0 179",
        "tombstone 3 alpha 0 179", "commit 4  0 248",
      ])
  }

  @Test func unknownVersionsAreRefusedByName() async throws {
    let disk = try await writeGoldenStore()
    func refreshed(_ block: [UInt8]) -> [UInt8] {
      Array(block[..<60]) + littleEndian(slowChecksum(block[..<60])) + block[64...]
    }
    for name in [segmentPath(1), "\(folder)/store.manifest"] {
      for (position, version) in [(8, 3), (12, 1)] as [(Int, UInt32)] {
        let image = disk.copy()
        var content = image.content(name)!
        content[position] = position == 8 ? 3 : 7
        image.setContent(name, refreshed(content))
        #expect(throws: SegmentStoreError.unsupportedVersion(path: name, version: version)) {
          _ = try open(image)
        }
      }
    }
    var content = disk.content(segmentPath(1))!
    content[64 + 4] = 9
    let place = storeIdentifier + littleEndian(UInt64(1)) + littleEndian(UInt64(64))
    let checksum = slowChecksum(place + content[64..<92] + bytes("alpha"))
    content.replaceSubrange(92..<96, with: littleEndian(checksum))
    disk.setContent(segmentPath(1), content)
    #expect(throws: SegmentStoreError.unsupportedVersion(path: segmentPath(1), version: 9)) {
      _ = try open(disk)
    }
  }

  @Test func segmentNamesAreReadStrictly() {
    #expect(FileName.segment(1) == "0000000000000001.segment")
    #expect(FileName.segmentIdentifier(of: "00000000000000ff.segment") == 255)
    for name in [
      "1.segment", "00000000000000FF.segment", "0000000000000000.segment",
      "+000000000000001.segment",
      "ffffffffffffffff.segment", "0000000000000001.segment.new",
    ] {
      #expect(FileName.segmentIdentifier(of: name) == nil, "\(name)")
    }
  }

  @Test func theOrderedIndexBehavesAsASortedMap() {
    let seed: UInt64 = 21
    var random = SeededGenerator(seed: seed)
    var index = OrderedIndex<Int>()
    var model: [[UInt8]: Int] = [:]
    for step in 0..<6000 {
      let isAscending = step < 1500
      let key =
        isAscending
        ? [UInt8(step >> 8), UInt8(step & 255)]
        : random.bytes(Int.random(in: 1...3, using: &random)).map { $0 & 31 }
      if !isAscending && Int.random(in: 0..<3, using: &random) == 0 {
        #expect(index.remove(key) == model.removeValue(forKey: key), "seed \(seed), step \(step)")
      } else {
        #expect(index.set(key, to: step) == model.updateValue(step, forKey: key))
      }
      #expect(index.count == model.count)
    }
    let sorted = model.keys.sorted { $0.lexicographicallyPrecedes($1) }
    #expect(index.keys(after: nil, limit: .max) == sorted)
    for key in sorted { #expect(index[key] == model[key]) }
    for _ in 0..<200 {
      let key = random.bytes(2).map { $0 & 31 }
      let expected = sorted.filter { key.lexicographicallyPrecedes($0) }.prefix(5)
      #expect(index.keys(after: key, limit: 5) == Array(expected), "seed \(seed), key \(key)")
    }
    index.removeAll { $0 % 2 == 0 }
    #expect(index.keys(after: nil, limit: .max) == sorted.filter { model[$0]! % 2 == 1 })
  }
}

private let goldenManifest = bytes(
  hexadecimal: """
    53464d4d414e4946010000000000000001000000000000000001020304050607
    08090a0b0c0d0e0f00000000000000000000000000000000000000006dc11693
    """)

private let goldenSegment = bytes(
  hexadecimal: """
    53464d5345474d54010000000000000001000000000000000001020304050607
    08090a0b0c0d0e0f01000000000000000000000000000000000000008a889a8c
    53464d520101050001000000000000000d000000841fd5674000000057a62524
    616c7068616669727374207061796c6f616453464d5201030000020000000000
    0000000000000000000072000000f909acba53464d5201010100020000000000
    00000000000000000000720000009f74dccc6253464d52010300000300000000
    0000000000000000000000b3000000bd8a89c353464d52010205000300000000
    0000000000000000000000b3000000bca5fbad616c70686153464d5201030000
    04000000000000000000000000000000f80000002f1da27c
    """)
