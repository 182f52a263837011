import DeepHash
import Foundation
import Testing

@Suite struct InferenceTests {
  private let height = 64
  private let width = 64

  private func defaultModel() throws -> ConvNeXt {
    try ConvNeXt(safetensors: Fixture.defaultModelBytes())
  }

  @Test func defaultModelHasTheSizesOfItsCard() throws {
    let model = try defaultModel()
    #expect(
      try model.configuration
        == ConvNeXtConfiguration(
          channels: 1, depths: [1, 1, 3, 1], dims: [32, 64, 128, 256], bits: 16))
    #expect(model.layout.parameterCount == 1_179_312)
  }

  @Test func defaultModelAgreesWithAnIndependentProgram() throws {
    struct Expected: Decodable {
      let codes: [UInt64]
      let f: [[Float]]
    }
    let expected = try JSONDecoder().decode(
      Expected.self, from: Data(Fixture.bytes("default-model.json")))
    let model = try defaultModel()
    for image in 0..<8 {
      var pixels: [Float] = []
      for y in 0..<height {
        for x in 0..<width {
          let value = (x * x * (image + 1) + y * y * 3 + x * y * (image % 3) + 41 * image) >> 4
          pixels.append(Float(value & 255) / 255)
        }
      }
      let outputs = try model.forward(batch: pixels, count: 1, height: height, width: width)
      let deviation = Deviation(outputs, from: expected.f[image])
      #expect(deviation.isWithinTolerance, "image \(image): \(deviation)")
      let code = try model.hashCode(of: pixels, height: height, width: width)
      #expect(code == HashCode(bits: expected.codes[image], length: 16))
    }
  }

  @Test func batchEqualsSingleImages() throws {
    let model = try defaultModel()
    let seed: UInt64 = 11
    var generator = SeededGenerator(seed: seed)
    let count = 37
    let batch = generator.pixels(count * height * width)
    let together = try model.forward(batch: batch, count: count, height: height, width: width)
    for image in 0..<count {
      let pixels = Array(batch[image * height * width..<(image + 1) * height * width])
      let alone = try model.forward(batch: pixels, count: 1, height: height, width: width)
      let deviation = Deviation(alone, from: Array(together[image * 16..<(image + 1) * 16]))
      #expect(deviation.largest <= 1e-5 && deviation.relative <= 1e-6, "seed \(seed): \(deviation)")
    }
    #expect(try model.forward(batch: [], count: 0, height: height, width: width).isEmpty)
  }

  @Test func concurrentInferenceEqualsSerial() async throws {
    let model = try defaultModel()
    let seed: UInt64 = 12
    var generator = SeededGenerator(seed: seed)
    let images = (0..<8).map { _ in generator.pixels(height * width) }
    let serial = try images.map {
      try model.forward(batch: $0, count: 1, height: height, width: width)
    }
    try await withThrowingTaskGroup(of: [[Float]].self) { group in
      for _ in 0..<4 {
        group.addTask {
          try images.map { try model.forward(batch: $0, count: 1, height: height, width: width) }
        }
      }
      for try await results in group { #expect(results == serial, "seed \(seed)") }
    }
  }

  @Test func aWorkspaceServesChangingSizesAndModels() throws {
    let models = [try defaultModel(), try GoldenCase("tiny-1x64x64").model]
    let seed: UInt64 = 13
    var generator = SeededGenerator(seed: seed)
    let workspace = ConvNeXtWorkspace()
    for (model, height, width) in [
      (models[0], 64, 64), (models[1], 100, 33), (models[0], 32, 90), (models[1], 64, 64),
      (models[0], 64, 64),
    ] {
      let pixels = generator.pixels(3 * height * width)
      var outputs = [Float](repeating: .nan, count: 3 * 16)
      try pixels.withUnsafeBufferPointer { batch in
        try outputs.withUnsafeMutableBufferPointer {
          try model.forward(
            batch: batch, count: 3, height: height, width: width, outputs: $0,
            workspace: workspace)
        }
      }
      #expect(
        try outputs == model.forward(batch: pixels, count: 3, height: height, width: width),
        "seed \(seed), \(height) x \(width)")
    }
  }

  @Test(arguments: [(31, 64), (64, 31), (0, 0), (-4, 64), (64, 2049), (Int.max, Int.max)])
  func refusesImagesOfUnusableSize(height: Int, width: Int) throws {
    let model = try GoldenCase("tiny-1x64x64").model
    #expect(throws: ConvNeXtError.unusableImageSize(height: height, width: width)) {
      try model.forward(batch: [], count: 0, height: height, width: width)
    }
  }

  @Test func hashCodesArePackedWithOutputZeroLowest() {
    let code = HashCode(outputs: [0, -1, 2, -0.0, -.ulpOfOne, .nan])
    #expect(code.bits == 0b001101)
    #expect(code.description == "101100")
    #expect(code.hammingDistance(to: HashCode(bits: 0b111111, length: 6)) == 3)
    #expect(HashCode(outputs: Array(repeating: Float(1), count: 64)).bits == .max)
  }
}
