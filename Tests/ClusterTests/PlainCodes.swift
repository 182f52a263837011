import Base
import DeepHash
import Foundation
import ImageCipher
import Imaging

/// The codes of pictures as their owner computes them, before masking.
struct PlainCodes {
  let codes: [UInt64]
  let bits: Int
  private let modelVersion: String

  init(paths: [String], modelPath: String) throws {
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: modelPath)))
    let model = try ConvNeXt(safetensors: bytes)
    modelVersion = sha256(bytes).hex
    bits = model.configuration.bits
    codes = try paths.map { path in
      let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
      let pixels = ModelInput.pixels(try ImageDecoder.decode(file).image)
      return try model.hashCode(of: pixels, height: 64, width: 64).bits
    }
  }

  func mask(_ code: UInt64, key: SecretBytes, version: UInt32) -> UInt64 {
    CodeMask(key: key, keyVersion: version, modelVersion: modelVersion, codeBits: bits).mask(code)
  }
}
