import Base
import Messages
import RPC
import TestSupport
import Testing

@testable import Enrollment

@Suite struct KeyDeliveryTests {
  private let user: Identity
  private let key = SecretBytes([UInt8](100..<132))

  init() throws { user = try #require(Identity(cluster: "test", role: .imageUser, node: "mu-1")) }

  private func seal(_ recipient: KeyDelivery.Recipient) throws -> SealedKey {
    try KeyDelivery.seal(
      kind: .image, version: 3, key: key, to: recipient.publicKey, identity: user)
  }

  @Test func theRecipientOpensIt() throws {
    let recipient = try KeyDelivery.Recipient()
    let sealed = try seal(recipient)
    #expect(sealed.encapsulatedKey.count == 1120)
    #expect(sealed.sealed.count == 48)
    #expect(try recipient.open(sealed, identity: user) == key)
  }

  @Test func nobodyElseDoes() throws {
    let recipient = try KeyDelivery.Recipient()
    let sealed = try seal(recipient)
    #expect(throws: EnrollmentError.self) {
      try KeyDelivery.Recipient().open(sealed, identity: user)
    }
    let others = [
      ("test", Role.imageUser, "mu-2"), ("test", .imageOwner, "mu-1"), ("tess", .imageUser, "mu-1"),
    ]
    for (cluster, role, node) in others {
      let other = try #require(Identity(cluster: cluster, role: role, node: node))
      #expect(throws: EnrollmentError.self, "\(other)") {
        try recipient.open(sealed, identity: other)
      }
    }
  }

  @Test func kindVersionAndEveryByteAreBound() throws {
    let recipient = try KeyDelivery.Recipient()
    let sealed = try seal(recipient)
    var changed = sealed
    changed.version = 4
    #expect(throws: EnrollmentError.self) { try recipient.open(changed, identity: user) }
    changed = sealed
    changed.kind = .index
    #expect(throws: EnrollmentError.self) { try recipient.open(changed, identity: user) }
    for index in sealed.sealed.indices {
      changed = sealed
      changed.sealed[index] ^= 1
      #expect(throws: EnrollmentError.self) { try recipient.open(changed, identity: user) }
    }
    for index in stride(from: 0, to: sealed.encapsulatedKey.count, by: 97) {
      changed = sealed
      changed.encapsulatedKey[index] ^= 1
      #expect(throws: EnrollmentError.self) { try recipient.open(changed, identity: user) }
    }
    changed = sealed
    changed.sealed.removeLast()
    #expect(throws: EnrollmentError.keyDelivery("kind 1, version 3 has the wrong size")) {
      try recipient.open(changed, identity: user)
    }
  }

  @Test func aHostileRecipientKeyIsAnError() throws {
    for bytes in [[], [UInt8](repeating: 255, count: 1216), [UInt8](repeating: 1, count: 1215)] {
      #expect(throws: EnrollmentError.self, "\(bytes.count)") {
        try KeyDelivery.seal(kind: .image, version: 1, key: key, to: bytes, identity: user)
      }
    }
  }

  @Test func answersAreChecked() throws {
    let recipient = try KeyDelivery.Recipient()
    func sealed(_ kind: KeyKind, _ version: UInt32, _ fill: UInt8) throws -> SealedKey {
      try KeyDelivery.seal(
        kind: kind, version: version, key: SecretBytes([UInt8](repeating: fill, count: 32)),
        to: recipient.publicKey, identity: user)
    }
    var reply = FetchKeysReply()
    reply.keys = try [sealed(.image, 1, 1), sealed(.index, 1, 2), sealed(.image, 2, 3)]
    let ring = try KeyDelivery.open(reply, recipient, user)
    #expect(ring.versions(.image) == [1, 2])
    #expect(ring.current(.image)?.version == 2)
    #expect(ring.current(.image)?.key == SecretBytes([UInt8](repeating: 3, count: 32)))
    #expect(ring.key(.image, version: 1) == SecretBytes([UInt8](repeating: 1, count: 32)))
    #expect(ring.key(.image, version: 3) == nil)
    #expect(ring.current(.threshold) == nil)

    var wrong = reply
    wrong.keys.append(try sealed(.threshold, 1, 4))
    #expect(throws: EnrollmentError.keyDelivery("kind 2 is not for role mu")) {
      try KeyDelivery.open(wrong, recipient, user)
    }
    wrong = reply
    wrong.keys.append(reply.keys[0])
    #expect(throws: EnrollmentError.keyDelivery("kind 1, version 1 comes twice")) {
      try KeyDelivery.open(wrong, recipient, user)
    }
    wrong.keys = [reply.keys[0]]
    #expect(throws: EnrollmentError.keyDelivery("no key of kind 3 came")) {
      try KeyDelivery.open(wrong, recipient, user)
    }
  }

  @Test func everyRoleGetsItsOwnOnly() {
    #expect(KeyDelivery.kinds(of: .imageOwner) == [.image, .index])
    #expect(KeyDelivery.kinds(of: .imageUser) == [.image, .index])
    #expect(KeyDelivery.kinds(of: .master) == [.threshold])
    for role in [Role.slave, .keyControl, .operatorTool] {
      #expect(KeyDelivery.kinds(of: role).isEmpty)
    }
  }

  /// docs/formats/key-delivery.md: made once, must open for ever.
  @Test func goldenBytesOpen() throws {
    let recipient = try KeyDelivery.Recipient(seed: [UInt8](0..<32))
    #expect(sha256(recipient.publicKey).hex == Golden.publicKeyDigest)
    var sealed = SealedKey()
    sealed.kind = .image
    sealed.version = 3
    sealed.encapsulatedKey = try #require([UInt8](hex: Golden.encapsulatedKey))
    sealed.sealed = try #require([UInt8](hex: Golden.sealed))
    #expect(try recipient.open(sealed, identity: user) == key)
  }
}
