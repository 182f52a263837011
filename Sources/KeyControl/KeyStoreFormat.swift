import Base
import Enrollment
import Messages
import RPC

/// A key with the day it was made.
struct StoredKey: Equatable, Sendable {
  var kind: KeyKind
  var version: UInt32
  var createdAtMilliseconds: UInt64
  var key: SecretBytes
}

/// Everything that the KCE must not lose, and nobody else may see.
struct KeyStoreContents: Equatable, Sendable {
  var cluster: String
  var createdAtMilliseconds: UInt64
  /// The authority's P-256 private key, 32 bytes.
  var authorityKey: SecretBytes
  /// DER.
  var authorityCertificate: [UInt8]
  /// By kind, then version; the versions of a kind are 1, 2, 3, ...
  var keys: [StoredKey]

  func newest(_ kind: KeyKind) -> UInt32 {
    keys.last { $0.kind == kind }?.version ?? 0
  }
}

/// The bytes of the sealed key store, "SFKS"; docs/formats/key-store.md has the table.
enum KeyStoreFormat {
  static let magic = Array("SFKS".utf8)
  static let version: UInt8 = 1
  static let sealKeyBytes = 32
  static let kinds: [KeyKind] = [.image, .threshold, .index]
  static let maximumFileBytes = 64 << 10
  private static let maximumCertificateBytes = 8 << 10
  private static let identifierBytes = 8
  private static let saltBytes = 16
  /// Magic, version, seal key's identifier, salt, nonce, length.
  static let headerBytes = 4 + 1 + identifierBytes + saltBytes + AES256GCM.nonceBytes + 4

  // MARK: the seal

  static func seal(
    _ contents: KeyStoreContents, sealKey: SecretBytes, entropy: some Entropy
  ) -> [UInt8] {
    var text = encode(contents)
    defer { zero(&text) }
    var bytes = magic + [version]
    bytes += identifier(of: sealKey)
    let salt = entropy.bytes(saltBytes)
    let nonce = entropy.bytes(AES256GCM.nonceBytes)
    bytes += salt + nonce
    bytes.append(bigEndian: UInt32(text.count))
    var key = key(sealKey, salt)
    defer { zero(&key) }
    return bytes + AES256GCM.seal(text, key: key, nonce: nonce, authenticating: bytes)
  }

  static func open(
    _ bytes: [UInt8], sealKey: SecretBytes, path: String
  ) throws(KeyStoreError) -> KeyStoreContents {
    guard bytes.count >= magic.count else { throw .truncated(path: path) }
    guard Array(bytes[..<4]) == magic else { throw .notAKeyStore(path: path) }
    guard bytes.count > 4 else { throw .truncated(path: path) }
    guard bytes[4] == version else { throw .unknownVersion(path: path, bytes[4]) }
    guard bytes.count >= headerBytes else { throw .truncated(path: path) }
    let saltStart = 5 + identifierBytes
    guard constantTimeEqual(Array(bytes[5..<saltStart]), identifier(of: sealKey)) else {
      throw .sealedKey(path: path)
    }
    let nonceStart = saltStart + saltBytes
    let lengthStart = nonceStart + AES256GCM.nonceBytes
    guard let length = UInt32(bigEndian: bytes, at: lengthStart) else {
      throw .truncated(path: path)
    }
    let sealedBytes = bytes.count - headerBytes
    guard Int(length) + AES256GCM.tagBytes <= sealedBytes else { throw .truncated(path: path) }
    guard Int(length) + AES256GCM.tagBytes == sealedBytes else { throw .altered(path: path) }
    var key = key(sealKey, Array(bytes[saltStart..<nonceStart]))
    defer { zero(&key) }
    var text: [UInt8]
    do {
      text = try AES256GCM.open(
        Array(bytes[headerBytes...]), key: key, nonce: Array(bytes[nonceStart..<lengthStart]),
        authenticating: Array(bytes[..<headerBytes]))
    } catch {
      throw .altered(path: path)
    }
    defer { zero(&text) }
    return try decode(text, path: path)
  }

  /// Tells a wrong seal key from an altered file, and nothing about the key.
  private static func identifier(of sealKey: SecretBytes) -> [UInt8] {
    sealKey.withBytes {
      HKDF.derive(
        salt: [], inputKeyMaterial: $0, info: "sfmedir key store 1 identifier",
        byteCount: identifierBytes)
    }
  }

  /// A key for this one writing of the file: even a repeated nonce would do no harm.
  private static func key(_ sealKey: SecretBytes, _ salt: [UInt8]) -> [UInt8] {
    sealKey.withBytes {
      HKDF.derive(
        salt: salt, inputKeyMaterial: $0, info: "sfmedir key store 1",
        byteCount: AES256GCM.keyBytes)
    }
  }

  // MARK: the content

  private static func encode(_ contents: KeyStoreContents) -> [UInt8] {
    var bytes: [UInt8] = []
    // No reallocation, which would leave copies of keys behind.
    bytes.reserveCapacity(
      128 + contents.authorityCertificate.count + 64 * (contents.keys.count + 1))
    bytes.append(UInt8(contents.cluster.utf8.count))
    bytes += contents.cluster.utf8
    bytes.append(bigEndian: contents.createdAtMilliseconds)
    contents.authorityKey.withBytes { bytes += $0 }
    bytes.append(bigEndian: UInt32(contents.authorityCertificate.count))
    bytes += contents.authorityCertificate
    bytes.append(bigEndian: UInt32(contents.keys.count))
    for key in contents.keys {
      bytes.append(UInt8(key.kind.rawValue))
      bytes.append(bigEndian: key.version)
      bytes.append(bigEndian: key.createdAtMilliseconds)
      key.key.withBytes { bytes += $0 }
    }
    return bytes
  }

  private static func decode(
    _ bytes: [UInt8], path: String
  ) throws(KeyStoreError) -> KeyStoreContents {
    var reader = KeyStoreReader(bytes: bytes, path: path)
    let nameBytes = Int(try reader.integer(UInt8.self))
    let cluster = String(decoding: try reader.take(nameBytes), as: UTF8.self)
    guard Identity.isName(cluster) else { throw reader.malformed("the cluster is no name") }
    let created = try reader.integer(UInt64.self)
    let authorityKey = try reader.secret(32)
    let certificateBytes = try reader.integer(UInt32.self)
    guard certificateBytes <= maximumCertificateBytes else {
      throw reader.malformed("a certificate of \(certificateBytes) bytes")
    }
    let certificate = try reader.take(Int(certificateBytes))
    let count = try reader.integer(UInt32.self)
    guard count <= kinds.count * KeyDelivery.maximumVersions else {
      throw reader.malformed("\(count) keys")
    }
    var contents = KeyStoreContents(
      cluster: cluster, createdAtMilliseconds: created, authorityKey: authorityKey,
      authorityCertificate: certificate, keys: [])
    for _ in 0..<count {
      let kind = KeyKind(rawValue: UInt32(try reader.integer(UInt8.self)))
      guard kinds.contains(kind) else { throw reader.malformed("key kind \(kind.rawValue)") }
      let version = try reader.integer(UInt32.self)
      guard version == contents.newest(kind) + 1 else {
        throw reader.malformed("version \(version) of key kind \(kind.rawValue) is out of order")
      }
      let created = try reader.integer(UInt64.self)
      let key = try reader.secret(KeyRing.keyBytes)
      contents.keys.append(
        StoredKey(kind: kind, version: version, createdAtMilliseconds: created, key: key))
    }
    guard reader.isAtEnd else { throw reader.malformed("bytes after the last key") }
    for kind in kinds where contents.newest(kind) == 0 {
      throw reader.malformed("no key of kind \(kind.rawValue)")
    }
    return contents
  }
}

/// Bytes in order, never past their end.
private struct KeyStoreReader {
  let bytes: [UInt8]
  let path: String
  private var offset = 0

  init(bytes: [UInt8], path: String) {
    self.bytes = bytes
    self.path = path
  }

  var isAtEnd: Bool { offset == bytes.count }

  func malformed(_ reason: String) -> KeyStoreError { .malformed(path: path, reason: reason) }

  mutating func take(_ count: Int) throws(KeyStoreError) -> [UInt8] {
    guard count <= bytes.count - offset else { throw malformed("it ends early") }
    defer { offset += count }
    return Array(bytes[offset..<offset + count])
  }

  mutating func secret(_ count: Int) throws(KeyStoreError) -> SecretBytes {
    var bytes = try take(count)
    defer { zero(&bytes) }
    return SecretBytes(bytes)
  }

  mutating func integer<Integer: FixedWidthInteger>(
    _: Integer.Type
  ) throws(KeyStoreError) -> Integer {
    let start = offset
    _ = try take(Integer.bitWidth / 8)
    guard let value = Integer(bigEndian: bytes, at: start) else { throw malformed("it ends early") }
    return value
  }
}
