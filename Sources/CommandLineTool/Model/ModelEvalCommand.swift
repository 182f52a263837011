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

      JSON: a line {"type":"evaluation"} for each model and length of its codes with model, dataset, protocol, stage, bits, \
      database, queries (how many), model_sha256, map_at_100, map_at_1000, adversarial_map_at_100 (under the \
      targeted attack, by the true label), targeted_map_at_100 (by the label that the attacker wanted), \
      nontargeted_map_at_100, shuffled_map_at_100, the same with _retrieval (divided as information retrieval does) and \
      _tie_aware, pixel_accuracy, pixel_map_at_100, pixel_map_at_100_retrieval, attack_linf, attack_l2, attack_mse, \
      nontargeted_linf, nontargeted_l2, nontargeted_mse, attacked_queries (how many), attack_steps, attack_radius, attack_seed, \
      smallest_class_distance, cuts, adversarial_cuts, pixel_cuts, shuffled_cuts (for each k: k, precision, recall, \
      map), radii, adversarial_radii (for each Hamming radius within which something is found: radius, precision, recall), remarks (why figures may not mean what \
      they seem to). Without attacks there are no keys of theirs.

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
  @Option(
    help: ArgumentHelp("Write the lines of --json there, whatever is printed.", valueName: "file"))
  var figures: String?
  @Option(help: "Of the attackers' wishes and starting points.") var seed: UInt64 = 5
  @Option(help: ArgumentHelp("Threads (default: one a core).", valueName: "count"))
  var threads: Int?

  func validate() throws {
    guard (0...10_000).contains(attackSteps), (attackQueries ?? 1) > 0 else {
      throw ValidationError("--attack-steps is 0 to 10000, --attack-queries 1 or more")
    }
    guard NetworkThreads.accepted.contains(threads ?? 1) else {
      throw ValidationError("--threads is 1 to 64")
    }
    guard bits.map({ NumberList.numbers($0) != nil }) ?? true else {
      throw ValidationError("--bits is a list of numbers, not '\(bits ?? "")'")
    }
  }

  struct Row: Sendable {
    var path: String
    /// The head whose codes were measured, and the file that it stands in.
    var model: ModelFile
    var digest: String
    var split: SplitProtocol
    var evaluation: ModelEvaluation
    /// Rows of the same pictures have this in common.
    var pictures: String
    /// Why its figures may not mean what they seem to.
    var remarks: [String]
    var stage: String? { model.metadata[ModelFile.Field.stage] }
    var name: String {
      let name = Files.lastComponent(of: path)
      return name.hasSuffix(".safetensors") ? String(name.dropLast(".safetensors".count)) : name
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    do {
      let rows = try await Heavy.run { try evaluate(output) }
      if let figures {
        let lines = rows.map { JSONValue.object(EvaluationTables.line($0, dataset: dataset)).text }
        try Files.write([UInt8](lines.map { $0 + "\n" }.joined().utf8), to: figures)
      }
      let tables = EvaluationTables(rows, dataset: dataset)
      for table in tables.tables {
        output.print()
        output.print(output.styled(table.title, .bold))
        output.print(table.table)
      }
      for note in tables.notes { output.print(printable(note)) }
      if let markdown { try Files.write([UInt8](tables.markdown.utf8), to: markdown) }
      if let plot { try Files.write([UInt8](tables.svg.utf8), to: plot) }
      return .success
    } catch {
      throw CommandFailure(model: error)
    }
  }

  private var dataset: String { Files.lastComponent(of: Files.absolute(data)) }

  /// Pictures of one split, and what they find without a network.
  private struct Pictures {
    var folder: PictureFolder
    var set: TrainingSet
    var nearest: NearestPixels?
  }

  /// What is asked for, checked before anything is measured.
  private struct Task {
    var path: String
    var digest: String
    var file: ModelFile
    var lengths: [Int]
    var split: SplitProtocol
    var key: String { "\(split.rawValue) \(file.splitSeed) \(file.side)" }
  }

  private func tasks(_ output: Output) throws -> [Task] {
    try OutputPaths.check([markdown, plot, figures], inputs: models)
    let wanted = bits.flatMap { NumberList.numbers($0) }
    let tasks = try models.map { path -> Task in
      let bytes = try Files.contents(of: path, limitBytes: ModelFile.maximumBytes)
      let file = try ModelFile.read(bytes: bytes, path)
      do { try file.head(0).checkMakesCodes() } catch {
        throw CommandFailure(.badInput, "\(path): \(error)")
      }
      let lengths = file.heads.filter { wanted?.contains($0) ?? true }
      if lengths.isEmpty {
        output.remark("\(path) makes codes of \(file.lengths), none of them asked for")
      }
      guard let split = split ?? file.split else {
        throw CommandFailure(
          .badInput, "\(path) does not say which split it was trained on",
          advice: "say which with --split")
      }
      return Task(
        path: path, digest: sha256(bytes).hex, file: file, lengths: lengths, split: split)
    }
    if tasks.allSatisfy(\.lengths.isEmpty) {
      throw CommandFailure(.badInput, "no model makes codes of \(bits ?? "") bits")
    }
    return tasks
  }

  private func evaluate(_ output: Output) throws -> [Row] {
    var rows: [Row] = []
    var known: [String: Pictures] = [:]
    for task in try tasks(output) where !task.lengths.isEmpty {
      var pictures = try known[task.key] ?? load(task, output)
      let remarks = remarks(task, pictures)
      for remark in remarks { output.remark("\(task.path): \(printable(remark))") }
      for length in task.lengths {
        if Interruption.happened { throw CancellationError() }
        guard let model = try task.file.head(bits: length) else { continue }
        let line = AttackLine(output)
        var options = options
        options.measuresPixels = pictures.nearest == nil
        options.attackProgress = { line.show($0) }
        var evaluation = try ModelEvaluation(
          model, set: pictures.set, folder: pictures.folder, options: options
        ) { line.begin("\(task.path), \(length) bits: \($0)") }
        line.end()
        pictures.nearest = evaluation.pixels ?? pictures.nearest
        evaluation.pixels = pictures.nearest
        let row = Row(
          path: task.path, model: model, digest: task.digest, split: task.split,
          evaluation: evaluation, pictures: task.key,
          remarks: remarks + [pictures.folder.splitRemark].compactMap { $0 })
        output.emit(EvaluationTables.line(row, dataset: dataset))
        rows.append(row)
      }
      known[task.key] = pictures
    }
    return rows
  }

  private func load(_ task: Task, _ output: Output) throws -> Pictures {
    let folder = try PictureFolder(
      directory: data, split: task.split, seed: task.file.splitSeed)
    if let remark = folder.splitRemark { output.remark(remark) }
    return Pictures(
      folder: folder,
      set: try folder.load(side: task.file.side, isCancelled: { Interruption.happened }))
  }

  /// Why figures may not mean what they seem to.
  private func remarks(_ task: Task, _ pictures: Pictures) -> [String] {
    let folder = pictures.folder
    var remarks = task.file.remarks(split: task.split, of: folder, dataset: dataset)
    let learned = Set(folder.trainingImages.map { folder.pictures[$0].label })
    for (number, name) in folder.classes.enumerated() where !learned.contains(number) {
      remarks.append(
        "'\(name)' has test pictures only: nothing relevant can be found for them, and whoever wants that class found cannot"
      )
    }
    if folder.trainingImages.count < EvaluationTables.k {
      remarks.append(
        "the database has \(folder.trainingImages.count) pictures: figures at more are of all of them"
      )
    }
    return remarks
  }

  private var options: ModelEvaluation.Options {
    var options = ModelEvaluation.Options()
    options.seed = seed
    options.lanes = NetworkThreads.count(threads)
    options.attackedQueries = attackQueries
    options.attack?.steps = attackSteps
    if attackSteps == 0 { options.attack = nil }
    options.isCancelled = { Interruption.happened }
    return options
  }
}

/// How far an attack is: on a terminal all the time, elsewhere a line each half minute.
private final class AttackLine: Sendable {
  private struct State {
    var title = ""
    var lastDraw: UInt64 = 0
    var isDrawn = false
  }

  private let output: Output
  private let clock = SystemClock()
  private let state = Locked(State())
  private static let (drawNanoseconds, lineNanoseconds): (UInt64, UInt64) = (
    200_000_000, 30_000_000_000
  )

  init(_ output: Output) { self.output = output }

  func begin(_ title: String) {
    end()
    output.remark(title)
    state.withLock {
      $0.title = title
      $0.lastDraw = clock.monotonicNanoseconds()
    }
  }

  func show(_ done: Double) {
    if output.json { return }
    let now = clock.monotonicNanoseconds()
    // Written outside the lock: a terminal that stands still would hold up all lanes.
    let due = state.withLock { state -> String? in
      let wait = output.errorIsTerminal ? Self.drawNanoseconds : Self.lineNanoseconds
      guard now - state.lastDraw > wait else { return nil }
      state.lastDraw = now
      state.isDrawn = output.errorIsTerminal
      return "\(state.title), \(Int(100 * done)) %"
    }
    guard let due else { return }
    if output.errorIsTerminal {
      output.writeProgress("\r\u{1B}[K" + String(due.prefix(max(0, output.terminalWidth - 1))))
    } else {
      output.remark(due)
    }
  }

  func end() {
    let wasDrawn = state.withLock { state -> Bool in
      defer { state.isDrawn = false }
      return state.isDrawn
    }
    if wasDrawn { output.writeProgress("\r\u{1B}[K") }
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
