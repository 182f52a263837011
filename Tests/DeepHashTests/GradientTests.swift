import DeepHash
import Foundation
import Testing

/// The backward pass against differences of the forward pass, at sizes that no golden vector has.
@Suite struct GradientTests {
  private struct Shape: CustomTestStringConvertible {
    let channels: Int
    let depths: [Int]
    let dims: [Int]
    let bits: Int
    let height: Int
    let width: Int
    let count: Int
    var testDescription: String {
      "\(count) of \(channels) x \(height) x \(width), depths \(depths), dims \(dims), \(bits) bits"
    }
  }

  /// Sizes around the width of vectors, odd maps, more images than lanes and fewer.
  private static let shapes = [
    Shape(
      channels: 1, depths: [1, 1, 1, 1], dims: [5, 7, 9, 11], bits: 3, height: 37, width: 50,
      count: 3),
    Shape(
      channels: 2, depths: [2, 1, 1, 1], dims: [16, 20, 33, 17], bits: 8, height: 32, width: 45,
      count: 1),
    Shape(
      channels: 3, depths: [1, 1, 2, 2], dims: [24, 8, 40, 16], bits: 5, height: 70, width: 33,
      count: 5),
  ]

  /// A smooth function of the outputs, whose gradient is known.
  private static func objective(_ outputs: [Float]) -> Double {
    outputs.enumerated().reduce(0) { $0 + sin(Double($1.element) + Double($1.offset)) }
  }

  private static func slope(_ outputs: [Float]) -> [Float] {
    outputs.enumerated().map { Float(cos(Double($0.element) + Double($0.offset))) }
  }

  @Test(arguments: [0, 1, 2], [false, true])
  func agreesWithDifferences(number: Int, dropsBlocks: Bool) throws {
    let shape = Self.shapes[number]
    var generator = SeededGenerator(seed: UInt64(number + 1))
    let configuration = try ConvNeXtConfiguration(
      channels: shape.channels, depths: shape.depths, dims: shape.dims, bits: shape.bits)
    var parameters = ConvNeXt.initialParameters(configuration, layerScale: 0.7, seed: 3)
    // Nothing stays at a value where a mistake would not show.
    for at in parameters.indices {
      parameters[at] += 0.1 * (Float.random(in: -1...1, using: &generator))
    }
    let images = generator.pixels(shape.count * shape.channels * shape.height * shape.width)
    let blocks = shape.depths.reduce(0, +)
    let factors =
      dropsBlocks
      ? (0..<blocks * shape.count).map { [Float(0), 1, 1.25][$0 % 3] } : nil
    func network(_ parameters: [Float]) throws -> TrainableNetwork {
      try TrainableNetwork(
        configuration: configuration, parameters: parameters, height: shape.height,
        width: shape.width, lanes: 2)
    }
    let (_, byParameters, byImages) = try network(parameters).gradient(
      images: images, branchFactors: factors, slope: Self.slope)

    /// Along a random direction: one difference checks every element at once.
    func difference(_ move: (Double) throws -> ([Float], [Float])) throws -> Double {
      let step = 2e-3
      var values: [Double] = []
      // Five points: what bends the function has no part in the slope.
      for factor in [-2.0, -1, 1, 2] {
        let (parameters, images) = try move(factor * step)
        let outputs = try network(parameters).gradient(
          images: images, branchFactors: factors, slope: Self.slope
        ).outputs
        values.append(Self.objective(outputs))
      }
      return (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * step)
    }
    for entry in ParameterLayout(configuration).entries {
      let direction = entry.range.map { _ in Float.random(in: -1...1, using: &generator) }
      let expected = try difference { step in
        var moved = parameters
        for (at, value) in zip(entry.range, direction) { moved[at] += Float(step) * value }
        return (moved, images)
      }
      let actual = zip(byParameters[entry.range], direction).reduce(0.0) {
        $0 + Double($1.0) * Double($1.1)
      }
      #expect(
        abs(actual - expected) <= 2e-2 * max(0.1, abs(expected)),
        "\(entry.name): \(actual), not \(expected)")
    }
    let direction = images.indices.map { _ in Float.random(in: -1...1, using: &generator) }
    let expected = try difference { step in
      (parameters, zip(images, direction).map { $0 + Float(step) * $1 })
    }
    let actual = zip(byImages, direction).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
    #expect(
      abs(actual - expected) <= 2e-2 * max(0.1, abs(expected)),
      "images: \(actual), not \(expected)")
    if !dropsBlocks {
      let attacked = try network(parameters).imageGradient(images: images, slope: Self.slope)
      let deviation = Deviation(attacked, from: byImages)
      #expect(deviation.relative < 1e-5, "the way of attacks: \(deviation)")
    }
  }

  @Test func lossesAgreeWithDifferences() {
    var generator = SeededGenerator(seed: 9)
    let (bits, count) = (6, 7)
    let labels = (0..<count).map { $0 % 3 }
    let buffer = CodeBuffer(
      values: (0..<20 * bits).map { _ in Float.random(in: -1...1, using: &generator) },
      bits: bits, labels: (0..<20).map { $0 % 3 }, classes: 3)
    let outputs = (0..<count * bits).map { _ in Float.random(in: -2...2, using: &generator) }
    let attacked = (0..<count * bits).map { _ in Float.random(in: -2...2, using: &generator) }
    for original in HashLoss.Original.allCases {
      for adversarial in HashLoss.Adversarial.allCases {
        for isAttacked in [false, true] {
          var loss = HashLoss()
          (loss.original, loss.adversarial) = (original, adversarial)
          (loss.lambda, loss.phi, loss.chi) = (0.7, 0.3, 0.2)
          func evaluate(_ clean: [Float], _ adversarial: [Float]) -> (
            terms: HashLoss.Terms, gradient: [Float], adversarialGradient: [Float]
          ) {
            loss.evaluate(
              outputs: clean, adversarialOutputs: isAttacked ? adversarial : nil, labels: labels,
              codes: buffer.mainstay, buffer: buffer)
          }
          let found = evaluate(outputs, attacked)
          #expect(found.terms.adversarial == 0 || isAttacked)
          let step: Float = 1e-3
          for at in outputs.indices {
            func difference(_ move: (Float) -> Double) -> Double {
              (move(step) - move(-step)) / Double(2 * step)
            }
            let clean = difference { step in
              var moved = outputs
              moved[at] += step
              return evaluate(moved, attacked).terms.total
            }
            #expect(
              abs(Double(found.gradient[at]) - clean) < 1e-4, "\(original), \(adversarial), \(at)")
            guard isAttacked else { continue }
            let other = difference { step in
              var moved = attacked
              moved[at] += step
              return evaluate(outputs, moved).terms.total
            }
            #expect(
              abs(Double(found.adversarialGradient[at]) - other) < 1e-4,
              "\(original), \(adversarial), attacked, \(at)")
          }
        }
      }
    }
  }

  @Test func sumsFollowEveryChange() {
    var generator = SeededGenerator(seed: 4)
    let (bits, count) = (5, 12)
    let labels = (0..<count).map { $0 % 4 }
    func values() -> [Float] { (0..<bits).map { _ in Float.random(in: -1...1, using: &generator) } }
    var current = (0..<count).map { _ in values() }
    var buffer = CodeBuffer(
      values: Array(current.joined()), bits: bits, labels: labels, classes: 4)
    for step in 0..<40 {
      current[step % count] = values()
      buffer.replace(step % count, with: current[step % count])
    }
    let fresh = CodeBuffer(
      values: Array(current.joined()), bits: bits, labels: labels, classes: 4)
    // Bit for bit, in whatever order the changes came: a run that goes on must not differ.
    #expect(buffer.values == fresh.values)
    #expect(buffer.signSums == fresh.signSums)
    let outputs = [Float](repeating: 0.3, count: 4 * bits)
    func loss(_ buffer: CodeBuffer) -> HashLoss.Terms {
      HashLoss().evaluate(
        outputs: outputs, adversarialOutputs: nil, labels: [0, 1, 2, 3], codes: buffer.mainstay,
        buffer: buffer
      ).terms
    }
    #expect(loss(buffer) == loss(fresh))
  }
}
