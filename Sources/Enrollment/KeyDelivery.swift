import Base
import Crypto
import FoundationEssentials
import Logging
import Messages
import RPC

/// Keys on their way from the KCE to a node: inside mutual TLS and, beneath it, sealed to a key that
/// the node made for this one delivery.
///
/// HPKE (RFC 9180) with the hybrid X-Wing: a recording made today does not open when a quantum
/// computer exists. The byte layout stands in docs/formats/key-delivery.md.
public enum KeyDelivery {
  public static let recipientKeyBytes = 1216
  public static let encapsulatedKeyBytes = 1120
  /// A 32-byte key and the 16-byte tag.
  public static let sealedBytes = KeyRing.keyBytes + 16
  /// Versions of one kind that one delivery carries: the answer has to fit one message.
  public static let maximumVersions = 256
  private static let suite = HPKE.Ciphersuite.XWingMLKEM768X25519_SHA256_AES_GCM_256

  /// What each kind of key goes to: nothing else is ever delivered to a role.
  public static func kinds(of role: Role) -> [KeyKind] {
    switch role {
    case .imageOwner, .imageUser: [.image, .index]
    case .master: [.threshold]
    case .keyControl, .witness, .slave, .operatorTool: []
    }
  }

  /// The text that binds a sealed key to its receiver and meaning.
  static func info(_ identity: Identity, _ kind: KeyKind, _ version: UInt32) -> Data {
    Data("sfmedir-key-delivery-1\n\(identity.uri)\n\(kind.rawValue)\n\(version)".utf8)
  }

  /// Seals one key to the holder of `recipientKey`, who must be `identity`.
  public static func seal(
    kind: KeyKind, version: UInt32, key: SecretBytes, to recipientKey: [UInt8],
    identity: Identity
  ) throws(EnrollmentError) -> SealedKey {
    precondition(key.count == KeyRing.keyBytes, "a key has 32 bytes, not \(key.count)")
    guard recipientKey.count == recipientKeyBytes else {
      throw .keyDelivery(
        "a recipient key has \(recipientKeyBytes) bytes, not \(recipientKey.count)")
    }
    do {
      let recipient = try XWingMLKEM768X25519.PublicKey(rawRepresentation: Data(recipientKey))
      var sender = try HPKE.Sender(
        recipientKey: recipient, ciphersuite: suite, info: info(identity, kind, version))
      var sealed = SealedKey()
      sealed.kind = kind
      sealed.version = version
      sealed.sealed = [UInt8](try key.withBytes { try sender.seal($0) })
      sealed.encapsulatedKey = [UInt8](sender.encapsulatedKey)
      return sealed
    } catch {
      throw .keyDelivery("the recipient key is not an X-Wing public key")
    }
  }

  /// One delivery's key pair; used for one request and dropped.
  public struct Recipient: Sendable {
    private let privateKey: XWingMLKEM768X25519.PrivateKey

    public init() throws(EnrollmentError) {
      do {
        privateKey = try XWingMLKEM768X25519.PrivateKey.generate()
      } catch {
        throw .keyDelivery("no X-Wing key pair can be made on this machine")
      }
    }

    /// A fixed pair, for golden bytes.
    init(seed: [UInt8]) throws {
      privateKey = try XWingMLKEM768X25519.PrivateKey(seedRepresentation: seed, publicKey: nil)
    }

    public var publicKey: [UInt8] { [UInt8](privateKey.publicKey.rawRepresentation) }

    /// The inverse of ``KeyDelivery/seal(kind:version:key:to:identity:)``.
    public func open(_ sealed: SealedKey, identity: Identity) throws(EnrollmentError) -> SecretBytes
    {
      let label = "kind \(sealed.kind.rawValue), version \(sealed.version)"
      guard sealed.encapsulatedKey.count == encapsulatedKeyBytes,
        sealed.sealed.count == sealedBytes
      else { throw .keyDelivery("\(label) has the wrong size") }
      var opened: Data
      do {
        var recipient = try HPKE.Recipient(
          privateKey: privateKey, ciphersuite: suite,
          info: info(identity, sealed.kind, sealed.version),
          encapsulatedKey: Data(sealed.encapsulatedKey))
        opened = try recipient.open(sealed.sealed)
      } catch {
        throw .keyDelivery("\(label) was altered or sealed to somebody else")
      }
      defer { opened.resetBytes(in: 0..<opened.count) }
      guard opened.count == KeyRing.keyBytes else {
        throw .keyDelivery("\(label) has \(opened.count) bytes")
      }
      var key = [UInt8](opened)
      defer { zero(&key) }
      return SecretBytes(key)
    }
  }

  /// Asks the KCE for the keys of `identity`'s role, all versions.
  public static func fetch(
    channel: Channel, identity: Identity, timeout: Duration
  ) async throws(EnrollmentError) -> KeyRing {
    let recipient = try Recipient()
    var request = FetchKeysRequest()
    request.recipientKey = recipient.publicKey
    var options = CallOptions(timeout: timeout)
    options.waitsForReady = true
    let reply: FetchKeysReply
    do {
      reply = try await channel.unary(KeyControlMethods.fetchKeys, request, options)
    } catch {
      throw .refused(operation: "deliver the keys", error)
    }
    return try open(reply, recipient, identity)
  }

  /// Like ``fetch(channel:identity:timeout:)``, and asks again for as long as the KCE cannot be
  /// reached, saying so in the log; ends with any other refusal, or when the task is cancelled.
  public static func fetchWhenReachable(
    channel: Channel, identity: Identity, logger: Logger
  ) async throws -> KeyRing {
    while true {
      do {
        return try await fetch(channel: channel, identity: identity, timeout: .seconds(10))
      } catch {
        let code = error.rpcError.code
        guard code == .unavailable || code == .deadlineExceeded || code == .resourceExhausted
        else { throw error }
        logger.warning(
          "waiting for the key control entity: no keys yet",
          metadata: ["address": "\(channel.address)", "reason": "\(error)"])
        try await Task.sleep(for: .seconds(1))
      }
    }
  }

  static func open(
    _ reply: FetchKeysReply, _ recipient: Recipient, _ identity: Identity
  ) throws(EnrollmentError) -> KeyRing {
    let kinds = kinds(of: identity.role)
    guard reply.keys.count <= kinds.count * maximumVersions else {
      throw .keyDelivery("\(reply.keys.count) keys at once")
    }
    var seen: Set<[UInt32]> = []
    var keys: [(kind: KeyKind, version: UInt32, key: SecretBytes)] = []
    for sealed in reply.keys {
      guard kinds.contains(sealed.kind) else {
        throw .keyDelivery("kind \(sealed.kind.rawValue) is not for role \(identity.role)")
      }
      guard sealed.version > 0, seen.insert([sealed.kind.rawValue, sealed.version]).inserted else {
        throw .keyDelivery("kind \(sealed.kind.rawValue), version \(sealed.version) comes twice")
      }
      keys.append((sealed.kind, sealed.version, try recipient.open(sealed, identity: identity)))
    }
    for kind in kinds where !keys.contains(where: { $0.kind == kind }) {
      throw .keyDelivery("no key of kind \(kind.rawValue) came")
    }
    return KeyRing(keys: keys)
  }
}
