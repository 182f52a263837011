/// Builds a safetensors file from named tensors.
///
/// The same tensors and metadata always give the same bytes, whatever the order in which they were
/// added: wider elements first, then by name, as the format's own library lays them out.
public struct SafetensorsWriter: Sendable {
  /// Precision in which a tensor is stored.
  public enum Precision: Sendable {
    case half, single, double

    var dataType: SafetensorsDataType {
      switch self {
      case .half: return .float16
      case .single: return .float32
      case .double: return .float64
      }
    }
  }

  /// Free text by name, for instance the configuration of the model.
  public var metadata: [String: String]

  private var tensors: [String: (tensor: Tensor, dataType: SafetensorsDataType)] = [:]

  public init(metadata: [String: String] = [:]) {
    self.metadata = metadata
  }

  /// Adds a tensor, or replaces the one of that name. `__metadata__` is not a tensor's name.
  public mutating func add(_ tensor: Tensor, named name: String, precision: Precision = .single) {
    precondition(name != "__metadata__", "\(name) is reserved by the format")
    precondition(
      tensor.shape.count <= Safetensors.maximumDimensionCount,
      "\(name) has \(tensor.shape.count) dimensions")
    tensors[name] = (tensor, precision.dataType)
  }

  /// The whole file. Fails only where the reader would refuse the result for its size.
  public func encoded() throws(SafetensorsError) -> [UInt8] {
    if tensors.count > Safetensors.maximumTensorCount {
      throw .tooManyTensors(count: tensors.count)
    }
    let names = tensors.keys.sorted { first, second in
      let (a, b) = (tensors[first]!.dataType.sizeBytes, tensors[second]!.dataType.sizeBytes)
      return a == b ? first < second : a > b
    }
    var header = Self.headerText(names: names, tensors: tensors, metadata: metadata)
    // Spaces after the JSON keep the data aligned to eight bytes.
    header.append(contentsOf: repeatElement(0x20, count: (8 - header.count % 8) % 8))
    if header.count > Safetensors.maximumHeaderSizeBytes {
      throw .headerTooLong(sizeBytes: UInt64(header.count))
    }

    var file: [UInt8] = []
    for shift in 0..<8 { file.append(UInt8(truncatingIfNeeded: header.count >> (8 * shift))) }
    file.append(contentsOf: header)
    for name in names {
      let (tensor, dataType) = tensors[name]!
      Self.append(tensor, as: dataType, to: &file)
    }
    return file
  }

  private static func headerText(
    names: [String], tensors: [String: (tensor: Tensor, dataType: SafetensorsDataType)],
    metadata: [String: String]
  ) -> [UInt8] {
    var fields: [String] = []
    if !metadata.isEmpty {
      let texts = metadata.sorted { $0.key < $1.key }
        .map { "\(quoted($0.key)):\(quoted($0.value))" }
      fields.append("\"__metadata__\":{\(texts.joined(separator: ","))}")
    }
    var offset = 0
    for name in names {
      let (tensor, dataType) = tensors[name]!
      let end = offset + tensor.count * dataType.sizeBytes
      let shape = tensor.shape.map { String($0) }.joined(separator: ",")
      fields.append(
        "\(quoted(name)):{\"dtype\":\"\(dataType.rawValue)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    return Array("{\(fields.joined(separator: ","))}".utf8)
  }

  private static func append(
    _ tensor: Tensor, as dataType: SafetensorsDataType, to file: inout [UInt8]
  ) {
    func store<Bits: FixedWidthInteger>(_ bits: (Float) -> Bits) {
      tensor.withUnsafeElements { elements in
        for element in elements {
          withUnsafeBytes(of: bits(element).littleEndian) { file.append(contentsOf: $0) }
        }
      }
    }
    switch dataType {
    case .float16: store { Float16($0).bitPattern }
    case .float64: store { Double($0).bitPattern }
    default: store { $0.bitPattern }
    }
  }

  /// A JSON string; only what JSON forbids inside quotes is escaped.
  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\u{0}"..<"\u{20}":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}
