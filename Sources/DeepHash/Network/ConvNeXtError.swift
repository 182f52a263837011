/// Why a checkpoint is not a network of this kind, or an image cannot pass through one.
public enum ConvNeXtError: Error, Sendable, Equatable {
  /// The file itself is not readable.
  case unreadable(SafetensorsError)
  /// A tensor that the architecture needs is absent.
  case missingTensor(String)
  /// A tensor does not belong to the architecture.
  case unexpectedTensor(String)
  /// A tensor has another shape than the architecture needs.
  case wrongShape(name: String, expected: [Int], actual: [Int])
  /// A tensor whose shape decides the sizes of the network has another number of dimensions.
  case wrongDimensionCount(name: String, expected: Int, actual: [Int])
  /// A flat parameter vector has another length than the network needs.
  case wrongParameterCount(expected: Int, actual: Int)
  /// A tensor holds an infinity or a value that is not a number.
  case nonFiniteValue(name: String)
  /// The sizes make no network, or one larger than is accepted.
  case unusableConfiguration(reason: String)
  /// The file's metadata name other sizes than its tensors have.
  case contradictoryConfiguration(metadata: ConvNeXtConfiguration, tensors: ConvNeXtConfiguration)
  /// The image is too small to leave a pixel after the last stage, or larger than is accepted.
  case unusableImageSize(height: Int, width: Int)
}

extension ConvNeXtError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .unreadable(let error):
      return "The model file cannot be read. \(error)"
    case .missingTensor(let name):
      return "The model file lacks the tensor \(name)."
    case .unexpectedTensor(let name):
      return "The model file holds the tensor \(name), which the network does not have."
    case .wrongShape(let name, let expected, let actual):
      return "The tensor \(name) has shape \(actual) where the network needs \(expected)."
    case .wrongDimensionCount(let name, let expected, let actual):
      return "The tensor \(name) of shape \(actual) should have \(expected) dimensions."
    case .wrongParameterCount(let expected, let actual):
      return "The network has \(expected) parameters, not \(actual)."
    case .nonFiniteValue(let name):
      return "The tensor \(name) holds a value that is not a finite number."
    case .unusableConfiguration(let reason):
      return "The sizes of the network cannot be used: \(reason)."
    case .contradictoryConfiguration(let metadata, let tensors):
      return "The model file's metadata say \(metadata), but its tensors say \(tensors)."
    case .unusableImageSize(let height, let width):
      return "An image of height \(height) and width \(width) cannot be hashed; each must be from "
        + "\(ConvNeXt.minimumImageExtent) to \(ConvNeXt.maximumImageExtent)."
    }
  }
}
