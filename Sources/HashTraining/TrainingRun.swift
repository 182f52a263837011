import Base
import DeepHash
import Glibc

/// What an epoch of training came to.
public struct EpochReport: Sendable, Codable, Equatable {
  public var stage: String
  /// Epochs and rounds count from 1.
  public var epoch: Int
  public var epochs: Int
  public var client: Int
  public var loss: Double
  /// L_ori, L_adl, L_quant and L_bit, before their weights.
  public var original: Double
  public var adversarial: Double
  public var quantization: Double
  public var balance: Double
  public var rate: Double
  public var gradientNorm: Double
  public var imagesPerSecond: Double
  /// Of the whole run so far.
  public var seconds: Double

  public init(
    stage: String, epoch: Int, epochs: Int, client: Int, loss: Double, original: Double,
    adversarial: Double, quantization: Double, balance: Double, rate: Double, gradientNorm: Double,
    imagesPerSecond: Double, seconds: Double
  ) {
    self.stage = stage
    self.epoch = epoch
    self.epochs = epochs
    self.client = client
    self.loss = loss
    self.original = original
    self.adversarial = adversarial
    self.quantization = quantization
    self.balance = balance
    self.rate = rate
    self.gradientNorm = gradientNorm
    self.imagesPerSecond = imagesPerSecond
    self.seconds = seconds
  }

  enum CodingKeys: String, CodingKey {
    case stage, epoch, epochs, client, loss
    case original = "l_ori"
    case adversarial = "l_adl"
    case quantization = "l_quant"
    case balance = "l_bit"
    case rate
    case gradientNorm = "gradient_norm"
    case imagesPerSecond = "images_per_s"
    case seconds
  }
}

/// Where a run stands, during an epoch.
public struct TrainingProgress: Sendable {
  public var report: EpochReport
  public var batch: Int
  public var batches: Int
  /// Share of the whole run, by the work that it takes.
  public var done: Double
}

/// A training from its first step to its last, over interruptions: stages, rounds of a federation, epochs, batches.
///
/// Writes `checkpoint.safetensors`, `log.jsonl` and the models of each stage into a folder of its own. One call at a time.
public final class TrainingRun {
  /// What comes next.
  struct Position: Equatable, Codable {
    var stage = 0
    var round = 0
    /// Index among the round's selected clients.
    var turn = 0
    /// Of the client's in this round.
    var epoch = 0
    var batch = 0
  }

  public enum Outcome: Sendable {
    case finished
    /// A checkpoint has been written.
    case interrupted
  }

  public let plan: TrainingPlan
  /// What the plan was made of; a checkpoint of another one is refused.
  let description: String
  let set: TrainingSet
  let network: TrainableNetwork
  let parts: [[Int]]
  let folder: RunFolder

  var position = Position()
  var trainers: [HashTrainer] = []
  /// What the round began with.
  var global: [Float]
  /// Weighted sum of what the round's clients have come to, and of their weights.
  var gathered: [Float] = []
  var gatheredWeight = 0.0
  /// Moving average of a federation's parameters over rounds; a single client keeps its own.
  var average: [Float] = []
  /// M as the round's clients agreed on it: [head][class][l].
  var agreedCodes: [[[Float]]] = []
  /// Digests of the pictures and of the parameters that the run began with.
  let origin: Origin
  /// Sums of the epoch under way.
  var partial = PartialEpoch()
  var seconds = 0.0

  struct PartialEpoch: Codable {
    var batches = 0
    var terms: [Double] = [0, 0, 0, 0, 0]
    var gradientNorm = 0.0
    var seconds = 0.0
  }

  /// What a run learns from and begins with, so that it does not go on with something else.
  struct Origin: Codable, Equatable {
    var pictures: String
    /// Of the pictures of the set that are not learned from: figures are of those.
    var others: String
    var parameters: String
  }

  private let clock = SystemClock()
  private static let checkpointSeconds = 120.0
  private var lastCheckpoint: UInt64 = 0
  private var lastRate = 0.0

  /// - Parameters:
  ///   - description: what makes this training what it is, for people and for comparison.
  ///   - parameters: what it begins with, where no checkpoint says otherwise.
  public init(
    plan: TrainingPlan, description: String, set: TrainingSet, images: [Int], parameters: [Float],
    folder: RunFolder, resumes: Bool
  ) throws {
    self.plan = plan
    self.description = description
    self.set = set
    self.folder = folder
    parts = plan.parts(of: images, labels: set.labels)
    network = try TrainableNetwork(
      configuration: plan.configuration, parameters: parameters, height: plan.side,
      width: plan.side, lanes: plan.lanes)
    global = parameters
    origin = Origin(
      pictures: set.digest(of: images).hex,
      others: set.digest(of: Array(Set(0..<set.count).subtracting(images)).sorted()).hex,
      parameters: sha256(parameters.withUnsafeBytes { Array($0) }).hex)
    for (number, name) in set.classes.enumerated()
    where !images.contains(where: { set.labels[$0] == number }) {
      throw TrainingError.classWithoutImages(name)
    }
    if set.classes.count < 2 { throw TrainingError.oneClass }
    if resumes, let checkpoint = try folder.readCheckpoint() {
      try restore(checkpoint)
      try folder.cutLog(before: position, stages: plan.stages.map(\.name), plan: plan)
    } else {
      try folder.checkIsUnused()
      try beginStage()
      // First of all, so that whatever ends the run, there is something to go on from.
      try writeCheckpoint()
      try folder.clearLog()
    }
  }

  /// Whether anything has been trained yet.
  public var hasBegun: Bool { position != Position() }
  public var isFinished: Bool { position.stage == plan.stages.count }

  /// What all clients have in common: of a finished run, what the last stage came to.
  public var parameters: [Float] { global }

  private func beginStage() throws {
    let stage = plan.stages[position.stage]
    network.setParameters(global)
    trainers = try makeTrainers(
      stage, codes: HashTrainer.initialCodes(network, set, Array(parts.joined()), stage.recipe))
    average = plan.clients > 1 && stage.recipe.averageDecay > 0 ? global : []
    beginRound()
  }

  /// - Parameter codes: M, which all clients begin with: [head][class][l].
  func makeTrainers(
    _ stage: TrainingPlan.Stage, codes: [[[Float]]]
  ) throws(TrainingError) -> [HashTrainer] {
    var recipe = stage.recipe
    // A federation's average is of what its rounds come to.
    if plan.clients > 1 { recipe.averageDecay = 0 }
    var trainers: [HashTrainer] = []
    for (client, part) in parts.enumerated() {
      if plan.clients > 1 && part.count < recipe.batchSize {
        throw .clientWithTooFewImages(
          client: client, count: part.count, batchSize: recipe.batchSize)
      }
      recipe.seed = plan.seed(ofClient: client, stage)
      trainers.append(
        try HashTrainer(network: network, set: set, images: part, recipe: recipe, codes: codes))
    }
    return trainers
  }

  private func beginRound() {
    gathered = [Float](repeating: 0, count: global.count)
    gatheredWeight = 0
    agreedCodes = plan.clients > 1 ? codesOfAll() : []
  }

  /// M from the class sums of all clients: what none of them could know alone.
  private func codesOfAll() -> [[[Float]]] {
    guard plan.stages[position.stage].recipe.classCodes == .refreshed else {
      return trainers[0].codes
    }
    let classes = set.classes.indices
    let counts = classes.map { label in trainers.reduce(0) { $0 + $1.classCounts[label] } }
    let sums = trainers.map(\.signSums)
    return plan.stages[position.stage].recipe.heads.enumerated().map { head, bits in
      ClassCodes.mainstay(
        sums: classes.map { label in
          (0..<bits).map { bit in sums.reduce(0) { $0 + $1[head][label][bit] } }
        }, counts: counts)
    }
  }

  // MARK: - Running

  /// Trains until all stages are done or `observer` says false.
  /// - Parameter observer: called after each batch; says whether to go on.
  public func run(
    observer: (TrainingProgress) -> Bool, epochDone: (EpochReport) -> Void,
    stageDone: (TrainingPlan.Stage, [Float]) throws -> Void
  ) throws -> Outcome {
    lastCheckpoint = clock.monotonicNanoseconds()
    while !isFinished {
      let stage = plan.stages[position.stage]
      let clients = plan.selection(stage: position.stage, round: position.round)
      let client = clients[position.turn]
      let trainer = trainers[client]
      if position.epoch == 0 && position.batch == 0 {
        trainer.beginRound(global)
        if plan.clients > 1 { trainer.setCodes(agreedCodes) }
      }
      let goesOn = try runEpoch(stage, trainer, client, observer: observer)
      if position.batch >= trainer.batchesPerEpoch {
        try endEpoch(stage, trainer, client, clients, epochDone: epochDone, stageDone: stageDone)
      }
      if !goesOn || isCheckpointDue || isFinished {
        // A network that has come apart does not replace the last one that was whole.
        if !isFinished {
          try trainer.checkGivesNumbers(
            epoch: position.round * plan.localEpochs + position.epoch)
        }
        try writeCheckpoint()
        lastCheckpoint = clock.monotonicNanoseconds()
      }
      if !goesOn { return isFinished ? .finished : .interrupted }
    }
    return .finished
  }

  private var isCheckpointDue: Bool {
    Double(clock.monotonicNanoseconds() - lastCheckpoint) / 1e9 > Self.checkpointSeconds
  }

  /// Runs a client's epoch, or some of it, until a checkpoint is due.
  /// - Returns: whether the observer wants to go on.
  private func runEpoch(
    _ stage: TrainingPlan.Stage, _ trainer: HashTrainer, _ client: Int,
    observer: (TrainingProgress) -> Bool
  ) throws -> Bool {
    let epoch = position.round * plan.localEpochs + position.epoch
    let began = clock.monotonicNanoseconds()
    let (partialBefore, secondsBefore) = (partial.seconds, seconds)
    var goesOn = true
    position.batch = try trainer.run(
      epoch: epoch, of: stage.epochs, from: position.batch, agreesOnCodes: plan.clients > 1
    ) { batch, step in
      partial.batches += 1
      lastRate = step.rate
      let terms = step.terms
      for (index, value) in [
        terms.total, terms.original, terms.adversarial, terms.quantization, terms.balance,
      ].enumerated() { partial.terms[index] += value }
      partial.gradientNorm += step.gradientNorm
      let elapsed = Double(clock.monotonicNanoseconds() - began) / 1e9
      partial.seconds = partialBefore + elapsed
      seconds = secondsBefore + elapsed
      goesOn = observer(
        TrainingProgress(
          report: report(stage, trainer, client, rate: step.rate), batch: batch + 1,
          batches: trainer.batchesPerEpoch,
          done: done(with: Double(batch + 1) / Double(trainer.batchesPerEpoch))))
      return goesOn && !isCheckpointDue
    }
    return goesOn
  }

  /// Share of the whole run that is done, with so much of the epoch under way.
  private func done(with part: Double) -> Double {
    let stage = plan.stages[position.stage]
    let local = plan.localEpochs(stage, round: position.round)
    let epochs =
      position.round * plan.localEpochs * clientsOfRound[position.stage] + position.turn * local
      + position.epoch
    var (before, whole) = (0.0, 0.0)
    for (index, stage) in plan.stages.enumerated() {
      let cost = Double(stage.epochs * clientsOfRound[index]) * plan.cost(stage)
      if index < position.stage { before += cost }
      whole += cost
    }
    return (before + (Double(epochs) + part) * plan.cost(stage)) / whole
  }

  /// How many clients a round of each stage asks.
  private lazy var clientsOfRound = plan.stages.indices.map {
    plan.selection(stage: $0, round: 0).count
  }

  private func report(
    _ stage: TrainingPlan.Stage, _ trainer: HashTrainer, _ client: Int, rate: Double
  ) -> EpochReport {
    let count = Double(max(partial.batches, 1))
    return EpochReport(
      stage: stage.name, epoch: position.round * plan.localEpochs + position.epoch + 1,
      epochs: stage.epochs, client: client, loss: partial.terms[0] / count,
      original: partial.terms[1] / count, adversarial: partial.terms[2] / count,
      quantization: partial.terms[3] / count, balance: partial.terms[4] / count, rate: rate,
      gradientNorm: partial.gradientNorm / count,
      imagesPerSecond: count * Double(stage.recipe.batchSize) / max(partial.seconds, 1e-9),
      seconds: seconds)
  }

  private func endEpoch(
    _ stage: TrainingPlan.Stage, _ trainer: HashTrainer, _ client: Int, _ clients: [Int],
    epochDone: (EpochReport) -> Void, stageDone: (TrainingPlan.Stage, [Float]) throws -> Void
  ) throws {
    let position = self.position
    let report = report(stage, trainer, client, rate: lastRate)
    try folder.append(report)
    epochDone(report)
    partial = PartialEpoch()
    self.position.batch = 0
    self.position.epoch += 1
    guard self.position.epoch == plan.localEpochs(stage, round: position.round) else { return }
    self.position.epoch = 0
    gather(trainer, weight: plan.weighted ? Double(trainer.images.count) : 1)
    self.position.turn += 1
    guard self.position.turn == clients.count else { return }
    self.position.turn = 0
    endRound(stage)
    self.position.round += 1
    guard self.position.round == plan.rounds(stage) else {
      beginRound()
      return
    }
    let final = plan.clients > 1 ? (average.isEmpty ? global : average) : trainer.averagedParameters
    network.setParameters(final)
    try trainer.checkGivesNumbers(epoch: stage.epochs - 1)
    try stageDone(stage, final)
    global = final
    self.position = Position(stage: position.stage + 1)
    if !isFinished { try beginStage() }
  }

  private func gather(_ trainer: HashTrainer, weight: Double) {
    let parameters = network.parameters
    for at in parameters.indices { gathered[at] += Float(weight) * parameters[at] }
    gatheredWeight += weight
  }

  /// FedAvg: the weighted mean of what the clients came to.
  private func endRound(_ stage: TrainingPlan.Stage) {
    if plan.clients == 1 {
      global = network.parameters
      return
    }
    for at in global.indices { global[at] = gathered[at] / Float(gatheredWeight) }
    guard !average.isEmpty else { return }
    // Of all that the round asked: the average then forgets no later than one of pooled pictures does, which takes all
    // their steps one after the other.
    let clients = plan.selection(stage: position.stage, round: position.round)
    let steps =
      Double(clients.reduce(0) { $0 + trainers[$1].batchesPerEpoch })
      * Double(plan.localEpochs(stage, round: position.round))
    // As for one client, the average of the first rounds would otherwise be mostly what training began with.
    let share = Float(
      max(1 - pow(stage.recipe.averageDecay, steps), 1 / Double(position.round + 2)))
    for at in global.indices { average[at] += share * (global[at] - average[at]) }
  }
}
