import DeepHash
import Testing

@Suite struct CheckpointTests {
  private func tensors() throws -> [String: Tensor] {
    try GoldenCase("odd-3x33x40").model.tensors
  }

  private func error(of tensors: [String: Tensor]) -> ConvNeXtError? {
    do throws(ConvNeXtError) {
      _ = try ConvNeXt(tensors: tensors)
      return nil
    } catch {
      return error
    }
  }

  @Test func savesWhatItLoads() throws {
    let golden = try GoldenCase("odd-3x33x40")
    let bytes = try golden.model.safetensors(metadata: ["protocol": "split"])
    let loaded = try ConvNeXt(safetensors: bytes)
    #expect(loaded.configuration == golden.model.configuration)
    #expect(loaded.tensors == golden.model.tensors)
    #expect(try loaded.safetensors(metadata: ["protocol": "split"]) == bytes)
    #expect(try Safetensors(bytes: bytes).metadata["protocol"] == "split")

    let flat = golden.model.withUnsafeParameters { Array($0) }
    let rebuilt = try ConvNeXt(configuration: golden.model.configuration, parameters: flat)
    #expect(rebuilt.tensors == golden.model.tensors)
    let half = try ConvNeXt(safetensors: golden.model.safetensors(precision: .half))
    let deviation = Deviation(half.withUnsafeParameters { Array($0) }, from: flat)
    #expect(deviation.relative > 0 && deviation.relative < 1e-3, "\(deviation)")
  }

  @Test func acceptsPointwiseLayersAsConvolutions() throws {
    var tensors = try tensors()
    for (name, tensor) in tensors where name.contains(".mlp.fc") && name.hasSuffix("weight") {
      tensors[name] = tensor.reshaped(to: tensor.shape + [1, 1])
    }
    #expect(try ConvNeXt(tensors: tensors).tensors == self.tensors())
  }

  @Test func namesWhatIsMissingExtraOrMisshapen() throws {
    let intact = try tensors()
    for name in intact.keys.sorted() {
      var tensors = intact
      tensors[name] = nil
      // Without the scale of a later block the network has one block less, and the rest is too much.
      let expected: ConvNeXtError =
        name == "stages.2.blocks.1.gamma"
        ? .unexpectedTensor("stages.2.blocks.1.conv_dw.bias") : .missingTensor(name)
      #expect(error(of: tensors) == expected, "\(name)")
    }
    var tensors = intact
    tensors["optimizer.step"] = Tensor(shape: [], elements: [3])
    #expect(error(of: tensors) == .unexpectedTensor("optimizer.step"))

    tensors = intact
    tensors["head.fc.bias"] = Tensor(shape: [9], elements: Array(repeating: 0, count: 9))
    #expect(
      error(of: tensors) == .wrongShape(name: "head.fc.bias", expected: [8], actual: [9]))
    tensors = intact
    tensors["stem.0.weight"] = Tensor(shape: [1], elements: [0])
    #expect(
      error(of: tensors)
        == .wrongDimensionCount(name: "stem.0.weight", expected: 4, actual: [1]))
  }

  @Test func refusesValuesThatAreNotFinite() throws {
    for value in [Float.nan, .infinity, -.infinity] {
      var tensors = try tensors()
      tensors["stem.1.bias"]?.withUnsafeMutableElements { $0[3] = value }
      #expect(error(of: tensors) == .nonFiniteValue(name: "stem.1.bias"))
    }
  }

  @Test func refusesUnusableSizes() throws {
    for (channels, depths, dims, bits) in [
      (0, [1, 1, 1, 1], [8, 8, 8, 8], 8), (17, [1, 1, 1, 1], [8, 8, 8, 8], 8),
      (1, [1, 1, 1], [8, 8, 8, 8], 8), (1, [1, 0, 1, 1], [8, 8, 8, 8], 8),
      (1, [1, 1, 65, 1], [8, 8, 8, 8], 8), (1, [1, 1, 1, 1], [8, 8, 8], 8),
      (1, [1, 1, 1, 1], [8, 8, 8, 4097], 8), (1, [1, 1, 1, 1], [8, 8, 8, 8], 32_769),
      (1, [1, 1, 1, 1], [8, 8, 8, 8], 0),
    ] {
      #expect(throws: ConvNeXtError.self) {
        try ConvNeXtConfiguration(channels: channels, depths: depths, dims: dims, bits: bits)
      }
    }
    let configuration = try ConvNeXtConfiguration(
      channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 8, 8], bits: 8)
    let count = ParameterLayout(configuration).parameterCount
    #expect(throws: ConvNeXtError.wrongParameterCount(expected: count, actual: 3)) {
      try ConvNeXt(configuration: configuration, parameters: [1, 2, 3])
    }
  }

  @Test func refusesMetadataThatContradictTheTensors() throws {
    let model = try GoldenCase("odd-3x33x40").model
    func load(config: String) throws -> ConvNeXt {
      var writer = SafetensorsWriter(metadata: ["config": config])
      for (name, tensor) in model.tensors { writer.add(tensor, named: name) }
      return try ConvNeXt(safetensors: writer.encoded())
    }
    let other = try ConvNeXtConfiguration(
      channels: 3, depths: [1, 1, 2, 1], dims: [8, 16, 24, 40], bits: 16)
    #expect(
      throws: ConvNeXtError.contradictoryConfiguration(
        metadata: other, tensors: model.configuration)
    ) {
      try load(config: "{\"chans\":3,\"depths\":[1,1,2,1],\"dims\":[8,16,24,40],\"bits\":16}")
    }
    #expect(throws: ConvNeXtError.self) { try load(config: "{\"chans\":3}") }
    #expect(
      try load(
        config: "{\"chans\":3,\"depths\":[1,1,2,1],\"dims\":[8,16,24,40],\"bits\":8,\"g\":0.5}"
      ).configuration == model.configuration)
    #expect(throws: ConvNeXtError.unreadable(.truncatedHeader(sizeBytes: 0))) {
      try ConvNeXt(safetensors: [])
    }
  }

  @Test func tensorsAreValues() {
    let original = Tensor(shape: [2], elements: [1, 2])
    var copy = original
    copy.withUnsafeMutableElements { $0[0] = 5 }
    #expect(original.elements == [1, 2])
    #expect(copy.elements == [5, 2])
    #expect(copy != original)
    #expect(original.reshaped(to: [2, 1]) != original)
  }
}
