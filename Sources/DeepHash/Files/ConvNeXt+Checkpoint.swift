extension ConvNeXt {
  /// Name of the metadata field with the network's sizes as JSON.
  private static let configurationField = "config"

  /// Loads a checkpoint: a safetensors file with timm's tensor names and nothing else in it.
  ///
  /// The sizes follow from the shapes of the tensors. Where the metadata have a field `config`, it must
  /// say the same.
  public init(safetensors bytes: [UInt8]) throws(ConvNeXtError) {
    var tensors: [String: Tensor] = [:]
    let metadata: [String: String]
    do throws(SafetensorsError) {
      let file = try Safetensors(bytes: bytes)
      metadata = file.metadata
      for entry in file.entries { tensors[entry.name] = try file.tensor(named: entry.name) }
    } catch {
      throw .unreadable(error)
    }
    try self.init(tensors: tensors)
    if let text = metadata[Self.configurationField] {
      let declared = try ConvNeXtConfiguration(metadata: text)
      if declared != configuration {
        throw .contradictoryConfiguration(metadata: declared, tensors: configuration)
      }
    }
  }

  /// Makes a network of tensors with timm's names; their shapes decide its sizes.
  ///
  /// The pointwise layers may be linear, [out][in], or 1 x 1 convolutions, [out][in][1][1].
  public init(tensors: [String: Tensor]) throws(ConvNeXtError) {
    let configuration = try ConvNeXtConfiguration(tensors: tensors)
    let layout = ParameterLayout(configuration)
    // Whatever is checked here is bounded by what the file holds, so nothing large is allocated before.
    for entry in layout.entries {
      guard let tensor = tensors[entry.name] else { throw .missingTensor(entry.name) }
      if tensor.shape != entry.shape && tensor.shape != entry.shape + [1, 1] {
        throw .wrongShape(name: entry.name, expected: entry.shape, actual: tensor.shape)
      }
    }
    if let name = tensors.keys.sorted().first(where: { layout.entry(named: $0) == nil }) {
      throw .unexpectedTensor(name)
    }
    let parameters = FloatBuffer(count: layout.parameterCount)
    for entry in layout.entries {
      tensors[entry.name]?.withUnsafeElements { source in
        if let base = source.baseAddress {
          (parameters.pointer + entry.range.lowerBound).update(from: base, count: source.count)
        }
      }
    }
    try self.init(configuration: configuration, layout: layout, parameters: parameters)
  }

  /// The parameters as tensors with timm's names.
  public var tensors: [String: Tensor] {
    withUnsafeParameters { parameters in
      Dictionary(
        uniqueKeysWithValues: layout.entries.map { entry in
          let elements = Array(parameters[entry.range])
          return (entry.name, Tensor(shape: entry.shape, elements: elements))
        })
    }
  }

  /// A checkpoint that ``init(safetensors:)`` loads, with the network's sizes among its metadata.
  public func safetensors(
    precision: SafetensorsWriter.Precision = .single, metadata: [String: String] = [:]
  ) throws(SafetensorsError) -> [UInt8] {
    var writer = SafetensorsWriter(metadata: metadata)
    writer.metadata[Self.configurationField] = configuration.metadata
    for (name, tensor) in tensors { writer.add(tensor, named: name, precision: precision) }
    return try writer.encoded()
  }
}
