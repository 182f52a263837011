internal import Base

extension ConvNeXt {
  /// Parameters that training begins with, as one flat vector: [parameterCount].
  ///
  /// Kernels and matrices are normal with variance 1 / inputs, biases 0, normalisations 1 and 0.
  /// - Parameter layerScale: of every block; near 0 for deep networks, 0.5 serves a few blocks.
  public static func initialParameters(
    _ configuration: ConvNeXtConfiguration, layerScale: Float, seed: UInt64
  ) -> [Float] {
    let layout = ParameterLayout(configuration)
    var parameters = [Float](repeating: 0, count: layout.parameterCount)
    for (number, entry) in layout.entries.enumerated() {
      if entry.name.hasSuffix(".gamma") {
        for at in entry.range { parameters[at] = layerScale }
      } else if entry.shape.count >= 2 {
        var dice = TrainingDice.dice(seed, .parameters, [number])
        let deviation = (1 / Double(entry.shape.dropFirst().reduce(1, *))).squareRoot()
        for at in entry.range { parameters[at] = Float(deviation * dice.normal()) }
      } else if entry.name.hasSuffix(".weight") {
        for at in entry.range { parameters[at] = 1 }
      }
    }
    return parameters
  }
}
