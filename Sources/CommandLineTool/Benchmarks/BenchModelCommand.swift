import ArgumentParser
import Base
import DeepHash

struct BenchModelCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract:
      "Measure the network that makes hash codes: one picture, a batch, a step of training.",
    discussion: """
      Random parameters and pictures. A step of training is a forward pass, losses, a backward pass and \
      AdamW. 'make bench-model' measures PyTorch and ONNX Runtime in the same run.

      EXAMPLE
        sfmedir bench model --net atto40 --size 128 --threads 1 --json

      JSON: one line with latency_1_ms (median), latency_1_p99_ms, infer_images_per_s, \
      train_images_per_s, attack_ms (one step of PGD on a batch), mega_multiply_adds (of a picture), \
      train_gflops (three forward passes' worth a picture), sgemm_gflops (the most that square products \
      reach on as many threads), gflops_fraction, threads, build, version, date, machine.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Option(help: "atto40 (dims 40 to 320) or small32 (32 to 256), both with depths 2,2,6,2.")
  var net = "atto40"
  @Option(help: ArgumentHelp("The pictures, grey.", valueName: "pixels")) var size = 128
  @Option(help: "Pictures of a batch.") var batch = 32
  @Option(help: "Threads of the batch and of training.") var threads = 1
  @Option(help: ArgumentHelp("Of each measurement, at least.", valueName: "s")) var seconds = 3.0

  private static let nets = ["atto40": [40, 80, 160, 320], "small32": [32, 64, 128, 256]]

  func validate() throws {
    guard Self.nets[net] != nil else { throw ValidationError("--net is atto40 or small32") }
    guard (32...1024).contains(size), (2...512).contains(batch), (1...64).contains(threads),
      (0.1...600).contains(seconds)
    else { throw ValidationError("--size is 32 to 1024, --batch 2 to 512, --threads 1 to 64") }
  }

  /// In seconds, but for the last.
  private struct Measured {
    var single: RepeatedMeasurement
    var inference: RepeatedMeasurement
    var training: RepeatedMeasurement
    var attack: RepeatedMeasurement
    /// Operations a second.
    var peak: Double
  }

  /// Of an attack that is measured.
  private static let attackSteps = 3

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    let configuration = try ConvNeXtConfiguration(
      channels: 1, depths: [2, 2, 6, 2], dims: Self.nets[net] ?? [], bits: 16)
    let measured = try measure(configuration)
    report(measured, configuration, output)
    return .success
  }

  private func measure(_ configuration: ConvNeXtConfiguration) throws -> Measured {
    let parameters = ConvNeXt.initialParameters(configuration, layerScale: 0.5, seed: 1)
    let elements = size * size
    var dice = SplitMix64(seed: 2)
    let pixels = (0..<2 * batch * elements).map { _ in Float(dice.next() >> 56) / 255 }
    let network = try TrainableNetwork(
      configuration: configuration, parameters: parameters, height: size, width: size,
      lanes: threads)
    let images = Array(pixels[..<(batch * elements)])
    let set = TrainingSet(
      labels: (0..<2 * batch).map { $0 % 4 }, classes: ["a", "b", "c", "d"], channels: 1,
      height: size, width: size
    ) { number, out in
      _ = out.initialize(from: pixels[number * elements..<(number + 1) * elements])
    }
    let single = try measureSingle(configuration, parameters, Array(pixels[..<elements]))
    let inference = measure(repeats: 3) { _ = network.outputs(of: images) }
    let training = try measureTraining(network, set)
    var attack = HashAttack()
    attack.steps = Self.attackSteps
    let code = [Float](repeating: 1, count: configuration.bits)
    let attacked = measure(repeats: 1) {
      _ = attack.run(
        against: network, on: set, images: Array(0..<batch),
        codes: [[Float]](repeating: code, count: batch), direction: .away, seed: 1)
    }
    let peak = MatrixPeak.operations(threads: threads, products: 40) { body in
      RepeatedMeasurement(repeats: 3, minimumSeconds: 0, body).seconds[0]
    }
    return Measured(
      single: single, inference: inference, training: training, attack: attacked, peak: peak)
  }

  private func measureSingle(
    _ configuration: ConvNeXtConfiguration, _ parameters: [Float], _ image: [Float]
  ) throws -> RepeatedMeasurement {
    let model = try ConvNeXt(configuration: configuration, parameters: parameters)
    let workspace = ConvNeXtWorkspace()
    var outputs = [Float](repeating: 0, count: configuration.bits)
    return try measure(repeats: 50) {
      try image.withUnsafeBufferPointer { image in
        try outputs.withUnsafeMutableBufferPointer {
          try model.forward(
            batch: image, count: 1, height: size, width: size, outputs: $0, workspace: workspace)
        }
      }
    }
  }

  /// Two steps each time.
  private func measureTraining(
    _ network: TrainableNetwork, _ set: TrainingSet
  ) throws -> RepeatedMeasurement {
    var recipe = TrainingRecipe()
    recipe.batchSize = batch
    recipe.augmentation = .none
    recipe.dropPath = 0
    let trainer = try HashTrainer(
      network: network, set: set, images: Array(0..<2 * batch), recipe: recipe)
    var epoch = 0
    return try measure(repeats: 2) {
      _ = try trainer.run(epoch: epoch, of: 1000) { _, _ in true }
      epoch += 1
    }
  }

  private func report(
    _ measured: Measured, _ configuration: ConvNeXtConfiguration, _ output: Output
  ) {
    let single = measured.single
    let inferring = Double(batch) / measured.inference.median
    let learning = Double(2 * batch) / measured.training.median
    let attacking = measured.attack.median / Double(Self.attackSteps) * 1e3
    let operations = Double(configuration.multiplyAdds(height: size, width: size))
    let trainOperations = 6 * operations * learning
    let peak = measured.peak
    var line: JSONObject = [
      "net": .string(net), "size": JSONValue(size), "batch": JSONValue(batch),
      "threads": JSONValue(threads), "latency_1_ms": JSONValue(single.median * 1e3),
      "latency_1_p99_ms": JSONValue(single.percentile(99) * 1e3),
      "infer_images_per_s": JSONValue(inferring), "train_images_per_s": JSONValue(learning),
      "attack_ms": JSONValue(attacking), "mega_multiply_adds": JSONValue(operations / 1e6),
      "train_gflops": JSONValue(trainOperations / 1e9), "sgemm_gflops": JSONValue(peak / 1e9),
      "gflops_fraction": JSONValue(trainOperations / peak),
    ]
    BenchContext.add(to: &line)
    output.emit(line)
    var table = Table([.init("figure"), .init("value", .right), .init("unit")])
    func add(_ name: String, _ value: Double, _ digits: Int, _ unit: String) {
      table.add([name, Units.fixed(value, digits: digits), unit])
    }
    add("one picture, median", single.median * 1e3, 2, "ms")
    add("one picture, 99 %", single.percentile(99) * 1e3, 2, "ms")
    add("batch of \(batch)", inferring, 1, "pictures/s")
    add("training, batch of \(batch)", learning, 1, "pictures/s")
    add("one step of an attack, batch of \(batch)", attacking, 1, "ms")
    add("training", trainOperations / 1e9, 1, "GFLOP/s")
    add("matrix products", peak / 1e9, 1, "GFLOP/s")
    add("of them reached in training", 100 * trainOperations / peak, 0, "%")
    output.print(table)
    output.print(
      "\(net), \(size) x \(size), \(Units.count(threads, "thread")), \(Build.kind) build, "
        + BenchContext.machine())
  }

  private func measure(repeats: Int, _ body: () throws -> Void) rethrows -> RepeatedMeasurement {
    try RepeatedMeasurement(repeats: repeats, minimumSeconds: seconds, body)
  }
}
