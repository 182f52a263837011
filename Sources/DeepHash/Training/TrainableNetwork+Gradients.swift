/// Gradients by themselves, for checks against other implementations.
extension TrainableNetwork {
  /// Runs images forwards and back.
  /// - Parameters:
  ///   - images: [image][channels][height][width].
  ///   - branchFactors: [block][image]; see ``NetworkPass/forward(_:outputs:branchFactors:observer:)``.
  ///   - slope: the gradient with regard to the outputs, of the outputs, [image][l].
  package func gradient(
    images: [Float], branchFactors: [Float]? = nil, slope: ([Float]) -> [Float]
  ) -> (outputs: [Float], parameters: [Float], images: [Float]) {
    let count = images.count / imageElements
    let bits = configuration.bits
    var outputs = [Float](repeating: 0, count: count * bits)
    var imageGradient = [Float](repeating: 0, count: images.count)
    let shares = lanes.indices.map { Lane.share(of: count, lane: $0, lanes: laneCount) }
    func factors(_ share: Range<Int>) -> [Float]? {
      branchFactors.map { all in
        (0..<blockCount).flatMap {
          all[$0 * count + share.lowerBound..<$0 * count + share.upperBound]
        }
      }
    }
    clearGradients()
    for (lane, share) in zip(lanes, shares) where !share.isEmpty {
      var rows = [Float](repeating: 0, count: share.count * bits)
      let part = Array(images[share.lowerBound * imageElements..<share.upperBound * imageElements])
      forward(
        lane: lane, images: part, count: share.count, outputs: &rows, branchFactors: factors(share))
      outputs.replaceSubrange(share.lowerBound * bits..<share.upperBound * bits, with: rows)
    }
    let slopes = slope(outputs)
    for (lane, share) in zip(lanes, shares) where !share.isEmpty {
      var part = [Float](repeating: 0, count: share.count * imageElements)
      backward(
        lane: lane,
        outputGradient: Array(slopes[share.lowerBound * bits..<share.upperBound * bits]),
        count: share.count, branchFactors: factors(share), imageGradient: &part)
      imageGradient.replaceSubrange(
        share.lowerBound * imageElements..<share.upperBound * imageElements, with: part)
    }
    let sum = collectGradient()
    return (
      outputs, [Float](UnsafeBufferPointer(start: sum, count: parameterCount)), imageGradient
    )
  }

  /// The gradient with regard to images alone, by the way that attacks take; `slope` as above.
  package func imageGradient(images: [Float], slope: ([Float]) -> [Float]) -> [Float] {
    let count = images.count / imageElements
    let bits = configuration.bits
    var gradient = [Float](repeating: 0, count: images.count)
    imageGradient(lane: lanes[0], images: images, count: count, into: &gradient) { outputs in
      let slopes = slope([Float](UnsafeBufferPointer(start: outputs, count: count * bits)))
      for at in slopes.indices { outputs[at] = slopes[at] }
    }
    return gradient
  }

  /// One step of an optimizer, by itself.
  package func step(_ optimizer: inout Optimizer, gradient: [Float], rate: Float) {
    optimizer.step(network.values.pointer, gradient: gradient, rate: rate, lanes: laneCount)
    network.fold(lanes: laneCount)
  }
}

extension HashLoss {
  /// The losses of one head, and their gradients with regard to f(x) and f(x*): [image][l].
  package func evaluate(
    outputs: [Float], adversarialOutputs: [Float]?, labels: [Int], codes: [[Float]],
    buffer: CodeBuffer
  ) -> (terms: Terms, gradient: [Float], adversarialGradient: [Float]) {
    var (clean, attacked) = (outputs, adversarialOutputs ?? [])
    var gradient = [Float](repeating: 0, count: clean.count)
    var attackedGradient = [Float](repeating: 0, count: attacked.count)
    let bits = buffer.bits
    let terms = clean.withUnsafeMutableBufferPointer { clean in
      attacked.withUnsafeMutableBufferPointer { attacked in
        gradient.withUnsafeMutableBufferPointer { gradient in
          attackedGradient.withUnsafeMutableBufferPointer { attackedGradient in
            evaluate(
              outputs: Rows(pointer: clean.baseAddress!, stride: bits),
              adversarialOutputs: adversarialOutputs.map { _ in
                Rows(pointer: attacked.baseAddress!, stride: bits)
              },
              labels: labels, codes: codes, buffer: buffer,
              gradient: Rows(pointer: gradient.baseAddress!, stride: bits),
              adversarialGradient: adversarialOutputs.map { _ in
                Rows(pointer: attackedGradient.baseAddress!, stride: bits)
              }, memory: Memory())
          }
        }
      }
    }
    return (terms, gradient, attackedGradient)
  }
}
