import Base
import ImageCipher
import Testing

struct SealedRecordTests {
  /// Written by a Python program: K_QIE 00 01 ..., data key 20 21 ..., version 7, nonce A0 A1 ...
  static let goldenKey =
    "0100000007a0a1a2a3a4a5a6a7a8a9aaabc6395e0e61ee24984a4cadf82b57eef1409d6b23a68274"
    + "5ba4371cbd43964b3e009b995b451c92ade362f1200974a5b4"
  /// The same data key over the text "modality=MR;region=knee".
  static let goldenTags =
    "01a0a1a2a3a4a5a6a7a8a9aaabb6ae6de9131eabe077fd41666c911b66b75f0afea6414d42f6b913"
    + "c9fd37d66e068203fd40c704"
  static let dataKey = SecretBytes([UInt8](0x20..<0x40))
  static let tags = Array("modality=MR;region=knee".utf8)
  static let entropy = FixedEntropy(source: Vector.random)

  static func imageID(_ last: UInt8 = 0xFF) throws -> ImageID {
    try #require(ImageID([UInt8](hex: "00112233445566778899aabbccddee")! + [last]))
  }

  static func wrapped() throws -> [UInt8] {
    DataKeyWrap.wrap(
      dataKey, under: Vector.key, keyVersion: 7, imageID: try imageID(), entropy: entropy)
  }

  static func failure(
    _ body: () throws(SealedRecordError) -> Void
  ) -> SealedRecordError? {
    do throws(SealedRecordError) {
      try body()
      return nil
    } catch {
      return error
    }
  }

  @Test func goldenRecordsAreWrittenAndRead() throws {
    let wrapped = try Self.wrapped()
    #expect(wrapped.hex == Self.goldenKey)
    #expect(wrapped.count == DataKeyWrap.byteCount)
    #expect(try DataKeyWrap.keyVersion(of: wrapped) == 7)
    #expect(
      try DataKeyWrap.unwrap(wrapped, under: Vector.key, imageID: Self.imageID()) == Self.dataKey)
    let sealed = SealedTags.seal(Self.tags, dataKey: Self.dataKey, entropy: Self.entropy)
    #expect(sealed.hex == Self.goldenTags)
    #expect(sealed.count == Self.tags.count + SealedTags.overheadBytes)
    #expect(try SealedTags.open(sealed, dataKey: Self.dataKey) == Self.tags)
  }

  @Test func wrappingTwiceGivesDifferentRecords() throws {
    let id = try Self.imageID()
    let records = (0..<2).map { _ in
      DataKeyWrap.wrap(
        Self.dataKey, under: Vector.key, keyVersion: 1, imageID: id, entropy: SystemEntropy())
    }
    #expect(records[0] != records[1])
    for record in records {
      #expect(
        try DataKeyWrap.unwrap(record, under: Vector.key, imageID: id) == Self.dataKey)
    }
  }

  @Test func rewrappingKeepsTheDataKey() throws {
    let id = try Self.imageID()
    let moved = try DataKeyWrap.rewrap(
      Self.wrapped(), from: Vector.key, to: Vector.otherKey, keyVersion: 8, imageID: id,
      entropy: SystemEntropy())
    #expect(try DataKeyWrap.keyVersion(of: moved) == 8)
    #expect(
      try DataKeyWrap.unwrap(moved, under: Vector.otherKey, imageID: id) == Self.dataKey)
    #expect(
      Self.failure { () throws(SealedRecordError) in
        _ = try DataKeyWrap.unwrap(moved, under: Vector.key, imageID: id)
      } == .sealBroken)
    let wrapped = try Self.wrapped()
    #expect(
      Self.failure { () throws(SealedRecordError) in
        _ = try DataKeyWrap.rewrap(
          wrapped, from: Vector.otherKey, to: Vector.key, keyVersion: 8, imageID: id,
          entropy: SystemEntropy())
      } == .sealBroken)
  }

  @Test func anotherImageOrAnotherKeyOpensNothing() throws {
    let wrapped = try Self.wrapped()
    let other = try Self.imageID(0xFE)
    let id = try Self.imageID()
    #expect(
      Self.failure { () throws(SealedRecordError) in
        _ = try DataKeyWrap.unwrap(wrapped, under: Vector.key, imageID: other)
      } == .sealBroken)
    #expect(
      Self.failure { () throws(SealedRecordError) in
        _ = try DataKeyWrap.unwrap(wrapped, under: Vector.otherKey, imageID: id)
      } == .sealBroken)
    let sealed = SealedTags.seal(Self.tags, dataKey: Self.dataKey, entropy: Self.entropy)
    #expect(
      Self.failure { () throws(SealedRecordError) in
        _ = try SealedTags.open(sealed, dataKey: Vector.key)
      } == .sealBroken)
  }

  @Test func everyFlippedBitOfAWrappedKeyIsDetected() throws {
    let wrapped = try Self.wrapped()
    let id = try Self.imageID()
    for bit in 0..<8 * wrapped.count {
      var altered = wrapped
      altered[bit / 8] ^= 1 << UInt8(bit % 8)
      let found = Self.failure { () throws(SealedRecordError) in
        _ = try DataKeyWrap.unwrap(altered, under: Vector.key, imageID: id)
      }
      #expect(found == (bit < 8 ? .unknownVersion(altered[0]) : .sealBroken), "bit \(bit)")
    }
  }

  @Test func everyOtherLengthOfAWrappedKeyIsRefused() throws {
    let wrapped = try Self.wrapped()
    let id = try Self.imageID()
    for count in Array(0..<wrapped.count) + [wrapped.count + 1] {
      let cut = Array((wrapped + [0]).prefix(count))
      let found = Self.failure { () throws(SealedRecordError) in
        _ = try DataKeyWrap.unwrap(cut, under: Vector.key, imageID: id)
      }
      #expect(found == .wrongLength(bytes: count))
    }
  }

  @Test func alteredTagsAreDetected() {
    let sealed = SealedTags.seal(Self.tags, dataKey: Self.dataKey, entropy: Self.entropy)
    for bit in 0..<8 * sealed.count {
      var altered = sealed
      altered[bit / 8] ^= 1 << UInt8(bit % 8)
      let found = Self.failure { () throws(SealedRecordError) in
        _ = try SealedTags.open(altered, dataKey: Self.dataKey)
      }
      #expect(found == (bit < 8 ? .unknownVersion(altered[0]) : .sealBroken), "bit \(bit)")
    }
    for count in 0..<sealed.count {
      let cut = Array(sealed.prefix(count))
      let found = Self.failure { () throws(SealedRecordError) in
        _ = try SealedTags.open(cut, dataKey: Self.dataKey)
      }
      let expected: SealedRecordError =
        count < SealedTags.overheadBytes ? .wrongLength(bytes: count) : .sealBroken
      #expect(found == expected, "\(count) bytes")
    }
  }

  @Test func tagsOfAnyLengthComeBack() throws {
    for count in [0, 1, 15, 16, 17, 5_000] {
      let tags = Vector.parabola(count)
      let sealed = SealedTags.seal(tags, dataKey: Self.dataKey, entropy: SystemEntropy())
      #expect(try SealedTags.open(sealed, dataKey: Self.dataKey) == tags)
    }
  }
}
