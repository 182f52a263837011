import Base
import Glibc
import ImagePipeline
import ImageTestSupport
import Imaging
import TestSupport
import Testing

/// One picture and a sealer for it.
enum TestPNG {
  static let bytes = TestImages.png()
  static func sealer() throws -> ImageSealer {
    ImageSealer(owner: "mo-1", model: try TestImages.model(), keys: TestImages.keys())
  }
}

@Suite struct HashModelTests {
  @Test func theVersionIsTheDigestOfTheFile() throws {
    let folder = try TemporaryDirectory()
    let path = try folder.write("m.safetensors", TestImages.modelFile)
    let model = try HashModel(path: path)
    #expect(model.version == sha256(TestImages.modelFile).hex)
    #expect(model.codeBits == 16)
    let picture = try ImageDecoder.decode(TestImages.png()).image
    #expect(model.code(of: picture) == (try TestImages.model().code(of: picture)))
  }

  @Test func differentPicturesHaveDifferentCodes() throws {
    let model = try TestImages.model()
    let codes = try (0..<8).map {
      model.code(of: try ImageDecoder.decode(TestImages.png($0)).image).bits
    }
    #expect(Set(codes).count > 1, "a model without contrast would make the other tests blind")
  }

  @Test func whatIsNoModelIsRefused() throws {
    let folder = try TemporaryDirectory()
    let absent = #expect(throws: HashModelError.self) { try HashModel(path: folder.path("none")) }
    #expect(absent?.description.contains("No such file") == true)
    // A pipe into which nobody writes must not hold up a daemon's start.
    let pipe = folder.path("pipe")
    #expect(mkfifo(pipe, 0o600) == 0)
    for path in [folder.path, pipe] {
      #expect(
        throws: HashModelError.unreadable(path: path, reason: "it is not a regular file")
      ) { try HashModel(path: path) }
    }
    let text = try folder.write("t", text: "hello")
    let error = #expect(throws: HashModelError.self) { try HashModel(path: text) }
    guard case .notANetwork = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    for (bits, channels) in [(12, 1), (16, 3)] {
      let file = TestImages.modelFile(bits: bits, channels: channels)
      let error = #expect(throws: HashModelError.self) {
        try HashModel(safetensors: file, name: "m")
      }
      guard case .unsuitable = error else {
        Issue.record("\(bits) bits, \(channels) channels: \(String(describing: error))")
        continue
      }
    }
    // Outputs that are codes of 8 and of 24 bits are no code of 32.
    let several = TestImages.modelFile(bits: 32, metadata: ["heads": "[8, 24]"])
    let refused = #expect(throws: HashModelError.self) {
      try HashModel(safetensors: several, name: "m")
    }
    #expect(refused?.description.contains("[8, 24]") == true)
    let cut = Array(TestImages.modelFile.dropLast(4))
    #expect(throws: HashModelError.self) { try HashModel(safetensors: cut, name: "cut") }
  }
}
