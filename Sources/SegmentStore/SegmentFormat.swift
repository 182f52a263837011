/// The 16 random bytes that a store is given at creation and that every one of its files carries.
struct StoreIdentifier: Equatable {
  static let sizeBytes = 16
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) {
    precondition(
      bytes.count == Self.sizeBytes,
      "a store identifier has \(bytes.count) bytes instead of \(Self.sizeBytes)")
    self.bytes = bytes
  }
}

/// What reading a 64-byte file block can find.
enum FileBlockResult<Block> {
  case valid(Block)
  case damaged
  case unsupportedVersion(UInt32)
}

/// The frame that segment headers, hints and the manifest share: magic, version, reserved zeros, fields, CRC32C over all
/// before it. All versions keep magic, version and checksum in these places, so a newer file is told from a damaged one.
enum FileBlock {
  static let sizeBytes = 64

  static func encode(magic: [UInt8], version: UInt32 = 1, fields: [UInt8]) -> [UInt8] {
    var bytes = magic + littleEndian(version) + [0, 0, 0, 0] + fields
    bytes += [UInt8](repeating: 0, count: sizeBytes - 4 - bytes.count)
    return bytes + littleEndian(Checksum.crc32c(bytes))
  }

  /// The version found, of those up to `newest`.
  static func decode(
    _ bytes: [UInt8], magic: [UInt8], newest: UInt32 = 1
  ) -> FileBlockResult<UInt32> {
    guard bytes.count == sizeBytes, Array(bytes[..<8]) == magic,
      Checksum.crc32c(Array(bytes[..<60])) == integer(bytes[60...])
    else { return .damaged }
    let found: UInt32 = integer(bytes[8..<12])
    // The reserved bytes are where a later version would say that it differs.
    let isKnown = (1...newest).contains(found) && bytes[12..<16].allSatisfy { $0 == 0 }
    return isKnown ? .valid(found) : .unsupportedVersion(found)
  }
}

/// The first 64 bytes of a segment file (`docs/formats/segment.md`).
struct SegmentHeader: Equatable {
  static let sizeBytes = 64
  static let magic: [UInt8] = Array("SFMSEGMT".utf8)

  let segmentIdentifier: UInt64
  let store: StoreIdentifier
  /// The sequence number of the first value or tombstone record of this segment; of a compacted one, the number that the
  /// first had before compaction left records out.
  let firstSequence: UInt64
  /// How often it was compacted; 0 for a segment as it was written (version 1).
  var generation: UInt32 = 0
  /// The last segment whose records a compaction put into this one; its own identifier where none was added.
  var coversThrough: UInt64

  init(
    segmentIdentifier: UInt64, store: StoreIdentifier, firstSequence: UInt64,
    generation: UInt32 = 0, coversThrough: UInt64? = nil
  ) {
    self.segmentIdentifier = segmentIdentifier
    self.store = store
    self.firstSequence = firstSequence
    self.generation = generation
    self.coversThrough = coversThrough ?? segmentIdentifier
  }

  func encoded() -> [UInt8] {
    let fields = littleEndian(segmentIdentifier) + store.bytes + littleEndian(firstSequence)
    if generation == 0 { return FileBlock.encode(magic: Self.magic, fields: fields) }
    return FileBlock.encode(
      magic: Self.magic, version: 2,
      fields: fields + littleEndian(coversThrough) + littleEndian(generation))
  }

  static func decode(_ bytes: [UInt8]) -> FileBlockResult<SegmentHeader> {
    switch FileBlock.decode(bytes, magic: magic, newest: 2) {
    case .damaged: .damaged
    case .unsupportedVersion(let version): .unsupportedVersion(version)
    case .valid where integer(bytes[40..<48]) >= RecordHeader.sequenceLimit: .damaged
    case .valid(let version):
      checked(
        SegmentHeader(
          segmentIdentifier: integer(bytes[16..<24]), store: StoreIdentifier(Array(bytes[24..<40])),
          firstSequence: integer(bytes[40..<48]),
          generation: version == 1 ? 0 : integer(bytes[56..<60]),
          coversThrough: version == 1 ? nil : integer(bytes[48..<56])), version)
    }
  }

  private static func checked(
    _ header: SegmentHeader, _ version: UInt32
  ) -> FileBlockResult<SegmentHeader> {
    let isShapely =
      (version == 1) == (header.generation == 0)
      && (header.segmentIdentifier..<FileName.segmentIdentifierLimit).contains(header.coversThrough)
    return isShapely ? .valid(header) : .damaged
  }
}

/// The content of the file `store.manifest`: which store this is, and the first segment that is still part of it.
struct Manifest: Equatable {
  static let sizeBytes = 64
  static let magic: [UInt8] = Array("SFMMANIF".utf8)

  let store: StoreIdentifier
  let firstSegment: UInt64

  func encoded() -> [UInt8] {
    FileBlock.encode(
      magic: Self.magic, fields: littleEndian(firstSegment) + store.bytes)
  }

  static func decode(_ bytes: [UInt8]) -> FileBlockResult<Manifest> {
    switch FileBlock.decode(bytes, magic: magic) {
    case .damaged: .damaged
    case .unsupportedVersion(let version): .unsupportedVersion(version)
    case .valid where integer(bytes[16..<24]) >= FileName.segmentIdentifierLimit: .damaged
    case .valid:
      .valid(
        Manifest(
          store: StoreIdentifier(Array(bytes[24..<40])), firstSegment: integer(bytes[16..<24])))
    }
  }
}

/// Names of the files in a store's folder.
enum FileName {
  static let lock = "store.lock"
  static let manifest = "store.manifest"
  static let scrub = "store.scrub"
  static let temporarySuffix = ".new"
  private static let segmentSuffix = ".segment"
  private static let hintSuffix = ".hint"
  /// Identifiers stay far below overflow, whatever names somebody puts into the folder.
  static let segmentIdentifierLimit: UInt64 = 1 << 62

  static func segment(_ identifier: UInt64) -> String { digits(identifier) + segmentSuffix }

  static func hint(_ identifier: UInt64) -> String { digits(identifier) + hintSuffix }

  static func segmentIdentifier(of name: String) -> UInt64? { identifier(of: name, segmentSuffix) }

  static func hintIdentifier(of name: String) -> UInt64? { identifier(of: name, hintSuffix) }

  private static func digits(_ identifier: UInt64) -> String {
    let digits = String(identifier, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  private static func identifier(of name: String, _ suffix: String) -> UInt64? {
    guard name.hasSuffix(suffix),
      let identifier = UInt64(name.dropLast(suffix.count), radix: 16),
      (1..<segmentIdentifierLimit).contains(identifier), digits(identifier) + suffix == name
    else { return nil }
    return identifier
  }
}

func littleEndian<Integer: FixedWidthInteger>(_ value: Integer) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

/// The little-endian integer made of the first bytes of a slice that is long enough.
func integer<Integer: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>) -> Integer {
  bytes.withUnsafeBytes { Integer(littleEndian: $0.loadUnaligned(as: Integer.self)) }
}
