import Base
import Crypto
import Foundation
import RPC
import SwiftASN1
import TestSupport
import Testing
import X509

@testable import KeyControl

@Suite struct AuthorityTests {
  private let identity: Identity
  private let authority: CertificateAuthority

  init() throws {
    identity = try #require(Identity(cluster: "test", role: .slave, node: "scs-1"))
    authority = try CertificateAuthority.make(cluster: "test", clock: SystemClock())
  }

  @Test func theAuthoritySignsLeavesOnly() throws {
    let certificate = try Certificate(derEncoded: authority.certificateDER)
    let extensions = certificate.extensions
    #expect(try extensions.basicConstraints == .isCertificateAuthority(maxPathLength: 0))
    #expect(try extensions.keyUsage == KeyUsage(keyCertSign: true, cRLSign: true))
    #expect(certificate.publicKey.isValidSignature(certificate.signature, for: certificate))
    let days = certificate.notValidAfter.timeIntervalSince(certificate.notValidBefore) / 86_400
    #expect((3650...3651).contains(days))
  }

  @Test func aLeafIsWhatItShouldBe() throws {
    let key = P256.Signing.PrivateKey()
    let clock = ManualClock()
    let leaf = try Certificate(
      derEncoded: authority.issue(identity, key.publicKey, days: 30, clock: clock))
    let now = Double(clock.wallMilliseconds() / 1000)
    #expect(leaf.notValidBefore.timeIntervalSince1970 == now - 300)
    #expect(leaf.notValidAfter.timeIntervalSince1970 == now + 30 * 86_400)
    #expect(try leaf.extensions.basicConstraints == .notCertificateAuthority)
    #expect(
      try leaf.extensions.extendedKeyUsage == ExtendedKeyUsage([.serverAuth, .clientAuth]))
    #expect(
      try leaf.extensions.subjectAlternativeNames
        == SubjectAlternativeNames([.uniformResourceIdentifier(identity.uri)]))
    let issuer = try Certificate(derEncoded: authority.certificateDER)
    #expect(issuer.publicKey.isValidSignature(leaf.signature, for: leaf))
    #expect(leaf.issuer == issuer.subject)
    #expect(
      try leaf.extensions.authorityKeyIdentifier?.keyIdentifier
        == issuer.extensions.subjectKeyIdentifier?.keyIdentifier)
    let other = try Certificate(derEncoded: authority.issue(identity, key.publicKey, days: 30))
    #expect(leaf.serialNumber != other.serialNumber)
  }

  @Test func noLeafOutlivesTheAuthority() throws {
    let key = P256.Signing.PrivateKey()
    let leaf = try Certificate(derEncoded: authority.issue(identity, key.publicKey, days: 9000))
    let issuer = try Certificate(derEncoded: authority.certificateDER)
    #expect(leaf.notValidAfter == issuer.notValidAfter)
  }

  @Test func requestsBeyondTheIdentityAreIgnored() throws {
    let key = P256.Signing.PrivateKey()
    let request = try CertificateAuthority.read(
      Requests.certificate([identity.uri], key: .init(key), asksForAuthority: true),
      allowing: identity)
    #expect(request.publicKey.rawRepresentation == key.publicKey.rawRepresentation)
    let leaf = try Certificate(
      derEncoded: authority.issue(request.identity, request.publicKey, days: 1))
    #expect(try leaf.extensions.basicConstraints == .notCertificateAuthority)
    #expect(leaf.subject == (try DistinguishedName { CommonName("scs-1") }))
  }

  @Test func badRequestsAreErrors() throws {
    func error(_ bytes: [UInt8]) -> CertificateRequestError? {
      do {
        _ = try CertificateAuthority.read(bytes, allowing: identity)
        return nil
      } catch {
        return error
      }
    }
    let good = try Requests.certificate([identity.uri])
    #expect(error(good) == nil)
    #expect(error([]) == .unreadable)
    #expect(error([UInt8](repeating: 0x30, count: 5000)) == .unreadable)
    #expect(error([UInt8](repeating: 0, count: 9000)) == .tooLarge(bytes: 9000))
    #expect(error(Array(good.dropLast())) == .unreadable)
    #expect(
      error(try Requests.certificate([identity.uri], key: .init(P384.Signing.PrivateKey())))
        == .wrongKeyType)
    #expect(
      error(try Requests.certificate([identity.uri], key: .init(Curve25519.Signing.PrivateKey())))
        == .wrongKeyType)
    #expect(error(try Requests.certificate([])) == .noIdentity)
    #expect(error(try Requests.certificate([identity.uri, identity.uri])) == .noIdentity)
    #expect(error(try Requests.certificate(["https://example.org"])) == .noIdentity)
    #expect(error(try Requests.certificate(["sfmedir://test/scs/scs-1/"])) == .noIdentity)
    let other = try #require(Identity(cluster: "test", role: .slave, node: "scs-2"))
    #expect(
      error(try Requests.certificate([other.uri]))
        == .wrongIdentity(wanted: identity, found: other))
  }

  /// What is signed cannot change. The signature's own encoding may: its count of unused bits can
  /// grow where its last bits happen to be zero, and says the same.
  @Test func everyFlippedBitOfARequestIsRefused() throws {
    let key = P256.Signing.PrivateKey()
    let good = try Requests.certificate([identity.uri], key: .init(key))
    // A BIT STRING with two 33-byte integers in a sequence.
    let longestSignatureBytes = 75
    for index in good.indices {
      for bit in 0..<8 {
        var changed = good
        changed[index] ^= 1 << bit
        guard let read = try? CertificateAuthority.read(changed, allowing: identity) else {
          continue
        }
        #expect(index >= good.count - longestSignatureBytes, "byte \(index), bit \(bit)")
        #expect(read.publicKey.rawRepresentation == key.publicKey.rawRepresentation)
      }
    }
  }

  @Test func aStoreWithAForeignCertificateIsRefused() throws {
    let other = try CertificateAuthority.make(cluster: "test", clock: SystemClock())
    #expect(
      throws: KeyStoreError.malformed(
        path: "f", reason: "the authority's certificate does not belong to its key")
    ) {
      try CertificateAuthority(
        cluster: "test", privateKey: authority.privateKey, certificateDER: other.certificateDER,
        path: "f")
    }
  }

  @Test func failuresComeBackWithTime() {
    let clock = ManualClock()
    let limiter = FailureLimiter(capacity: 3, perSecond: 0.5, clock: clock)
    for _ in 0..<3 {
      #expect(limiter.isOpen)
      limiter.recordFailure()
    }
    #expect(!limiter.isOpen)
    clock.advance(seconds: 1)
    #expect(!limiter.isOpen)
    clock.advance(seconds: 1)
    #expect(limiter.isOpen)
    limiter.recordFailure()
    #expect(!limiter.isOpen)
    clock.advance(seconds: 1_000_000)
    for _ in 0..<3 { limiter.recordFailure() }
    #expect(!limiter.isOpen)
  }
}
