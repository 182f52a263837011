import ArgumentParser
import Base
import DeepHash
import HashTraining

struct ModelEvalCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Measure how well models find pictures of the same class, and under attack.",
    discussion: """
      Each model is judged by the split that it was trained on: test pictures are the queries, training \
      pictures the database. Name the models of both splits, and those before and after adversarial training, to \
      have them side by side. Attacks (targeted, towards the code of another class; and away from the \
      own) change every test picture by at most 8/255 in 100 steps.

      The random split leaks: neighbouring slices of one person stand on both sides. What the pixels alone find, \
      with nothing learned, stands beside every figure.

      EXAMPLE
        sfmedir model eval Models/tmri-random-*.safetensors --data tmri/ --bits 16 --markdown results.md
        sfmedir model eval run/clean-16.safetensors --data tmri/ --json

      JSON: a line {"type":"evaluation"} for each model with model, dataset, protocol, stage, bits, \
      database, queries (how many), map_at_100, map_at_1000, adversarial_map_at_100 (under the \
      targeted attack, by the true label), targeted_map_at_100 (by the label that the attacker wanted), \
      nontargeted_map_at_100, the same with _retrieval (divided as information retrieval does) and \
      _tie_aware, shuffled_map_at_100, pixel_accuracy, pixel_map_at_100, attack_linf, attack_l2, attack_mse, \
      nontargeted_linf, nontargeted_l2, nontargeted_mse, attack_steps, attack_radius, attack_seed, \
      smallest_class_distance, cuts, adversarial_cuts, pixel_cuts, shuffled_cuts (for each k: k, precision, recall, \
      map), radii, adversarial_radii (for each Hamming radius: radius, precision, recall).

      Exit codes: 0 measured; 65 bad pictures or models.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "Model files.", completion: .file(extensions: ["safetensors"]))
  var models: [String]
  @Option(help: ArgumentHelp("The folder of pictures.", valueName: "dir"), completion: .directory)
  var data: String
  @Option(
    help: ArgumentHelp(
      "Only codes of these lengths, of models that make several.", valueName: "list"))
  var bits: String?
  @Option(help: "Instead of the split that a model was trained on: group or random.")
  var split: SplitProtocol?
  @Option(help: ArgumentHelp("Steps of attacks; 0 for none.", valueName: "count"))
  var attackSteps = 100
  @Option(help: ArgumentHelp("Attack so many queries only.", valueName: "count"))
  var attackQueries: Int?
  @Option(help: ArgumentHelp("Write the tables there.", valueName: "file")) var markdown: String?
  @Option(
    help: ArgumentHelp("Write precision over recall and over k there, as SVG.", valueName: "file"))
  var plot: String?
  @Option(help: "Of the attackers' wishes and starting points.") var seed: UInt64 = 5
  @Option(help: ArgumentHelp("Threads (default: one a core).", valueName: "count"))
  var threads: Int?

  func validate() throws {
    guard (0...10_000).contains(attackSteps), (attackQueries ?? 1) > 0 else {
      throw ValidationError("--attack-steps is 0 to 10000, --attack-queries 1 or more")
    }
    guard (1...64).contains(threads ?? 1) else { throw ValidationError("--threads is 1 to 64") }
    guard bits.map({ NumberList.numbers($0) != nil }) ?? true else {
      throw ValidationError("--bits is a list of numbers, not '\(bits ?? "")'")
    }
  }

  struct Row: Sendable {
    var path: String
    var model: ModelFile
    var split: SplitProtocol
    var evaluation: ModelEvaluation
    var stage: String? { model.metadata[ModelFile.Field.stage] }
    var name: String {
      let name = Files.lastComponent(of: path)
      return name.hasSuffix(".safetensors") ? String(name.dropLast(".safetensors".count)) : name
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    do {
      let rows = try await Heavy.run { try evaluate(output) }
      let tables = EvaluationTables(rows, dataset: Files.lastComponent(of: Files.absolute(data)))
      for table in tables.tables {
        output.print()
        output.print(output.styled(table.title, .bold))
        output.print(table.table)
      }
      for note in tables.notes { output.print(note) }
      if let markdown { try Files.write([UInt8](tables.markdown.utf8), to: markdown) }
      if let plot { try Files.write([UInt8](tables.svg.utf8), to: plot) }
      return .success
    } catch {
      throw CommandFailure(model: error)
    }
  }

  /// Pictures of one split, and what they find without a network.
  private struct Pictures {
    var folder: PictureFolder
    var set: TrainingSet
    var nearest: NearestPixels?
  }

  private func evaluate(_ output: Output) throws -> [Row] {
    var rows: [Row] = []
    var known: [String: Pictures] = [:]
    let wanted = bits.flatMap { NumberList.numbers($0) }
    for path in models {
      let file = try ModelFile.read(path)
      let lengths = file.heads.filter { wanted?.contains($0) ?? true }
      if lengths.isEmpty {
        output.remark("\(path) makes codes of \(file.lengths), none of them asked for")
      }
      guard let split = split ?? file.split else {
        throw CommandFailure(
          .badInput, "\(path) does not say which split it was trained on",
          advice: "say which with --split")
      }
      if let own = file.split, own != split {
        output.remark(
          "\(path) was trained on the \(own.rawValue) split: by the other one it is asked for pictures that it has learned"
        )
      }
      let key = "\(split.rawValue) \(file.splitSeed) \(file.side)"
      var pictures = try known[key] ?? load(file, split, output)
      for length in lengths {
        if Interruption.happened { throw CancellationError() }
        guard let model = try file.head(bits: length) else { continue }
        try model.checkMakesCodes()
        var options = options
        options.measuresPixels = pictures.nearest == nil
        var evaluation = try ModelEvaluation(
          model, set: pictures.set, folder: pictures.folder, options: options
        ) { output.remark("\(path), \(length) bits: \($0)") }
        pictures.nearest = evaluation.pixels ?? pictures.nearest
        evaluation.pixels = pictures.nearest
        let row = Row(path: path, model: model, split: split, evaluation: evaluation)
        output.emit(
          EvaluationTables.line(row, dataset: Files.lastComponent(of: Files.absolute(data))))
        rows.append(row)
      }
      known[key] = pictures
    }
    if rows.isEmpty {
      throw CommandFailure(.badInput, "no model makes codes of \(bits ?? "") bits")
    }
    return rows
  }

  private func load(
    _ model: ModelFile, _ split: SplitProtocol, _ output: Output
  ) throws -> Pictures {
    let folder = try PictureFolder(directory: data, split: split, seed: model.splitSeed)
    if let remark = folder.splitRemark { output.remark(remark) }
    return Pictures(folder: folder, set: try folder.load(side: model.side))
  }

  private var options: ModelEvaluation.Options {
    var options = ModelEvaluation.Options()
    options.seed = seed
    options.lanes = threads ?? min(64, ProcessTable.processorCount)
    options.attackedQueries = attackQueries
    options.attack?.steps = attackSteps
    if attackSteps == 0 { options.attack = nil }
    options.isCancelled = { Interruption.happened }
    return options
  }
}

/// Hours of computing do not belong on a cooperative thread.
enum Heavy {
  static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws
    -> Value
  {
    try await withCheckedThrowingContinuation { continuation in
      let failure = startDetachedThread { continuation.resume(with: Result { try body() }) }
      if failure != 0 {
        continuation.resume(throwing: CommandFailure(.internalError, "no thread: \(failure)"))
      }
    }
  }
}
