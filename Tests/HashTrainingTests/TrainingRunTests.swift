import DeepHash
import Foundation
import HashTraining
import Testing

@Suite struct TrainingRunTests {
  private static let configuration = try! ConvNeXtConfiguration(
    channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 16, 16], bits: 8)

  private static func plan(clients: Int) -> TrainingPlan {
    var recipe = TrainingRecipe()
    recipe.heads = [8]
    recipe.batchSize = 4
    recipe.averageDecay = 0.8
    recipe.warmEpochs = 1
    recipe.dropPath = 0.1
    var attacked = recipe
    var attack = HashAttack()
    (attack.steps, attack.stepSize) = (1, 4.0 / 255)
    attacked.attack = attack
    attacked.stage = 1
    attacked.classCodes = .frozen
    var plan = TrainingPlan(
      configuration: configuration, side: 32,
      stages: [
        .init(name: "clean", epochs: 2, recipe: recipe),
        .init(name: "adversarial", epochs: 2, recipe: attacked),
      ])
    plan.clients = clients
    if clients > 1 {
      plan.localEpochs = 2
      plan.stages[0].epochs = 4
      plan.fraction = 0.6
    }
    return plan
  }

  /// Everything that a run leaves behind.
  private struct Trace: Equatable {
    var models: [String: [Float]] = [:]
    var epochs: [String] = []
  }

  private static func text(_ report: EpochReport) -> String {
    "\(report.stage) \(report.epoch)/\(report.epochs) of \(report.client): \(report.loss) \(report.original) "
      + "\(report.adversarial) \(report.quantization) \(report.balance) \(report.gradientNorm)"
  }

  private static func run(
    _ plan: TrainingPlan, _ set: TrainingSet, _ folder: RunFolder, resumes: Bool,
    stopAfter batches: Int = .max, into trace: inout Trace
  ) throws -> TrainingRun.Outcome {
    let run = try TrainingRun(
      plan: plan, description: "a test of \(plan.clients)", set: set,
      images: Array(0..<set.count),
      parameters: ConvNeXt.initialParameters(
        plan.configuration, layerScale: 0.5, seed: 1), folder: folder, resumes: resumes)
    var count = 0
    var models = trace.models
    let outcome = try run.run(
      observer: { _ in
        count += 1
        return count < batches
      }, epochDone: { _ in },
      stageDone: { models[$0.name] = $1 })
    trace.models = models
    trace.epochs = try folder.log().map(text)
    return outcome
  }

  @Test(arguments: [1, 3]) func goesOnAfterEveryBatchAsIfNothingHadHappened(clients: Int) throws {
    let set = Pictures.synthetic(clients * 8)
    let plan = Self.plan(clients: clients)
    let whole = try Scratch()
    var expected = Trace()
    let outcome = try Self.run(plan, set, whole.folder, resumes: false, into: &expected)
    guard case .finished = outcome else {
      Issue.record("the run did not finish")
      return
    }
    #expect(expected.models.keys.sorted() == ["adversarial", "clean"])
    #expect(expected.epochs.count == (clients == 1 ? 4 : 2 * (4 + 2)))

    let parts = try Scratch()
    var trace = Trace()
    var tries = 0
    while true {
      tries += 1
      let outcome = try Self.run(
        plan, set, parts.folder, resumes: tries > 1, stopAfter: 1, into: &trace)
      if case .finished = outcome { break }
      if tries > 1000 { break }
    }
    #expect(tries == (clients == 1 ? 8 : 24))
    #expect(trace == expected)
  }

  /// A round counts as many steps as all of its clients have taken, as pooled pictures would have.
  @Test func theAverageOverRoundsForgetsAsOneOfPooledPicturesDoes() throws {
    let set = Pictures.synthetic(24)
    func models(rounds: Int, decay: Double) throws -> [Float] {
      var plan = Self.plan(clients: 3)
      (plan.fraction, plan.localEpochs) = (1, 1)
      plan.stages = [plan.stages[0]]
      plan.stages[0].epochs = rounds
      plan.stages[0].recipe.averageDecay = decay
      plan.stages[0].recipe.schedule.shape = .constant
      plan.stages[0].recipe.schedule.warmUpEpochs = 0
      let scratch = try Scratch()
      var trace = Trace()
      _ = try Self.run(plan, set, scratch.folder, resumes: false, into: &trace)
      #expect(trace.epochs.count == 3 * rounds)
      return try #require(trace.models["clean"])
    }
    let decay = 0.8
    let batches = 24 / Self.plan(clients: 3).stages[0].recipe.batchSize
    let ends = try (1...3).map { try models(rounds: $0, decay: 0) }
    var average = ConvNeXt.initialParameters(
      Self.plan(clients: 3).configuration, layerScale: 0.5, seed: 1)
    for (round, end) in ends.enumerated() {
      let share = Float(max(1 - pow(decay, Double(batches)), 1 / Double(round + 2)))
      for at in average.indices { average[at] += share * (end[at] - average[at]) }
    }
    #expect(try models(rounds: 3, decay: decay) == average)
  }

  @Test func oneClientIsNoFederation() throws {
    let set = Pictures.synthetic(12)
    var traces: [Trace] = []
    for localEpochs in [1, 2] {
      var plan = Self.plan(clients: 1)
      plan.localEpochs = localEpochs
      let scratch = try Scratch()
      var trace = Trace()
      _ = try Self.run(plan, set, scratch.folder, resumes: false, into: &trace)
      traces.append(trace)
    }
    #expect(traces[0] == traces[1])
  }

  @Test(arguments: [true, false]) func aRoundIsTheMeanOfWhatItsClientsComeTo(weighted: Bool) throws
  {
    let set = Pictures.synthetic(24)
    var plan = Self.plan(clients: 2)
    (plan.fraction, plan.localEpochs, plan.labelSkew, plan.weighted) = (1, 1, 0.5, weighted)
    plan.stages = [plan.stages[0]]
    plan.stages[0].epochs = 1
    plan.stages[0].recipe.averageDecay = 0
    let scratch = try Scratch()
    var trace = Trace()
    _ = try Self.run(plan, set, scratch.folder, resumes: false, into: &trace)

    // Each client by itself, from the same beginning and with the class codes of all.
    let parameters = ConvNeXt.initialParameters(plan.configuration, layerScale: 0.5, seed: 1)
    let parts = plan.parts(of: Array(0..<24), labels: set.labels)
    #expect(parts[0].count != parts[1].count)
    // And with dice of their own: what they had in common, the mean would keep.
    let seeds = [0, 1].map { plan.seed(ofClient: $0, plan.stages[0]) }
    #expect(Set(seeds + [plan.stages[0].recipe.seed]).count == 3)
    let weights = parts.map { weighted ? Double($0.count) : 1 }
    var mean = [Double](repeating: 0, count: parameters.count)
    for (client, (part, weight)) in zip(parts, weights).enumerated() {
      var recipe = plan.stages[0].recipe
      recipe.seed = seeds[client]
      let network = try TrainableNetwork(
        configuration: plan.configuration, parameters: parameters, height: 32, width: 32, lanes: 2)
      let trainer = try HashTrainer(network: network, set: set, images: part, recipe: recipe)
      _ = try trainer.run(epoch: 0, of: 1, agreesOnCodes: true) { _, _ in true }
      for (at, value) in network.parameters.enumerated() {
        mean[at] += weight / weights.reduce(0, +) * Double(value)
      }
    }
    let model = try #require(trace.models["clean"])
    for (value, expected) in zip(model, mean) { #expect(abs(Double(value) - expected) < 1e-5) }
  }

  @Test func theLastRoundHasNoMoreEpochsThanAreLeft() throws {
    let set = Pictures.synthetic(8)
    var plan = Self.plan(clients: 1)
    plan.stages = [plan.stages[0]]
    (plan.stages[0].epochs, plan.localEpochs) = (3, 2)
    let scratch = try Scratch()
    var trace = Trace()
    _ = try Self.run(plan, set, scratch.folder, resumes: false, into: &trace)
    #expect(try scratch.folder.log().map(\.epoch) == [1, 2, 3])
  }

  @Test func whatWasThereIsNotOverwritten() throws {
    let set = Pictures.synthetic(8)
    let plan = Self.plan(clients: 1)
    let scratch = try Scratch()
    var trace = Trace()
    _ = try Self.run(plan, set, scratch.folder, resumes: false, stopAfter: 1, into: &trace)
    #expect(throws: RunFolderError.inUse(path: scratch.path)) {
      _ = try Self.run(plan, set, scratch.folder, resumes: false, into: &trace)
    }
    // A line that was being written when the power went.
    let log = try String(contentsOfFile: scratch.folder.logPath, encoding: .utf8)
    try scratch.write(log + #"{"stage":"cl"#, to: "log.jsonl")
    _ = try Self.run(plan, set, scratch.folder, resumes: true, into: &trace)
    #expect(try scratch.folder.log().count == 4)
    // A log alone is somebody's training, too.
    try FileManager.default.removeItem(atPath: scratch.folder.checkpointPath)
    #expect(throws: RunFolderError.inUse(path: scratch.path)) {
      _ = try Self.run(plan, set, scratch.folder, resumes: false, into: &trace)
    }
  }

  @Test func picturesGoToClientsOnceEach() {
    let labels = (0..<300).map { $0 % 3 }
    for skew in [nil, 1e-6, 1e-3, 0.1, 1.0, 100.0] {
      var plan = Self.plan(clients: 5)
      plan.labelSkew = skew
      let parts = plan.parts(of: Array(0..<300), labels: labels)
      #expect(parts.count == 5)
      #expect(parts.joined().sorted() == Array(0..<300))
      #expect(plan.parts(of: Array(0..<300), labels: labels) == parts)
      // How far a client's share of the first class is from a third.
      let largest =
        parts.map { part in
          part.isEmpty
            ? 0 : abs(Double(part.count { labels[$0] == 0 }) / Double(part.count) - 1.0 / 3)
        }.max() ?? 0
      if skew == 0.1 { #expect(largest > 0.3) }
      if skew == nil { #expect(largest < 0.15) }
      // Of the smallest concentration all of a class falls to one client.
      if let skew, skew < 1e-4 {
        for label in 0..<3 {
          #expect((parts.map { part in part.count { labels[$0] == label } }.max() ?? 0) == 100)
        }
      }
    }
  }

  private static func begin(
    _ plan: TrainingPlan, _ set: TrainingSet, _ folder: RunFolder, resumes: Bool
  ) throws -> TrainingRun {
    try TrainingRun(
      plan: plan, description: "a test of \(plan.clients)", set: set, images: Array(0..<set.count),
      parameters: ConvNeXt.initialParameters(plan.configuration, layerScale: 0.5, seed: 1),
      folder: folder, resumes: resumes)
  }

  @Test func aRunThatEndedAtOnceGoesOn() throws {
    let set = Pictures.synthetic(12)
    let plan = Self.plan(clients: 1)
    let (whole, killed) = (try Scratch(), try Scratch())
    var (expected, found) = (Trace(), Trace())
    _ = try Self.run(plan, set, whole.folder, resumes: false, into: &expected)
    // Killed after its first files were there and before the first batch.
    _ = try Self.begin(plan, set, killed.folder, resumes: false)
    _ = try Self.run(plan, set, killed.folder, resumes: true, into: &found)
    #expect(found == expected)
  }

  @Test func aNetworkThatComesApartIsNeverWritten() throws {
    let set = Pictures.synthetic(12)
    var plan = Self.plan(clients: 1)
    plan.stages = [plan.stages[0]]
    plan.stages[0].epochs = 1
    // One batch, whose own loss is still a number.
    plan.stages[0].recipe.batchSize = 12
    plan.stages[0].recipe.optimizer = .sgd
    plan.stages[0].recipe.weightDecay = 0
    plan.stages[0].recipe.averageDecay = 0
    plan.stages[0].recipe.schedule.rate = 1e30
    plan.stages[0].recipe.schedule.warmUpEpochs = 0
    plan.stages[0].recipe.schedule.shape = .constant
    let scratch = try Scratch()
    let run = try Self.begin(plan, set, scratch.folder, resumes: false)
    let before = try Data(contentsOf: URL(filePath: scratch.folder.checkpointPath))
    var stages = 0
    let error = #expect(throws: TrainingError.self) {
      _ = try run.run(
        observer: { _ in true }, epochDone: { _ in }, stageDone: { _, _ in stages += 1 })
    }
    #expect(error == .notFinite(what: "network's output", epoch: 0, batch: nil))
    #expect(stages == 0)
    #expect(try Data(contentsOf: URL(filePath: scratch.folder.checkpointPath)) == before)
  }

  @Test func twoTrainingsDoNotWriteToOneFolder() throws {
    let scratch = try Scratch()
    #expect(throws: RunFolderError.locked(path: scratch.path)) {
      try RunFolder(path: scratch.path)
    }
  }

  @Test func aWriteThatFailsLeavesNothing() throws {
    let scratch = try Scratch()
    try scratch.write("x", to: "model/inside")
    #expect(throws: RunFolderError.self) { try scratch.folder.write([1, 2, 3], to: "model") }
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: scratch.path).sorted()
        == ["lock", "model"])
  }

  @Test func modelsOfOthersAreNotOverwritten() throws {
    let scratch = try Scratch()
    try scratch.write("a model", to: "clean-8.safetensors")
    #expect(throws: RunFolderError.inUse(path: scratch.path)) {
      try Self.begin(Self.plan(clients: 1), Pictures.synthetic(12), scratch.folder, resumes: false)
    }
  }

  @Test func damagedLogsAndCheckpointsAreNamed() throws {
    let set = Pictures.synthetic(12)
    let plan = Self.plan(clients: 1)
    let scratch = try Scratch()
    var trace = Trace()
    _ = try Self.run(plan, set, scratch.folder, resumes: false, stopAfter: 4, into: &trace)
    let log = try Data(contentsOf: URL(filePath: scratch.folder.logPath))
    let line = try #require(String(decoding: log, as: UTF8.self).split(separator: "\n").first)
    let absurd = line.replacing("\"epoch\":1,", with: "\"epoch\":-9223372036854775808,")
    #expect(absurd != line)
    try scratch.write(Array(absurd.utf8) + [0x0A, 0xFF, 0xFE, 0x0A] + Array(log), to: "log.jsonl")
    _ = try Self.begin(plan, set, scratch.folder, resumes: true)
    #expect(try scratch.folder.log().map(\.epoch) == [1])
    try FileManager.default.removeItem(atPath: scratch.folder.checkpointPath)
    try FileManager.default.createDirectory(
      atPath: scratch.folder.checkpointPath, withIntermediateDirectories: false)
    let error = #expect(throws: RunFolderError.self) {
      try Self.begin(plan, set, scratch.folder, resumes: true)
    }
    guard case .damagedCheckpoint = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func aClientWithoutEnoughPicturesIsNamed() throws {
    var plan = Self.plan(clients: 3)
    plan.stages[0].recipe.batchSize = 9
    let scratch = try Scratch()
    #expect(
      throws: TrainingError.clientWithTooFewImages(client: 0, count: 8, batchSize: 9)
    ) { try Self.begin(plan, Pictures.synthetic(24), scratch.folder, resumes: false) }
  }

  @Test func aRoundAsksItsShareOfClients() {
    var plan = Self.plan(clients: 5)
    plan.fraction = 0.5
    let rounds = (0..<40).map { plan.selection(stage: 0, round: $0) }
    #expect(rounds.allSatisfy { $0.count == 3 && Set($0).count == 3 && $0 == $0.sorted() })
    #expect(Set(rounds.joined()) == Set(0..<5))
    plan.fraction = 1
    #expect(plan.selection(stage: 0, round: 3) == Array(0..<5))
  }

  @Test func aCheckpointOfAnotherTrainingOrADamagedOneIsRefused() throws {
    let set = Pictures.synthetic(8)
    let plan = Self.plan(clients: 1)
    let scratch = try Scratch()
    var trace = Trace()
    _ = try Self.run(plan, set, scratch.folder, resumes: false, stopAfter: 2, into: &trace)
    let path = scratch.folder.checkpointPath
    let intact = try Data(contentsOf: URL(filePath: path))

    func resume(_ description: String) throws {
      _ = try TrainingRun(
        plan: plan, description: description, set: set, images: Array(0..<8),
        parameters: ConvNeXt.initialParameters(plan.configuration, layerScale: 0.5, seed: 1),
        folder: scratch.folder, resumes: true)
    }
    try resume("a test of 1")
    let other = TrainingSet(
      labels: set.labels, classes: set.classes, channels: 1, height: 32, width: 32
    ) { number, out in
      set.withImage(number) { _ = out.initialize(from: $0) }
      if number == 5 { out[77] += 0.25 }
    }
    #expect(throws: RunFolderError.otherOrigin(what: "pictures")) {
      _ = try TrainingRun(
        plan: plan, description: "a test of 1", set: other, images: Array(0..<8),
        parameters: ConvNeXt.initialParameters(plan.configuration, layerScale: 0.5, seed: 1),
        folder: scratch.folder, resumes: true)
    }
    // With a picture more to test with, figures of one run would be of two test sets.
    let larger = Pictures.synthetic(9)
    #expect(throws: RunFolderError.otherOrigin(what: "test pictures")) {
      _ = try TrainingRun(
        plan: plan, description: "a test of 1", set: larger, images: Array(0..<8),
        parameters: ConvNeXt.initialParameters(plan.configuration, layerScale: 0.5, seed: 1),
        folder: scratch.folder, resumes: true)
    }
    #expect(throws: RunFolderError.otherOrigin(what: "parameters to begin with")) {
      _ = try TrainingRun(
        plan: plan, description: "a test of 1", set: set, images: Array(0..<8),
        parameters: ConvNeXt.initialParameters(plan.configuration, layerScale: 0.5, seed: 2),
        folder: scratch.folder, resumes: true)
    }
    #expect(throws: RunFolderError.otherTraining(theirs: "a test of 1", ours: "another")) {
      try resume("another")
    }
    for length in stride(from: 0, to: intact.count, by: max(1, intact.count / 60)) {
      try intact.prefix(length).write(to: URL(filePath: path))
      #expect(throws: RunFolderError.self, "\(length) bytes") { try resume("a test of 1") }
    }
    // Every bit counts: in the header, in positions, in parameters and moments.
    for at in stride(from: 0, to: intact.count, by: 509) {
      var damaged = intact
      damaged[at] ^= 1 << UInt8(at % 8)
      try damaged.write(to: URL(filePath: path))
      #expect(throws: RunFolderError.self, "byte \(at)") { try resume("a test of 1") }
    }
    // Spaces after the header mean nothing, so nothing is lost where one is damaged; everything else is refused.
    try intact.write(to: URL(filePath: path))
    try resume("a test of 1")
  }

  @Test func trainingNeedsEveryClass() throws {
    let set = Pictures.synthetic(12)
    let scratch = try Scratch()
    let plan = Self.plan(clients: 1)
    #expect(throws: TrainingError.classWithoutImages("c")) {
      _ = try TrainingRun(
        plan: plan, description: "", set: set,
        images: (0..<12).filter { set.labels[$0] != 2 },
        parameters: ConvNeXt.initialParameters(plan.configuration, layerScale: 0.5, seed: 1),
        folder: scratch.folder, resumes: false)
    }
  }
}
