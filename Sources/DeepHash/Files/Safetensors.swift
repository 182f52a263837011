/// Element types that the safetensors format defines.
public enum SafetensorsDataType: String, Sendable, CaseIterable {
  case bool = "BOOL"
  case uint8 = "U8"
  case int8 = "I8"
  case uint16 = "U16"
  case int16 = "I16"
  case float16 = "F16"
  case brainFloat16 = "BF16"
  case uint32 = "U32"
  case int32 = "I32"
  case float32 = "F32"
  case uint64 = "U64"
  case int64 = "I64"
  case float64 = "F64"

  /// Bytes of one element.
  public var sizeBytes: Int {
    switch self {
    case .bool, .uint8, .int8: return 1
    case .uint16, .int16, .float16, .brainFloat16: return 2
    case .uint32, .int32, .float32: return 4
    case .uint64, .int64, .float64: return 8
    }
  }
}

/// A file of named tensors in the safetensors format: eight bytes of header length (little-endian), a
/// JSON header, then the data of all tensors without gaps.
///
/// The file is input from outside. Everything is checked when it is opened: lengths before they are
/// used, that names do not repeat, that every shape fits its bytes, and that the data ranges cover the
/// file exactly once. Reading a tensor afterwards can fail only over its name or its data type.
public struct Safetensors: Sendable {
  /// Longest header that is read: room for some fifty thousand tensors.
  public static let maximumHeaderSizeBytes = 8 << 20
  /// Most tensors in one file.
  public static let maximumTensorCount = 1 << 16
  /// Most dimensions of one tensor.
  public static let maximumDimensionCount = 8

  /// What the header says of one tensor.
  public struct Entry: Sendable, Equatable {
    public let name: String
    public let dataType: SafetensorsDataType
    /// Extent of each dimension, the slowest first.
    public let shape: [Int]
    /// Where its bytes lie, counted from the end of the header.
    public let dataRange: Range<Int>
  }

  /// All tensors in the order of their data.
  public let entries: [Entry]
  /// Free text by name that the writer added.
  public let metadata: [String: String]

  private let bytes: [UInt8]
  private let dataOffset: Int
  private let indexByName: [String: Int]

  /// Opens a file that is wholly in memory.
  public init(bytes: [UInt8]) throws(SafetensorsError) {
    let headerSizeBytes = try Self.headerSize(of: bytes)
    self.dataOffset = 8 + headerSizeBytes
    self.bytes = bytes
    let members = try Self.headerMembers(of: Array(bytes[8..<dataOffset]))

    var entries: [Entry] = []
    var metadata: [String: String] = [:]
    for member in members {
      if member.name == "__metadata__" {
        metadata = try Self.metadata(from: member.value)
      } else {
        entries.append(try Self.entry(named: member.name, from: member.value))
      }
    }
    // Empty tensors share an offset with their neighbour, so the end decides between equal beginnings.
    entries.sort {
      ($0.dataRange.lowerBound, $0.dataRange.upperBound, $0.name)
        < ($1.dataRange.lowerBound, $1.dataRange.upperBound, $1.name)
    }
    try Self.checkCoverage(of: entries, sizeBytes: bytes.count - dataOffset)
    self.entries = entries
    self.metadata = metadata
    self.indexByName = Dictionary(
      uniqueKeysWithValues: entries.indices.map { (entries[$0].name, $0) })
  }

  /// What the header says of the tensor with that name, if there is one.
  public func entry(named name: String) -> Entry? {
    indexByName[name].map { entries[$0] }
  }

  /// The tensor with that name, as single-precision numbers; F16, F32 and F64 can be read.
  public func tensor(named name: String) throws(SafetensorsError) -> Tensor {
    guard let entry = entry(named: name) else { throw .missingTensor(name) }
    switch entry.dataType {
    case .float16: return tensor(entry) { Float(Float16(bitPattern: UInt16(littleEndian: $0))) }
    case .float32: return tensor(entry) { Float(bitPattern: UInt32(littleEndian: $0)) }
    case .float64: return tensor(entry) { Float(Double(bitPattern: UInt64(littleEndian: $0))) }
    default: throw .unsupportedDataType(name: name, dataType: entry.dataType)
    }
  }

  /// The bytes of the tensor with that name, whatever its data type.
  package func bytes(named name: String) throws(SafetensorsError) -> ArraySlice<UInt8> {
    guard let entry = entry(named: name) else { throw .missingTensor(name) }
    let begin = dataOffset + entry.dataRange.lowerBound
    return bytes[begin..<begin + entry.dataRange.count]
  }

  private func tensor<Bits: BitwiseCopyable>(
    _ entry: Entry, convert: (Bits) -> Float
  ) -> Tensor {
    let count = entry.dataRange.count / MemoryLayout<Bits>.size
    return Tensor(shape: entry.shape, elementCount: count) { destination in
      bytes.withUnsafeBytes { source in
        // The header has any length, so the data need not be aligned.
        for index in 0..<count {
          let offset = dataOffset + entry.dataRange.lowerBound + index * MemoryLayout<Bits>.size
          destination[index] = convert(source.loadUnaligned(fromByteOffset: offset, as: Bits.self))
        }
      }
    }
  }
}

// MARK: - Reading the header

extension Safetensors {
  private static func headerSize(of bytes: [UInt8]) throws(SafetensorsError) -> Int {
    if bytes.count < 8 { throw .truncatedHeader(sizeBytes: bytes.count) }
    var size: UInt64 = 0
    for index in 0..<8 { size |= UInt64(bytes[index]) << UInt64(8 * index) }
    if size > UInt64(maximumHeaderSizeBytes) { throw .headerTooLong(sizeBytes: size) }
    if bytes.count - 8 < Int(size) { throw .truncatedHeader(sizeBytes: bytes.count) }
    return Int(size)
  }

  private static func headerMembers(
    of header: [UInt8]
  ) throws(SafetensorsError) -> [JSONMember] {
    // The format wants the brace first, so that a file is told apart by its ninth byte.
    if header.first != UInt8(ascii: "{") {
      throw .malformedHeader(offset: 0, reason: "it does not begin with a brace")
    }
    let parsed: JSONValue
    do throws(JSONError) {
      parsed = try BoundedJSONParser.parse(header)
    } catch {
      switch error {
      case .malformed(let offset, let reason):
        throw .malformedHeader(offset: offset, reason: reason)
      case .duplicateName(let name):
        throw .duplicateName(name)
      }
    }
    guard case .object(let members) = parsed else {
      throw .malformedHeader(offset: 0, reason: "it is not an object")
    }
    if members.count > maximumTensorCount { throw .tooManyTensors(count: members.count) }
    return members
  }

  private static func metadata(
    from value: JSONValue
  ) throws(SafetensorsError) -> [String: String] {
    guard case .object(let members) = value else {
      throw .malformedEntry(name: "__metadata__", reason: "it is not an object")
    }
    var metadata: [String: String] = [:]
    for member in members {
      guard case .string(let text) = member.value else {
        throw .malformedEntry(name: "__metadata__", reason: "\(member.name) is not a string")
      }
      metadata[member.name] = text
    }
    return metadata
  }

  private static func entry(
    named name: String, from value: JSONValue
  ) throws(SafetensorsError) -> Entry {
    guard case .object(let members) = value, members.count == 3 else {
      throw .malformedEntry(name: name, reason: "it is not an object of three fields")
    }
    guard case .string(let typeName)? = value["dtype"] else {
      throw .malformedEntry(name: name, reason: "dtype is not a string")
    }
    guard let dataType = SafetensorsDataType(rawValue: typeName) else {
      throw .unknownDataType(name: name, dataType: typeName)
    }
    guard let shape = value["shape"]?.counts, shape.count <= maximumDimensionCount else {
      throw .malformedEntry(name: name, reason: "shape is not a short list of sizes")
    }
    guard let offsets = value["data_offsets"]?.counts, offsets.count == 2,
      offsets[0] <= offsets[1]
    else {
      throw .malformedEntry(name: name, reason: "data_offsets is not a begin and an end")
    }
    let sizeBytes = offsets[1] - offsets[0]
    guard let elementCount = Tensor.elementCount(of: shape),
      elementCount <= sizeBytes / dataType.sizeBytes,
      elementCount * dataType.sizeBytes == sizeBytes
    else {
      throw .sizeMismatch(name: name, shape: shape, sizeBytes: sizeBytes)
    }
    return Entry(
      name: name, dataType: dataType, shape: shape, dataRange: offsets[0]..<offsets[1])
  }

  /// Every byte after the header belongs to exactly one tensor, so no two tensors alias and nothing
  /// is smuggled in between.
  private static func checkCoverage(
    of entries: [Entry], sizeBytes: Int
  ) throws(SafetensorsError) {
    var end = 0
    for entry in entries {
      if entry.dataRange.lowerBound != end {
        throw .misplacedData(
          name: entry.name, expectedOffset: end, offset: entry.dataRange.lowerBound)
      }
      end = entry.dataRange.upperBound
    }
    if end != sizeBytes { throw .wrongFileSize(expected: end, actual: sizeBytes) }
  }
}
