import Base
import DeepHash
import ImageCipher
import Imaging
import RPC

/// Why a file cannot serve as the model that makes hash codes.
public enum HashModelError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The file is not there, is no regular file, or the operating system did not give it.
  case unreadable(path: String, reason: String)
  case tooLarge(path: String, maximumBytes: Int)
  case notANetwork(path: String, ConvNeXtError)
  /// A network, but not one whose codes can be masked and searched.
  case unsuitable(path: String, reason: String)

  public var description: String {
    switch self {
    case .unreadable(let path, let reason): "cannot read the model \(path): \(reason)"
    case .tooLarge(let path, let maximum): "the model \(path) has more than \(maximum) bytes"
    case .notANetwork(let path, let error): "\(path) is not a model: \(error)"
    case .unsuitable(let path, let reason): "the model \(path) cannot be used: \(reason)"
    }
  }
}

extension HashModelError: RPCErrorConvertible {
  public var rpcError: RPCError { RPCError(.failedPrecondition, description, reason: "NoModel") }
}

/// The network that turns a picture into its hash code, and the name of its version.
public struct HashModel: Sendable {
  /// SHA-256 of the model file in hexadecimal: codes of different versions are never compared.
  public let version: String
  private let network: ConvNeXt
  /// Of the network's input, in pixels.
  private let side: Int

  /// Where a model's metadata say its side; 64 where they do not.
  private static let sideField = "input_side"

  /// Where a model says that its outputs are codes of several lengths.
  private static let headsField = "heads"

  static let maximumFileBytes = 1 << 30

  /// Length of the codes: 8, 16, 32 or 64.
  public var codeBits: Int { network.configuration.bits }

  /// Reads a safetensors file; blocks while it does.
  public init(path: String) throws(HashModelError) {
    try self.init(safetensors: try Self.read(path), name: path)
  }

  /// - Parameter name: what errors call the file.
  public init(safetensors bytes: [UInt8], name: String) throws(HashModelError) {
    do throws(ConvNeXtError) {
      network = try ConvNeXt(safetensors: bytes)
    } catch {
      throw .notANetwork(path: name, error)
    }
    let configuration = network.configuration
    guard configuration.channels == 1 else {
      throw .unsuitable(
        path: name, reason: "it takes \(configuration.channels) channels, pictures here are grey")
    }
    let metadata = (try? Safetensors(bytes: bytes))?.metadata ?? [:]
    if let heads = metadata[Self.headsField] {
      throw .unsuitable(
        path: name,
        reason:
          "it makes codes of several lengths, \(heads): take one with 'sfmedir model compact --bits'"
      )
    }
    guard CodeMask.codeLengths.contains(configuration.bits) else {
      throw .unsuitable(
        path: name, reason: "its codes have \(configuration.bits) bits, not 8, 16, 32 or 64")
    }
    let said = metadata[Self.sideField]
    guard let side = said.map({ Int($0) }) ?? ModelInput.defaultSide,
      ModelInput.sides.contains(side)
    else {
      throw .unsuitable(
        path: name, reason: "its pictures have '\(said ?? "")' pixels a side, not 32 to 512")
    }
    self.side = side
    version = sha256(bytes).hex
  }

  /// The picture's hash code; a pass through the network, so keep it off an event loop.
  public func code(of image: GrayImage) -> HashCode {
    do throws(ConvNeXtError) {
      return try network.hashCode(
        of: ModelInput.pixels(image, side: side), height: side, width: side)
    } catch {
      preconditionFailure("a \(side) x \(side) picture did not pass the network: \(error)")
    }
  }

  private static func read(_ path: String) throws(HashModelError) -> [UInt8] {
    do throws(RegularFile.Failure) {
      return try RegularFile.contents(of: path, maximumBytes: maximumFileBytes)
    } catch {
      if case .tooLarge(let maximum) = error { throw .tooLarge(path: path, maximumBytes: maximum) }
      throw .unreadable(path: path, reason: error.description)
    }
  }
}
