import ArgumentParser
import Base
import DeepHash
import Foundation
import HashTraining
import Imaging

extension SplitProtocol: ExpressibleByArgument {}
extension HashLoss.Original: ExpressibleByArgument {}
extension HashLoss.Adversarial: ExpressibleByArgument {}
extension Optimizer.Kind: ExpressibleByArgument {}
extension LearningRateSchedule.Shape: ExpressibleByArgument {}
extension TrainingRecipe.ClassCodeRule: ExpressibleByArgument {}

struct ModelTrainCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a network on a folder of pictures, first on clean ones, then against attacks.",
    discussion: """
      DIR has manifest.csv (columns path, class, split, random_split), or train/CLASS/ and test/CLASS/, or \
      CLASS/ with files. Pictures of any size are fitted into a square, as uploads are.

      OUT gets log.jsonl, checkpoint.safetensors (every two minutes, and at Ctrl-C) and a model for each stage \
      and length of code; it has to hold neither log nor models, unless --resume goes on with the training that is there. The same options, seed and threads give the same models; --resume goes on \
      from the checkpoint as if nothing had happened.

      EXAMPLE
        sfmedir model train --data tmri/ --split group --bits 16 --epochs 30 --adversarial-epochs 20 --out run/
        sfmedir model train --data tmri/ --split random --clients 3 --label-skew 0.5 --out federated/

      JSON: a line {"type":"epoch"} for each with stage, epoch, epochs, client, loss, l_ori, l_adl, l_quant, \
      l_bit, rate, gradient_norm, images_per_s, seconds; a line {"type":"model"} for each with path, stage, \
      bits, map_at_100 and map_at_1000 of the test pictures, and beside it pixel_map_at_100 (the pixels alone) and \
      shuffled_map_at_100 (chance).

      Exit codes: 0 trained; 1 the loss is no number; 65 bad pictures or checkpoint; 66 no such folder; 74 reading or \
      writing failed; 75 another training writes to OUT; 130 interrupted, by SIGINT, SIGTERM or SIGHUP: checkpoint \
      written.
      """)

  @OptionGroup var outputOptions: OutputOptions

  @Option(help: ArgumentHelp("The folder of pictures.", valueName: "dir"), completion: .directory)
  var data: String

  @Option(help: "Which pictures are learned from: group or random.")
  var split = SplitProtocol.group

  @Option(help: ArgumentHelp("Lengths of the codes, over one trunk.", valueName: "list"))
  var bits = "16"

  @Option(help: ArgumentHelp("Where log, checkpoint and models go.", valueName: "dir"))
  var out: String

  @Flag(help: "Go on from the checkpoint in --out, where there is one.") var resume = false

  @Option(help: ArgumentHelp("Stop with a checkpoint after this time.", valueName: "minutes"))
  var minutes: Double?

  @Option(help: ArgumentHelp("Draw the losses of the log there, as SVG.", valueName: "file"))
  var plot: String?

  @Option(help: ArgumentHelp("Begin with a model's parameters.", valueName: "file"))
  var `init`: String?

  @Option(help: ArgumentHelp("The network's input, in pixels a side.", valueName: "pixels"))
  var size = ModelInput.defaultSide

  @Option(help: ArgumentHelp("Blocks of the four stages.", valueName: "list"))
  var depths = "1,1,3,1"

  @Option(help: ArgumentHelp("Channels of the four stages.", valueName: "list"))
  var dims = "32,64,128,256"

  @Option(help: "Epochs on clean pictures.") var epochs = 30

  @Option(help: "Epochs against attacks, after those.") var adversarialEpochs = 20

  @OptionGroup(title: "Learning") var learning: LearningOptions
  @OptionGroup(title: "Losses and attacks") var losses: LossOptions
  @OptionGroup(title: "Pictures") var views: ViewOptions
  @OptionGroup(title: "Federation") var federation: FederationOptions

  @Option(help: "Another seed gives another model.") var seed: UInt64 = 1

  @Option(help: ArgumentHelp("Threads (default: one a core).", valueName: "count"))
  var threads: Int?

  func validate() throws {
    guard let lengths = NumberList.numbers(bits), Set(lengths).count == lengths.count,
      lengths.allSatisfy({ [8, 16, 32, 64].contains($0) })
    else { throw ValidationError("--bits is 8, 16, 32, 64 or several of them, not '\(bits)'") }
    guard
      [depths, dims].allSatisfy({ text in
        NumberList.numbers(text).map { $0.count == 4 && $0.allSatisfy { $0 > 0 } } ?? false
      })
    else { throw ValidationError("--depths and --dims are four numbers above 0 each") }
    guard ModelInput.sides.contains(size) else {
      throw ValidationError("--size is 32 to 512 pixels, not \(size)")
    }
    guard (0...100_000).contains(epochs), (0...100_000).contains(adversarialEpochs),
      epochs + adversarialEpochs > 0
    else {
      throw ValidationError("--epochs and --adversarial-epochs are 0 or more, and not both 0")
    }
    guard NetworkThreads.accepted.contains(threads ?? 1) else {
      throw ValidationError("--threads is 1 to 64")
    }
    guard (0.01...1e6).contains(minutes ?? 1) else {
      throw ValidationError("--minutes is 0.01 to 1000000")
    }
  }

  // MARK: - The plan

  private func plan() throws -> TrainingPlan {
    guard let lengths = NumberList.numbers(bits), let depths = NumberList.numbers(depths),
      let dims = NumberList.numbers(dims)
    else { throw ValidationError("lists of numbers") }
    let configuration = try ConvNeXtConfiguration(
      channels: 1, depths: depths, dims: dims, bits: lengths.reduce(0, +))
    var recipe = TrainingRecipe()
    recipe.heads = lengths
    recipe.seed = seed
    learning.apply(to: &recipe)
    losses.apply(to: &recipe)
    views.apply(to: &recipe)
    recipe.proximity = federation.proximity
    var stages: [TrainingPlan.Stage] = []
    if epochs > 0 { stages.append(.init(name: "clean", epochs: epochs, recipe: recipe)) }
    if adversarialEpochs > 0 {
      recipe.stage = 1
      recipe.attack = losses.attack
      recipe.schedule.rate = learning.adversarialRate ?? learning.rate
      if let rule = losses.adversarialClassCodes { recipe.classCodes = rule }
      stages.append(.init(name: "adversarial", epochs: adversarialEpochs, recipe: recipe))
    }
    var plan = TrainingPlan(configuration: configuration, side: size, stages: stages)
    plan.seed = seed
    plan.layerScale = Float(learning.layerScale)
    plan.lanes = NetworkThreads.count(threads)
    federation.apply(to: &plan)
    return plan
  }

  /// What makes the training what it is.
  private func description(_ plan: TrainingPlan) -> String {
    [
      "--data \(dataset) --split \(split.rawValue) --bits \(bits)",
      "--size \(size) --depths \(depths) --dims \(dims) --epochs \(epochs)",
      "--adversarial-epochs \(adversarialEpochs)",
      `init`.map { "--init \(Files.lastComponent(of: $0))" } ?? "", learning.description,
      losses.description, views.description, federation.description,
      "--seed \(seed) --threads \(plan.lanes)",
    ].filter { !$0.isEmpty }.joined(separator: " ")
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    BenchContext.warn(output)
    do {
      return try await Heavy.run { try train(output) }
    } catch {
      throw CommandFailure(model: error)
    }
  }

  private func train(_ output: Output) throws -> ExitStatus {
    let plan = try plan()
    let folder = try PictureFolder(directory: data, split: split, seed: seed)
    output.remark(
      "\(data): \(folder.trainingImages.count) pictures to learn from, "
        + "\(folder.testImages.count) to test with, "
        + printable(folder.classes.joined(separator: ", ")))
    if let remark = folder.splitRemark { output.remark(remark) }
    try OutputPaths.check([plot], inputs: [`init`].compactMap { $0 })
    let initial = try `init`.map { try InitialModel($0) }
    for remark in initial?.remarks(folder, dataset: dataset) ?? [] {
      output.remark(printable(remark))
    }
    let set = try folder.load(side: size, isCancelled: { Interruption.happened })
    let runFolder = try RunFolder(path: out)
    let parameters =
      try initial.map {
        try $0.file.adapted(
          to: plan.configuration, heads: plan.stages[0].recipe.heads, layerScale: plan.layerScale,
          seed: seed)
      }
      ?? ConvNeXt.initialParameters(
        plan.configuration, layerScale: plan.layerScale, seed: seed)
    let run = try TrainingRun(
      plan: plan, description: description(plan), set: set, images: folder.trainingImages,
      parameters: parameters, folder: runFolder, resumes: resume)
    if run.isFinished {
      try finishAgain(run, plan, initial, folder, set, runFolder, output)
    } else if run.hasBegun {
      output.remark("going on from \(runFolder.checkpointPath)")
    }
    let progress = TrainingLine(output)
    let deadline = minutes.map { SystemClock().monotonicNanoseconds() + UInt64($0 * 60e9) }
    let outcome = try run.run(
      observer: { state in
        progress.show(state)
        let isLate = deadline.map { SystemClock().monotonicNanoseconds() > $0 } ?? false
        return !isLate && !Interruption.happened
      },
      epochDone: { progress.done($0) },
      stageDone: { stage, parameters in
        progress.end()
        try finish(stage, parameters, plan, initial, folder, set, runFolder, output)
      })
    if let plot { try Files.write([UInt8](LossCurves.svg(try runFolder.log()).utf8), to: plot) }
    if case .interrupted = outcome {
      progress.end()
      output.remark(
        "stopped: '--resume' with the same options goes on from \(runFolder.checkpointPath)")
      return .interrupted
    }
    return .success
  }

  private var dataset: String { Files.lastComponent(of: Files.absolute(data)) }

  private func fileName(_ stage: TrainingPlan.Stage, _ bits: Int) -> String {
    "\(stage.name)-\(bits).safetensors"
  }

  /// Nothing is left to do but to write models of the last stage that are gone.
  private func finishAgain(
    _ run: TrainingRun, _ plan: TrainingPlan, _ initial: InitialModel?, _ folder: PictureFolder,
    _ set: TrainingSet, _ runFolder: RunFolder, _ output: Output
  ) throws {
    for (number, stage) in plan.stages.enumerated() {
      let missing = stage.recipe.heads.map { fileName(stage, $0) }
        .filter { !Files.exists("\(out)/\($0)") }
      guard let first = missing.first else { continue }
      guard number == plan.stages.count - 1 else {
        throw CommandFailure(
          .notFound, "\(out)/\(first) is gone, and the checkpoint has no parameters of that stage",
          advice: "train anew, in another folder")
      }
      output.remark("\(out)/\(first) is gone: models of the last stage are written again")
      try finish(stage, run.parameters, plan, initial, folder, set, runFolder, output)
      return
    }
    output.remark("\(runFolder.checkpointPath) is of a training that has finished: nothing to do")
  }

  private func finish(
    _ stage: TrainingPlan.Stage, _ parameters: [Float], _ plan: TrainingPlan,
    _ initial: InitialModel?, _ folder: PictureFolder, _ set: TrainingSet, _ runFolder: RunFolder,
    _ output: Output
  ) throws {
    let classes = JSONValue.array(folder.classes.map { .string($0) }).text
    var metadata = [
      ModelFile.Field.side: "\(size)", ModelFile.Field.classes: classes,
      ModelFile.Field.dataset: dataset,
      ModelFile.Field.split: split.rawValue, ModelFile.Field.splitSeed: "\(seed)",
      ModelFile.Field.splitDigest: folder.splitDigest,
      ModelFile.Field.stage: stage.name,
      ModelFile.Field.training: description(plan),
      ModelFile.Field.preprocessing:
        "grey, fitted into a square with its aspect kept, black around it, 0 to 1",
    ]
    metadata[ModelFile.Field.ancestors] = try initial?.descent
    let whole = ModelFile(
      configuration: plan.configuration, parameters: parameters, metadata: metadata,
      heads: stage.recipe.heads)
    // What was learned is what codes find beyond this.
    var pixels: NearestPixels?
    for (index, bits) in stage.recipe.heads.enumerated() {
      let model = try whole.head(index)
      let name = fileName(stage, bits)
      var options = ModelEvaluation.Options()
      (options.attack, options.measuresPixels, options.lanes) = (nil, pixels == nil, plan.lanes)
      let evaluation = try ModelEvaluation(model, set: set, folder: folder, options: options)
      pixels = evaluation.pixels ?? pixels
      try runFolder.write(try model.encoded(precision: .single), to: name)
      report(evaluation, of: "\(out)/\(name)", stage, bits, pixels, output)
    }
  }

  private func report(
    _ evaluation: ModelEvaluation, of path: String, _ stage: TrainingPlan.Stage, _ bits: Int,
    _ pixels: NearestPixels?, _ output: Output
  ) {
    let (clean, chance) = (evaluation.clean, evaluation.shuffled)
    func text(_ value: Double?) -> String { Units.fixed(value ?? 0, digits: 3) }
    output.print(
      "\(path)  mAP@100 \(text(clean.cut(100)?.hashing)) "
        + "(as information retrieval counts \(text(clean.cut(100)?.retrieval))); "
        + "pixels alone \(text(pixels?.cut(100)?.hashing)), chance \(text(chance.cut(100)?.hashing))"
    )
    output.emit([
      "type": "model", "path": .string(path), "stage": .string(stage.name),
      "bits": JSONValue(bits), "map_at_100": JSONValue(clean.cut(100)?.hashing ?? 0),
      "map_at_1000": JSONValue(clean.cut(1000)?.hashing ?? 0),
      "pixel_map_at_100": JSONValue(pixels?.cut(100)?.hashing ?? 0),
      "shuffled_map_at_100": JSONValue(chance.cut(100)?.hashing ?? 0),
    ])
  }
}

/// What a training begins with.
private struct InitialModel {
  let file: ModelFile
  let digest: String

  init(_ path: String) throws {
    let bytes = try Files.contents(of: path, limitBytes: ModelFile.maximumBytes)
    file = try ModelFile.read(bytes: bytes, path)
    digest = sha256(bytes).hex
  }

  func remarks(_ folder: PictureFolder, dataset: String) -> [String] {
    file.descent(digest: digest).compactMap { $0.remark(of: folder, dataset: dataset) }
  }

  /// As model files have it.
  var descent: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      return String(decoding: try encoder.encode(file.descent(digest: digest)), as: UTF8.self)
    }
  }
}
