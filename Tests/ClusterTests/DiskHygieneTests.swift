import Base
import Foundation
import Imaging
import Messages
import TestSupport
import Testing

@testable import KeyControl

/// The masters and slaves are curious: what they write to disk must not tell them anything.
@Suite(.timeLimit(.minutes(5))) struct DiskHygieneTests {
  @Test func nothingPlainReachesTheDisksOfMastersAndSlaves() async throws {
    try await TestCluster.run(slaves: 5) { cluster in
      let folder = try await cluster.phantoms(10, seed: 21)
      let ids = try await cluster.upload(folder)
      #expect(ids.count == 10)
      // A search leaves its traces too.
      let query = try #require(ids.keys.first)
      #expect(try await cluster.run(["query", query, "-k", "5"]).status == 0)
      // Everything is on disk, and nothing is written while it is read.
      try await cluster.down()
      try check(cluster, ids)
    }
  }

  private func check(_ cluster: TestCluster, _ ids: [String: String]) throws {
    let masters = try ["mcs-1", "mcs-2"].map { try Haystack(folder: cluster.state($0)) }
    let master = masters[0]
    let witness = try Haystack(folder: cluster.state("witness-1"))
    let slaves = try (1...5).map { try Haystack(folder: cluster.state("scs-\($0)")) }
    #expect(masters.allSatisfy { $0.byteCount > 10_000 } && witness.byteCount > 10_000)
    #expect(slaves.allSatisfy { $0.byteCount > 10_000 })
    let curious = masters + [witness] + slaves

    // The test can fail: what the master may hold is found, by the same search.
    let anyID = try #require(ids.values.first.flatMap { [UInt8](hex: $0) })
    #expect(master.contains(anyID))

    for path in ids.keys {
      let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
      let image = try ImageDecoder.decode(file).image
      for needle in Self.runs(of: file) + Self.runs(ofSamples: image) {
        for haystack in curious { #expect(!haystack.contains(needle), "a run of \(path)") }
      }
      let name = URL(fileURLWithPath: path).lastPathComponent
      for haystack in curious { #expect(!haystack.contains(Array(name.utf8))) }
    }
    for text in Self.dicomTexts(in: ids.keys.filter { $0.hasSuffix(".dcm") }) {
      for haystack in curious { #expect(!haystack.contains(text), "a DICOM attribute") }
    }
    try Self.checkKeys(cluster, curious)
    try Self.checkCodes(cluster, Array(ids.keys), curious)
  }

  /// Pieces of 24 bytes with enough variety not to be there by chance (a black border is).
  private static func runs(of bytes: [UInt8]) -> [[UInt8]] {
    stride(from: 0, to: bytes.count - 24, by: max(24, bytes.count / 40)).compactMap { start in
      let run = Array(bytes[start..<start + 24])
      return Set(run).count >= 12 ? run : nil
    }
  }

  /// Pixels as 8-bit and as little-endian 16-bit rows.
  private static func runs(ofSamples image: GrayImage) -> [[UInt8]] {
    let wide = image.samples.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
    let narrow = image.samples.map { UInt8(truncatingIfNeeded: $0 >> (image.bitsPerSample - 8)) }
    return runs(of: wide) + runs(of: narrow)
  }

  /// Text values of DICOM attributes: names, identifiers, UIDs.
  private static func dicomTexts(in paths: [String]) -> [[UInt8]] {
    var texts: Set<[UInt8]> = []
    for path in paths {
      guard let data = try? Data(contentsOf: URL(fileURLWithPath: path)) else { continue }
      var text: [UInt8] = []
      for byte in data.prefix(4096) {
        if byte == 0x2e || byte == 0x5e || (0x30...0x39).contains(byte)
          || (0x41...0x5a).contains(byte)
          || (0x61...0x7a).contains(byte)
        {
          text.append(byte)
        } else {
          if text.count >= 10 { texts.insert(text) }
          text = []
        }
      }
    }
    return Array(texts)
  }

  /// Keys of other roles: a master holds K_rEK in memory, nobody here holds any on disk.
  private static func checkKeys(
    _ cluster: TestCluster, _ curious: [Haystack]
  ) throws {
    let configuration = try KeyControlConfiguration(
      path: cluster.directory.path("dev/config/kce-1.toml"))
    let store = try configuration.openStore()
    var checked = 0
    for kind in [KeyKind.image, .index, .threshold] {
      for stored in store.keys(kind) {
        stored.key.withBytes { bytes in
          for haystack in curious {
            #expect(!haystack.contains(bytes))
            #expect(!haystack.contains(Array(bytes.hex.utf8)))
          }
        }
        checked += 1
      }
    }
    #expect(checked == 3)
    // No node keeps another node's private key.
    var privateKeys = 0
    for node in ["mo-1", "mu-1"] {
      let path = cluster.state(node) + "/identity/key.pem"
      let pem = try String(contentsOfFile: path, encoding: .utf8)
      privateKeys += 1
      let body = pem.split(separator: "\n").dropFirst().first.map { Array($0.utf8) } ?? []
      #expect(body.count > 20)
      for haystack in curious { #expect(!haystack.contains(body)) }
    }
    #expect(privateKeys == 2)
  }

  /// Two bytes are found anywhere by chance, so codes are looked for in the records themselves.
  private static func checkCodes(
    _ cluster: TestCluster, _ paths: [String], _ curious: [Haystack]
  ) throws {
    let configuration = try KeyControlConfiguration(
      path: cluster.directory.path("dev/config/kce-1.toml"))
    let store = try configuration.openStore()
    let plain = try PlainCodes(paths: paths, modelPath: TestCluster.modelPath)
    let newest = try #require(store.keys(.index).last)
    let (version, key) = (newest.version, newest.key)
    var encodings = 0
    for code in plain.codes {
      // The field as protobuf writes it: bits, then the code.
      var field: [UInt8] = [0x18, UInt8(plain.bits), 0x21]
      withUnsafeBytes(of: code.littleEndian) { field.append(contentsOf: $0) }
      var masked: [UInt8] = [0x18, UInt8(plain.bits), 0x21]
      let value = plain.mask(code, key: key, version: version)
      withUnsafeBytes(of: value.littleEndian) { masked.append(contentsOf: $0) }
      if masked != field, curious.contains(where: { $0.contains(masked) }) { encodings += 1 }
      guard !plain.codes.contains(where: { plain.mask($0, key: key, version: version) == code })
      else { continue }
      for haystack in curious { #expect(!haystack.contains(field), "a plain code") }
    }
    // The search would have seen them: the masked ones are there in that very form.
    #expect(encodings > 0)
  }
}

/// Every byte of every file under a folder.
struct Haystack {
  private let contents: [Data]

  init(folder: String) throws {
    var contents: [Data] = []
    let files = FileManager.default.enumerator(atPath: folder)
    while let name = files?.nextObject() as? String {
      var isFolder: ObjCBool = false
      let path = folder + "/" + name
      guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder),
        !isFolder.boolValue
      else { continue }
      contents.append(try Data(contentsOf: URL(fileURLWithPath: path)))
    }
    self.contents = contents
  }

  var byteCount: Int { contents.reduce(0) { $0 + $1.count } }

  func contains(_ needle: [UInt8]) -> Bool {
    precondition(!needle.isEmpty, "an empty needle is everywhere")
    let needle = Data(needle)
    return contents.contains { $0.range(of: needle) != nil }
  }
}
