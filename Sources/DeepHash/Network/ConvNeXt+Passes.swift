extension ConvNeXt {
  /// Sees the activations between layers: their name, and their values interleaved.
  package typealias Observer = (
    _ name: String, _ values: UnsafeBufferPointer<Float>, _ extent: ImageExtent
  ) -> Void

  /// Images of one pass at most. More would only need more memory: what they share, the weights, is read tile by tile.
  private static let passImages = 32

  /// Runs a batch of any size in passes.
  func runPasses(
    batch: UnsafeBufferPointer<Float>, count: Int, height: Int, width: Int,
    outputs: UnsafeMutableBufferPointer<Float>, workspace: ConvNeXtWorkspace
  ) {
    precondition(count >= 0, "a batch of \(count) images")
    let imageElements = configuration.channels * height * width
    precondition(
      batch.count == count * imageElements,
      "\(batch.count) values for \(count) images of \(imageElements)")
    precondition(
      outputs.count >= count * configuration.bits,
      "room for \(outputs.count) outputs of \(count) images with \(configuration.bits) each")
    guard count > 0, let images = batch.baseAddress, let results = outputs.baseAddress else {
      return
    }
    for first in stride(from: 0, to: count, by: Self.passImages) {
      let input = ImageExtent(
        count: min(Self.passImages, count - first), height: height, width: width,
        channels: configuration.channels)
      runPass(
        images: images + first * imageElements, input: input,
        outputs: results + first * configuration.bits, workspace: workspace, observer: nil)
    }
  }

  /// Runs one batch at once and shows the activations between layers; for checks against other
  /// implementations. What is inside a block is shown tile by tile.
  package func observe(
    batch: [Float], count: Int, height: Int, width: Int, observer: @escaping Observer
  ) -> [Float] {
    let input = ImageExtent(
      count: count, height: height, width: width, channels: configuration.channels)
    precondition(batch.count == input.elements, "\(batch.count) values for \(input)")
    var outputs = [Float](repeating: 0, count: count * configuration.bits)
    workspaces.withWorkspace { workspace in
      runPass(
        images: batch, input: input, outputs: &outputs, workspace: workspace, observer: observer)
    }
    return outputs
  }

  /// images: planar, `input.elements` values; outputs: [count][l].
  private func runPass(
    images: UnsafePointer<Float>, input: ImageExtent, outputs: UnsafeMutablePointer<Float>,
    workspace: ConvNeXtWorkspace, observer: Observer?
  ) {
    let memory = workspace.prepare(
      configuration: configuration, input: input, purpose: .inference)
    NetworkPass(parameters: network, memory: memory, input: input)
      .forward(images, outputs: outputs, observer: observer)
  }
}
