import Base
import Enrollment
import Glibc
import Messages

/// A key's place and date; never its value.
public struct KeySummaryEntry: Equatable, Sendable {
  public let kind: KeyKind
  public let version: UInt32
  public let createdAtMilliseconds: UInt64
  public let isCurrent: Bool
}

/// The KCE's keys, in memory and sealed in a file; every change is durable before it is seen.
public final class KeyStore: Sendable {
  public let path: String
  private let sealKey: SecretBytes
  private let contents: Locked<KeyStoreContents>
  /// Whether a change is being written: one at a time, while readers go on.
  private let writing = Locked(false)

  init(path: String, sealKey: SecretBytes, contents: KeyStoreContents) {
    self.path = path
    self.sealKey = sealKey
    self.contents = Locked(contents)
  }

  // MARK: the seal key

  /// Makes a fresh seal key; a file that exists is an error.
  public static func makeSealKey(
    at path: String, entropy: some Entropy = SystemEntropy()
  ) throws(KeyStoreError) {
    let key = SecretBytes(randomCount: KeyStoreFormat.sealKeyBytes, entropy: entropy)
    do {
      try key.withBytes { (bytes) throws(FileError) in
        try PrivateFile.write(bytes, to: path, replacing: false)
      }
    } catch {
      throw .file(error)
    }
  }

  public static func readSealKey(_ path: String) throws(KeyStoreError) -> SecretBytes {
    var bytes: [UInt8]
    do {
      bytes = try PrivateFile.read(path, maximumBytes: KeyStoreFormat.sealKeyBytes)
    } catch .tooLarge {
      throw .malformedSealKey(path: path, count: KeyStoreFormat.sealKeyBytes + 1)
    } catch {
      throw .file(error)
    }
    defer { zero(&bytes) }
    guard bytes.count == KeyStoreFormat.sealKeyBytes else {
      throw .malformedSealKey(path: path, count: bytes.count)
    }
    return SecretBytes(bytes)
  }

  // MARK: opening

  /// Makes an authority and the first version of every key; a store that exists is an error.
  public static func create(
    at path: String, cluster: String, sealKey: SecretBytes, clock: any Clock = SystemClock(),
    entropy: some Entropy = SystemEntropy()
  ) throws -> KeyStore {
    let now = clock.wallMilliseconds()
    let authority = try CertificateAuthority.make(cluster: cluster, clock: clock)
    let keys = KeyStoreFormat.kinds.map {
      StoredKey(
        kind: $0, version: 1, createdAtMilliseconds: now,
        key: SecretBytes(randomCount: KeyRing.keyBytes, entropy: entropy))
    }
    let contents = KeyStoreContents(
      cluster: cluster, createdAtMilliseconds: now, authorityKey: authority.privateKey,
      authorityCertificate: authority.certificateDER, keys: keys)
    let sealed = KeyStoreFormat.seal(contents, sealKey: sealKey, entropy: entropy)
    do {
      try PrivateFile.write(sealed, to: path, replacing: false)
    } catch {
      throw KeyStoreError.file(error)
    }
    return KeyStore(path: path, sealKey: sealKey, contents: contents)
  }

  public static func open(
    _ path: String, sealKey: SecretBytes
  ) throws(KeyStoreError) -> KeyStore {
    let bytes: [UInt8]
    do {
      bytes = try PrivateFile.read(path, maximumBytes: KeyStoreFormat.maximumFileBytes)
    } catch {
      throw .file(error)
    }
    let contents = try KeyStoreFormat.open(bytes, sealKey: sealKey, path: path)
    return KeyStore(path: path, sealKey: sealKey, contents: contents)
  }

  // MARK: use

  public var cluster: String { contents.withLock { $0.cluster } }

  public func authority() throws -> CertificateAuthority {
    let (key, certificate) = contents.withLock { ($0.authorityKey, $0.authorityCertificate) }
    return try CertificateAuthority(
      cluster: cluster, privateKey: key, certificateDER: certificate, path: path)
  }

  /// All versions of one kind, oldest first.
  func keys(_ kind: KeyKind) -> [StoredKey] {
    contents.withLock { $0.keys.filter { $0.kind == kind } }
  }

  public var summary: [KeySummaryEntry] {
    contents.withLock { contents in
      contents.keys.map {
        KeySummaryEntry(
          kind: $0.kind, version: $0.version, createdAtMilliseconds: $0.createdAtMilliseconds,
          isCurrent: $0.version == contents.newest($0.kind))
      }
    }
  }

  /// Adds a version of a key, and returns its number once it is durable. Blocks on the disk.
  public func rotate(
    _ kind: KeyKind, clock: any Clock = SystemClock(), entropy: some Entropy = SystemEntropy()
  ) throws(KeyStoreError) -> UInt32 {
    precondition(KeyStoreFormat.kinds.contains(kind), "no key has kind \(kind.rawValue)")
    guard
      writing.withLock({ isWriting in
        defer { isWriting = true }
        return !isWriting
      })
    else { throw .busy }
    defer { writing.withLock { $0 = false } }
    var changed = contents.withLock { $0 }
    let version = changed.newest(kind) + 1
    guard version <= KeyDelivery.maximumVersions else {
      throw .tooManyVersions(maximum: KeyDelivery.maximumVersions)
    }
    let key = StoredKey(
      kind: kind, version: version, createdAtMilliseconds: clock.wallMilliseconds(),
      key: SecretBytes(randomCount: KeyRing.keyBytes, entropy: entropy))
    // Right after the last of its kind: the store is ordered by kind, then version.
    let place = changed.keys.lastIndex { $0.kind == kind }.map { $0 + 1 } ?? changed.keys.count
    changed.keys.insert(key, at: place)
    do {
      try PrivateFile.write(
        KeyStoreFormat.seal(changed, sealKey: sealKey, entropy: entropy), to: path,
        keepingPrevious: "\(path).previous")
    } catch {
      throw .file(error)
    }
    contents.withLock { [changed] in $0 = changed }
    return version
  }
}
