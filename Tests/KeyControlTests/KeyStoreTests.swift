import Base
import DaemonSupport
import Enrollment
import Foundation
import Messages
import TestSupport
import Testing

@testable import KeyControl

/// Gives the salt and the nonce of the golden file.
private struct GoldenEntropy: Entropy {
  func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    let first: UInt8 = buffer.count == 16 ? 100 : 200
    for index in 0..<buffer.count { buffer[index] = first + UInt8(index) }
  }
}

@Suite struct KeyStoreTests {
  private let sealKey = SecretBytes([UInt8](0..<32))

  private func golden() throws -> [UInt8] {
    let url = try #require(
      Bundle.module.url(forResource: "Resources/key-store-1", withExtension: "bin"))
    return [UInt8](try Data(contentsOf: url))
  }

  private func goldenContents() -> KeyStoreContents {
    func key(_ kind: KeyKind, _ version: UInt32, _ fill: UInt8) -> StoredKey {
      StoredKey(
        kind: kind, version: version, createdAtMilliseconds: 1_700_000_000_000 + UInt64(version),
        key: SecretBytes([UInt8](repeating: fill, count: 32)))
    }
    return KeyStoreContents(
      cluster: "golden", createdAtMilliseconds: 1_700_000_000_000,
      authorityKey: SecretBytes([UInt8](64..<96)),
      authorityCertificate: Array("certificate in DER".utf8),
      keys: [
        key(.image, 1, 0xA1), key(.image, 2, 0xA2), key(.threshold, 1, 0xB1), key(.index, 1, 0xC1),
      ])
  }

  /// The file was written by make_key_store.py from the format's page.
  @Test func anIndependentProgramsFileOpensAndIsWrittenAlike() throws {
    let bytes = try golden()
    #expect(try KeyStoreFormat.open(bytes, sealKey: sealKey, path: "f") == goldenContents())
    let written = KeyStoreFormat.seal(goldenContents(), sealKey: sealKey, entropy: GoldenEntropy())
    #expect(written == bytes)
  }

  @Test func everyFlippedBitIsFound() throws {
    let bytes = try golden()
    for index in bytes.indices {
      for bit in 0..<8 {
        var changed = bytes
        changed[index] ^= 1 << bit
        #expect(throws: KeyStoreError.self, "byte \(index), bit \(bit)") {
          try KeyStoreFormat.open(changed, sealKey: sealKey, path: "f")
        }
      }
    }
  }

  @Test func errorsTellWhatIsWrong() throws {
    let bytes = try golden()
    func expect(_ changed: [UInt8], _ error: KeyStoreError, _ key: SecretBytes? = nil) {
      #expect(throws: error) {
        try KeyStoreFormat.open(changed, sealKey: key ?? sealKey, path: "f")
      }
    }
    for count in 0..<bytes.count { expect(Array(bytes[..<count]), .truncated(path: "f")) }
    expect(bytes + [0], .altered(path: "f"))
    expect([0] + bytes, .notAKeyStore(path: "f"))
    var changed = bytes
    changed[4] = 2
    expect(changed, .unknownVersion(path: "f", 2))
    changed = bytes
    changed[60] ^= 1
    expect(changed, .altered(path: "f"))
    var wrong = [UInt8](0..<32)
    wrong[31] ^= 1
    expect(bytes, .sealedKey(path: "f"), SecretBytes(wrong))
    #expect(
      KeyStoreError.sealedKey(path: "f").description
        == "the seal key does not open the key store f")
  }

  /// A seal that fits does not make its content sound.
  @Test func nonsenseUnderAGoodSealIsAnError() throws {
    func reason(_ change: (inout KeyStoreContents) -> Void) -> String? {
      var contents = goldenContents()
      change(&contents)
      let bytes = KeyStoreFormat.seal(contents, sealKey: sealKey, entropy: SystemEntropy())
      do {
        _ = try KeyStoreFormat.open(bytes, sealKey: sealKey, path: "f")
        return nil
      } catch {
        guard case .malformed("f", let reason) = error else { return "\(error)" }
        return reason
      }
    }
    #expect(reason { _ in } == nil)
    #expect(reason { $0.cluster = "Not A Name" } == "the cluster is no name")
    #expect(reason { $0.keys.remove(at: 0) } == "version 2 of key kind 1 is out of order")
    #expect(reason { $0.keys[1].version = 1 } == "version 1 of key kind 1 is out of order")
    #expect(reason { $0.keys[3].kind = KeyKind(rawValue: 9) } == "key kind 9")
    #expect(reason { $0.keys.removeLast() } == "no key of kind 3")
    #expect(
      reason { $0.authorityCertificate = [UInt8](repeating: 0, count: 9000) }
        == "a certificate of 9000 bytes")
    #expect(reason { $0.authorityKey = SecretBytes([1, 2, 3]) } != nil)
  }

  @Test func everyWritingIsFresh() throws {
    let first = KeyStoreFormat.seal(goldenContents(), sealKey: sealKey, entropy: SystemEntropy())
    let second = KeyStoreFormat.seal(goldenContents(), sealKey: sealKey, entropy: SystemEntropy())
    // Salt, nonce and everything sealed differ.
    #expect(first[13..<29] != second[13..<29])
    #expect(first[29..<41] != second[29..<41])
    #expect(first[45...] != second[45...])
  }

  @Test func noKeyLiesOpenInTheFile() throws {
    let folder = try TemporaryDirectory()
    let path = folder.path("key-store")
    let store = try KeyStore.create(at: path, cluster: "test", sealKey: sealKey)
    _ = try store.rotate(.image)
    let secrets =
      KeyStoreFormat.kinds.flatMap { store.keys($0).map(\.key) }
      + [try store.authority().privateKey, sealKey]
    #expect(secrets.count == 6)
    for name in ["key-store", "key-store.previous"] {
      let bytes = Data(try folder.read(name))
      for secret in secrets {
        // Any eight bytes of a key in a row would be a leak.
        secret.withBytes { key in
          for start in 0...key.count - 8 {
            #expect(bytes.range(of: Data(key[start..<start + 8])) == nil)
          }
        }
      }
    }
  }

  @Test func concurrentRotationsNeverLoseAVersion() async throws {
    let folder = try TemporaryDirectory()
    let path = folder.path("key-store")
    let store = try KeyStore.create(at: path, cluster: "test", sealKey: sealKey)
    let made = await withTaskGroup(of: UInt32?.self) { group in
      for _ in 0..<20 { group.addTask { try? store.rotate(.index) } }
      return await group.reduce(into: [UInt32]()) { if let version = $1 { $0.append(version) } }
    }
    #expect(!made.isEmpty)
    #expect(made.sorted() == Array(2..<UInt32(2 + made.count)))
    let reopened = try KeyStore.open(path, sealKey: sealKey)
    #expect(reopened.keys(.index) == store.keys(.index))
    #expect(reopened.keys(.index).count == made.count + 1)
  }

  @Test func aRotationThatCannotBeWrittenIsNotSeen() throws {
    let folder = try TemporaryDirectory()
    try PrivateFile.makeDirectory(folder.path("state"))
    let path = folder.path("state/key-store")
    let store = try KeyStore.create(at: path, cluster: "test", sealKey: sealKey)
    try FileManager.default.moveItem(atPath: folder.path("state"), toPath: folder.path("gone"))
    #expect(throws: KeyStoreError.self) { try store.rotate(.image) }
    #expect(store.summary.filter { $0.kind == .image }.count == 1)
    try FileManager.default.moveItem(atPath: folder.path("gone"), toPath: folder.path("state"))
    #expect(try store.rotate(.image) == 2)
  }

  @Test func initializingNeverOverwrites() throws {
    let folder = try TemporaryDirectory()
    let configuration = Fixture.configuration(folder)
    try configuration.initialize()
    let before = try folder.read("state/key-store")
    #expect(throws: KeyStoreError.file(.exists(path: folder.path("state/key-store")))) {
      try configuration.initialize()
    }
    #expect(try folder.read("state/key-store") == before)
    #expect(try folder.read("seal.key").count == 32)
    // A lost store with its seal key still there: the key is kept.
    let sealKey = try folder.read("seal.key")
    unlink(folder.path("state/key-store"))
    try configuration.initialize()
    #expect(try folder.read("seal.key") == sealKey)
    #expect(try folder.read("state/key-store") != before)
  }

  @Test func theSealKeyFileIsChecked() throws {
    let folder = try TemporaryDirectory()
    let path = folder.path("seal.key")
    #expect(throws: KeyStoreError.file(.missing(path: path))) { try KeyStore.readSealKey(path) }
    try folder.write("seal.key", [UInt8](repeating: 1, count: 31))
    #expect(throws: KeyStoreError.malformedSealKey(path: path, count: 31)) {
      try KeyStore.readSealKey(path)
    }
    try folder.write("seal.key", [UInt8](repeating: 1, count: 33))
    #expect(throws: KeyStoreError.self) { try KeyStore.readSealKey(path) }
    try folder.write("seal.key", [UInt8](repeating: 1, count: 32), mode: 0o644)
    #expect(throws: KeyStoreError.file(.exposed(path: path))) { try KeyStore.readSealKey(path) }
  }

  @Test func twoDaemonsDoNotShareAState() async throws {
    let fixture = try await Fixture()
    await #expect(throws: KeyStoreError.inUse(path: fixture.folder.path("state"))) {
      try await KeyControlDaemon.start(
        fixture.configuration, group: fixture.group, logger: fixture.log.logger)
    }
    await fixture.stop()
    let again = try await KeyControlDaemon.start(
      fixture.configuration, group: fixture.group, logger: fixture.log.logger)
    await again.shutdown(graceMilliseconds: 0)
  }

  @Test func theStoreBelongsToItsCluster() throws {
    let folder = try TemporaryDirectory()
    var configuration = Fixture.configuration(folder)
    try configuration.initialize()
    configuration.common.cluster = "clinic"
    let path = configuration.storePath
    #expect(
      throws: KeyStoreError.wrongCluster(path: path, wanted: "clinic", found: Fixture.cluster)
    ) { try configuration.openStore() }
  }

  @Test func theShippedConfigurationLoads() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    let path = root.appendingPathComponent("cluster/config/kce.toml").path
    let configuration = try KeyControlConfiguration(path: path)
    #expect(configuration.common.cluster == "hospital")
    #expect(configuration.certificateDays == 365)
  }
}
