import DeepHash
import Enrollment
import ImageCipher
import Imaging
import Messages

/// From a picture to its masked hash codes: CxtHashGen, then the paper's trapdoor.
public struct CodeMaker: Sendable {
  private let model: HashModel
  private let keys: KeyRing

  public init(model: HashModel, keys: KeyRing) {
    self.model = model
    self.keys = keys
  }

  /// The code under the current version of K_IDX, as it is stored.
  public func currentCode(of image: GrayImage) throws(PipelineError) -> MaskedCode {
    guard let current = keys.current(.index) else { throw .keyMissing(kind: .index, version: 0) }
    return try masked(model.code(of: image), version: current.version)
  }

  /// The code under every version of K_IDX: images masked before a rotation are found too.
  public func codesForSearch(of image: GrayImage) throws(PipelineError) -> [MaskedCode] {
    let versions = keys.versions(.index)
    guard !versions.isEmpty else { throw .keyMissing(kind: .index, version: 0) }
    let code = model.code(of: image)
    var codes: [MaskedCode] = []
    for version in versions { codes.append(try masked(code, version: version)) }
    return codes
  }

  private func masked(_ code: HashCode, version: UInt32) throws(PipelineError) -> MaskedCode {
    guard let key = keys.key(.index, version: version) else {
      throw .keyMissing(kind: .index, version: version)
    }
    let mask = CodeMask(
      key: key, keyVersion: version, modelVersion: model.version, codeBits: code.length)
    var masked = MaskedCode()
    masked.modelVersion = model.version
    masked.indexKeyVersion = version
    masked.bits = UInt32(code.length)
    masked.code = mask.mask(code.bits)
    return masked
  }
}

extension ImageDecoder {
  /// As `decode`, with the pipeline's error.
  public static func picture(of file: [UInt8]) throws(PipelineError) -> DecodedImage {
    do throws(ImageError) {
      return try decode(file)
    } catch {
      throw .undecodable(error)
    }
  }
}
