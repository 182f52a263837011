/// Why a safetensors file cannot be read or written.
public enum SafetensorsError: Error, Sendable, Equatable {
  /// The file ends before the eight bytes of the header length, or before the header ends.
  case truncatedHeader(sizeBytes: Int)
  /// The header says it is longer than ``Safetensors/maximumHeaderSizeBytes``.
  case headerTooLong(sizeBytes: UInt64)
  /// The header is not the JSON that the format asks for.
  case malformedHeader(offset: Int, reason: String)
  /// One name stands twice in the header.
  case duplicateName(String)
  /// A tensor lacks a field, or a field has the wrong kind of value.
  case malformedEntry(name: String, reason: String)
  /// The data type is not one the format defines.
  case unknownDataType(name: String, dataType: String)
  /// The data type exists, but cannot be read as floating-point numbers.
  case unsupportedDataType(name: String, dataType: SafetensorsDataType)
  /// The shape times the size of an element overflows, or differs from the bytes given for it.
  case sizeMismatch(name: String, shape: [Int], sizeBytes: Int)
  /// The byte ranges of the tensors overlap, leave a hole, or do not end where the file ends.
  case misplacedData(name: String, expectedOffset: Int, offset: Int)
  /// Bytes follow the last tensor, or are missing from it.
  case wrongFileSize(expected: Int, actual: Int)
  /// More tensors than ``Safetensors/maximumTensorCount``.
  case tooManyTensors(count: Int)
  /// No tensor has that name.
  case missingTensor(String)
}

extension SafetensorsError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .truncatedHeader(let sizeBytes):
      return "The safetensors file of \(sizeBytes) bytes ends inside its header."
    case .headerTooLong(let sizeBytes):
      return "The safetensors header of \(sizeBytes) bytes is longer than is accepted."
    case .malformedHeader(let offset, let reason):
      return "The safetensors header is malformed at byte \(offset): \(reason)."
    case .duplicateName(let name):
      return "The safetensors header names \(name) twice."
    case .malformedEntry(let name, let reason):
      return "The safetensors entry of \(name) is malformed: \(reason)."
    case .unknownDataType(let name, let dataType):
      return "The tensor \(name) has the unknown data type \(dataType)."
    case .unsupportedDataType(let name, let dataType):
      return "The tensor \(name) of type \(dataType.rawValue) cannot be read as real numbers."
    case .sizeMismatch(let name, let shape, let sizeBytes):
      return "The tensor \(name) of shape \(shape) does not fit its \(sizeBytes) bytes."
    case .misplacedData(let name, let expectedOffset, let offset):
      return "The data of \(name) begin at byte \(offset) where byte \(expectedOffset) is next."
    case .wrongFileSize(let expected, let actual):
      return "The safetensors file has \(actual) bytes where its header asks for \(expected)."
    case .tooManyTensors(let count):
      return "The safetensors file holds \(count) tensors, more than is accepted."
    case .missingTensor(let name):
      return "The safetensors file has no tensor named \(name)."
    }
  }
}
