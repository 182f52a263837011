import Base
import ImageCipher
import Testing

struct ContainerTests {
  /// Written by an independent Python program: 130 bytes (7 i + 1) mod 256 as a picture of 13 x 10,
  /// key 00 01 ..., random bytes A0 A1 ...
  static let golden =
    "514d5331010101080000000d0000000a0000000000000082280f7577eb18a539077d76c3a2979f75"
    + "70113df2e64b5926c76022ce44266d0391ee8c0df43958a7674bb6c461e04137412880b4ab6252cb"
    + "7187ad836f71ab44027ecbb0c0dc0bc0cebed2d913698b90676c16a2d9297aa5e764937152d43c67"
    + "6896ef821fcd2bf6109774b4bee38547e5efeac34151da0019fb45bb1844b9139db9f3bc40df7267"
    + "7105158be31aa6fa4fce55dcfd697a5fa79a3c346176ffdb664926fc346a8bf9ae5199114bfad0c0"
    + "40f7f4f9014a29656587b2244276a6e1d0672d6ff1e8d79305e7596198ed6f7ba9ec505ce045b242"
    + "2ef601a6b872da1b394621cda3bad349"
  /// The same key and random bytes over nothing at all, no description.
  static let goldenEmpty =
    "514d53310101000000000000000000000000000000000000bf6d70fad0eba620cf4bc0c7564829f2"
    + "8206470193043f38782a00d848b1edf7668fdf9979bc1bd8"

  @Test func containerAsPublished() throws {
    let container = QMS1.encrypt(
      plaintext: Vector.everyByte, key: Vector.key, width: 16, height: 16, channels: 1,
      bitsPerSample: 8, nonce: Vector.nonce)
    #expect(container.count == 320)
    #expect(Array(container.suffix(16)).hex == "3150e2ced5bd871065b981f98cd5d3f3")
    #expect(
      sha256(container).hex == "6d2546095eb78f33e1653f1cb2485933adf3b0f98337538827bac04231e4664e")
    #expect(try QMS1.decrypt(container, key: Vector.key) == Vector.everyByte)
  }

  @Test func hedgedNonceAsPublished() {
    let nonce = QMS1.hedgedNonce(
      key: Vector.key, random: [UInt8](repeating: 0, count: 32), header: [],
      plaintext: Vector.everyByte)
    #expect(nonce.hex == "e8cb769c5cf1598d3f0f4f12d8f9916c74e9b1d4ff177c18")
  }

  @Test func goldenContainersAreWrittenAndRead() throws {
    let plaintext = (0..<130).map { UInt8(truncatingIfNeeded: $0 * 7 + 1) }
    let entropy = FixedEntropy(source: Vector.random)
    let written = QMS1.encrypt(
      plaintext: plaintext, key: Vector.key, width: 13, height: 10, channels: 1,
      bitsPerSample: 8, entropy: entropy)
    #expect(written.hex == Self.golden)
    #expect(try QMS1.decrypt(#require([UInt8](hex: Self.golden)), key: Vector.key) == plaintext)
    let header = try QMS1.Header(of: written)
    #expect(header.width == 13)
    #expect(header.height == 10)
    #expect(header.channels == 1)
    #expect(header.bitsPerSample == 8)
    #expect(header.plaintextBytes == 130)
    #expect(header.nonce == Array(written[24..<48]))
    let empty = QMS1.encrypt(
      plaintext: [], key: Vector.key, width: 0, height: 0, channels: 0, bitsPerSample: 0,
      entropy: entropy)
    #expect(empty.hex == Self.goldenEmpty)
    #expect(try QMS1.decrypt(empty, key: Vector.key) == [])
  }

  @Test(arguments: [0, 1, 63, 64, 65, 65_535, 65_536, 65_537, 1 << 20])
  func roundTrip(count: Int) throws {
    let plaintext = Vector.parabola(count)
    let container = encrypt(plaintext, entropy: SystemEntropy(), cores: 2)
    #expect(container.count == QMS1.containerBytes(plaintextBytes: count))
    #expect(container.count == 48 + (count + 63) / 64 * 64 + 16)
    #expect(try sha256(QMS1.decrypt(container, key: Vector.key)) == sha256(plaintext))
  }

  @Test func roundTripOfRandomFiles() throws {
    let seed = UInt64.random(in: 0 ... .max)
    let entropy = SeededEntropy(seed: seed)
    for _ in 0..<150 {
      let plaintext = entropy.bytes(entropy.below(entropy.below(8) == 0 ? 200_000 : 2_000))
      let key = SecretBytes(randomCount: 32, entropy: entropy)
      let cores = 1 + entropy.below(4)
      let container = encrypt(plaintext, key: key, entropy: entropy, cores: cores)
      let opened = try? QMS1.decrypt(container, key: key, cores: 1 + entropy.below(4))
      #expect(
        opened.map(sha256) == sha256(plaintext),
        "seed \(seed), \(plaintext.count) bytes, \(cores) cores")
    }
  }

  @Test func parallelContainerEqualsSerial() throws {
    let plaintext = Vector.parabola(700_000)
    let entropy = FixedEntropy(source: Vector.random)
    let serial = encrypt(plaintext, entropy: entropy, cores: 1)
    #expect(sha256(encrypt(plaintext, entropy: entropy, cores: 4)) == sha256(serial))
    #expect(
      try sha256(QMS1.decrypt(serial, key: Vector.key, cores: 4)) == sha256(plaintext))
  }

  @Test func theNonceDependsOnRandomBytesHeaderAndFile() throws {
    let fixed = FixedEntropy(source: Vector.random)
    func nonce(_ plaintext: [UInt8], width: UInt32 = 1, entropy: some Entropy) throws -> [UInt8] {
      let container = QMS1.encrypt(
        plaintext: plaintext, key: Vector.key, width: width, height: 1, channels: 1,
        bitsPerSample: 8, entropy: entropy)
      return try QMS1.Header(of: container).nonce
    }
    let nonces = [
      try nonce([1, 2, 3], entropy: fixed),
      try nonce([1, 2, 2], entropy: fixed),
      try nonce([1, 2, 3, 0], entropy: fixed),
      try nonce([1, 2, 3], width: 2, entropy: fixed),
      try nonce([1, 2, 3], entropy: FixedEntropy(source: [7])),
    ]
    #expect(Set(nonces).count == nonces.count)
    #expect(try nonce([1, 2, 3], entropy: fixed) == nonces[0])
  }
}
