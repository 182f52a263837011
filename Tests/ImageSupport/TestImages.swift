import Base
import DeepHash
import Enrollment
import Foundation
import ImagePipeline
import Imaging
import Messages
import TestSupport

/// Files, keys and a model that need nothing from outside.
public enum TestImages {
  /// An 8-bit PNG.
  public static func png(_ index: Int = 0) -> [UInt8] {
    Phantom.pngFile(seed: 11, index: index, side: 64)
  }

  public static func png16(_ index: Int = 0) -> [UInt8] {
    PngEncoder.encode(Phantom.slice(seed: 12, index: index, side: 64).image)
  }

  public static func dicom(_ index: Int = 0, side: Int = 64) -> [UInt8] {
    Phantom.dicomFile(seed: 13, index: index, side: side)
  }

  /// A grey JPEG of 48 x 40 pixels: a bright disc on a ramp.
  public static let jpeg: [UInt8] = {
    let text = """
      /9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+
      MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//wAALCAAoADABAREA/8QAGQABAAMBAQAAAAAAAAAAAAAABAUG
      BwAD/8QAKhAAAgICAQMDAQkAAAAAAAAAAQIAAwQRIQUxUQYTYRIUIkFicYGRodH/2gAIAQEAAD8AzmlZIY1b
      WOqIpZmIAUDZJ8Seo6D1Q0e99jsC6J0SA3H5Tz/U5abKnNdqMjjurDREbSsfSszqlZqHpLpNOD0urJKg5GSg
      dn76U8gDxxrfz+0nYXqODXnY5RgPcUE1t4P+Sr0rH0rM6pWbJjXLk41WQgIS1A6hu+iN8z0nSrMwtybLFBAd
      yw38mLpWZ1Sst/pvr4wqBh5ak0A/cdRymzzvyOSfP6/haU6pgPT7q5dX06J0To/x3kfn9XS6tqcTZDcM5Ghr
      4gqVjqVmd0rHUrH0rH0rH0rHUrP/2Q==
      """
    guard let data = Data(base64Encoded: text, options: .ignoreUnknownCharacters) else {
      preconditionFailure("the JPEG is not base64")
    }
    return [UInt8](data)
  }()

  /// One of each kind.
  public static let kinds: [(name: String, bytes: [UInt8])] = [
    ("eight.png", png()), ("sixteen.png", png16()), ("photo.jpg", jpeg), ("slice.dcm", dicom()),
  ]

  /// The model file of a small network with random weights and 16-bit codes.
  public static let modelFile: [UInt8] = modelFile(bits: 16)

  public static func modelFile(
    bits: Int, channels: Int = 1, metadata: [String: String] = [:]
  ) -> [UInt8] {
    do {
      let configuration = try ConvNeXtConfiguration(
        channels: channels, depths: [1, 1, 1, 1], dims: [8, 8, 16, 16], bits: bits)
      let entropy = SeededEntropy(seed: 7)
      let count = ParameterLayout(configuration).parameterCount
      let parameters = (0..<count).map { _ in
        Float(Int64(entropy.next() % 2001)) / 2000 - 0.5
      }
      let network = try ConvNeXt(configuration: configuration, parameters: parameters)
      return try network.safetensors(metadata: metadata)
    } catch {
      preconditionFailure("the test model could not be made: \(error)")
    }
  }

  public static func model() throws -> HashModel {
    try HashModel(safetensors: modelFile, name: "test model")
  }

  public static func key(_ seed: UInt64) -> SecretBytes {
    SecretBytes(randomCount: 32, entropy: SeededEntropy(seed: seed))
  }

  /// Keys of a cluster; `seed` makes another cluster's.
  public static func keys(
    seed: UInt64 = 1, imageVersions: UInt32 = 1, indexVersions: UInt32 = 1
  ) -> KeyRing {
    let image = (1...imageVersions).map { (KeyKind.image, $0, key(seed * 1000 + UInt64($0))) }
    let index = (1...indexVersions).map {
      (KeyKind.index, $0, key(seed * 1000 + 500 + UInt64($0)))
    }
    return KeyRing(keys: image + index)
  }

  /// A source that never has anything newer.
  public static func source(_ ring: KeyRing) -> KeySource { KeySource(ring) { ring } }
}
