import Base
import DeepHash

/// All that is measured of a model: how well its codes find pictures of the same class, and what attacks leave of that.
///
/// The test pictures are the queries, the training pictures the database. Attacks see the model and the database's codes,
/// change queries alone, and have all of the test pictures or so many as are asked for.
public struct ModelEvaluation: Sendable {
  public struct Options: Sendable {
    /// Lengths of the result list.
    public var ks = [1, 5, 10, 20, 50, 100, 200, 500, 1000]
    /// Of attacks; nil leaves them out.
    public var attack: HashAttack? = .evaluation
    public var attacksAwayToo = true
    /// Queries that are attacked, drawn from the seed; nil for all.
    public var attackedQueries: Int?
    /// Whether pixels alone are asked, too.
    public var measuresPixels = true
    public var seed: UInt64 = 5
    public var lanes = 2
    /// Told how much of an attack is done, from any thread.
    public var attackProgress: @Sendable (Double) -> Void = { _ in }
    /// Asked before each step of an attack; a `CancellationError` ends the evaluation then.
    public var isCancelled: @Sendable () -> Bool = { false }

    public init() {}
  }

  /// What an attack did to pictures; values are of a range of 1.
  public struct Perturbation: Sendable {
    public var largest = 0.0
    /// Mean over pictures of the Euclidean length.
    public var length = 0.0
    public var meanSquare = 0.0
  }

  public struct Attacked: Sendable {
    public var queries = 0
    /// The same queries before they were attacked.
    public var clean: RetrievalScores
    /// Relevant is what has the query's true label.
    public var trueLabel: RetrievalScores
    /// t-MAP: relevant is what has the label that the attacker wanted; nil where the attack only leads away.
    public var wantedLabel: RetrievalScores?
    public var perturbation: Perturbation
  }

  public var queries: Int
  public var database: Int
  /// As it was asked for.
  public var attack: HashAttack?
  public var seed: UInt64
  public var clean: RetrievalScores
  /// Towards the code of another class, drawn evenly.
  public var targeted: Attacked?
  /// Away from the code of the query's own class.
  public var nontargeted: Attacked?
  /// With the queries' codes exchanged at random: what chance finds.
  public var shuffled: RetrievalScores
  /// Pixels alone.
  public var pixels: NearestPixels?
  /// Context-aware codes of the classes over the database: [class][l].
  public var classCodes: [[Float]]

  /// - Parameter progress: told what comes next.
  public init(
    _ model: ModelFile, set: TrainingSet, folder: PictureFolder, options: Options,
    progress: (String) -> Void = { _ in }
  ) throws {
    try model.checkMakesCodes()
    let network = try TrainableNetwork(
      configuration: model.configuration, parameters: model.parameters, height: set.height,
      width: set.width, lanes: options.lanes)
    let bits = model.configuration.bits
    let (tests, trainings) = (folder.testImages, folder.trainingImages)
    func labels(_ images: [Int]) -> [Int] { images.map { set.labels[$0] } }
    progress("codes")
    func outputs(_ images: [Int]) throws -> [Float] {
      let outputs = network.outputs(of: set, images: images, isCancelled: options.isCancelled)
      if options.isCancelled() { throw CancellationError() }
      try ModelFile.checkAreNumbers(outputs)
      return outputs
    }
    let storedOutputs = try outputs(trainings)
    let stored = LabelledCodes(
      outputs: storedOutputs, bits: bits, labels: labels(trainings))
    let asked = LabelledCodes(
      outputs: try outputs(tests), bits: bits, labels: labels(tests))
    func scores(_ queries: LabelledCodes) -> RetrievalScores {
      RetrievalScores(queries: queries, database: stored, ks: options.ks)
    }
    (queries, database) = (tests.count, trainings.count)
    (attack, seed) = (options.attack, options.seed)
    clean = scores(asked)
    var dice = SplitMix64(seed: options.seed)
    shuffled = scores(
      LabelledCodes(codes: asked.codes.shuffled(using: &dice), labels: asked.labels))
    let codes = CodeBuffer(
      values: storedOutputs.map { min(max($0, -1), 1) }, bits: bits, labels: labels(trainings),
      classes: set.classes.count
    ).mainstay
    classCodes = codes
    if options.measuresPixels {
      progress("pixels alone")
      pixels = NearestPixels(
        set: set, queries: tests, database: trainings, ks: options.ks,
        isCancelled: options.isCancelled)
      if options.isCancelled() { throw CancellationError() }
    }
    guard let attack = options.attack else { return }
    let attacked = Self.attacked(tests, options)
    let truth = labels(attacked)
    let before =
      attacked.count == tests.count
      ? clean
      : scores(LabelledCodes(outputs: try outputs(attacked), bits: bits, labels: truth))
    func outcome(_ direction: HashAttack.Direction, _ goals: [Int]) throws -> Attacked {
      let steps = Locked(0)
      let all = Double(attack.steps * attack.passes(of: attacked.count, lanes: options.lanes))
      let images = attack.run(
        against: network, on: set, images: attacked, codes: goals.map { codes[$0] },
        direction: direction, seed: options.seed,
        isCancelled: {
          let done = steps.withLock { steps in
            steps += 1
            return steps
          }
          options.attackProgress(Double(done) / all)
          return options.isCancelled()
        })
      if options.isCancelled() { throw CancellationError() }
      let outputs = network.outputs(of: images)
      try ModelFile.checkAreNumbers(outputs)
      func found(_ labels: [Int]) -> RetrievalScores {
        scores(LabelledCodes(outputs: outputs, bits: bits, labels: labels))
      }
      return Attacked(
        queries: attacked.count, clean: before, trueLabel: found(truth),
        wantedLabel: direction == .towards ? found(goals) : nil,
        perturbation: Self.perturbation(images, of: attacked, set))
    }
    progress("attacks towards other classes, \(attack.steps) steps on \(attacked.count) pictures")
    let classes = set.classes.count
    // Drawn for each picture by its number, so that two models are attacked alike.
    let wanted = attacked.map { image -> Int in
      var dice = SplitMix64(seed: options.seed ^ (UInt64(image) &* 0x9E37_79B9_7F4A_7C15))
      return (set.labels[image] + Int.random(in: 1..<classes, using: &dice)) % classes
    }
    targeted = try outcome(.towards, wanted)
    if options.attacksAwayToo {
      progress("attacks away from the own class")
      nontargeted = try outcome(.away, truth)
    }
  }

  private static func attacked(_ tests: [Int], _ options: Options) -> [Int] {
    guard let count = options.attackedQueries, count < tests.count else { return tests }
    var dice = SplitMix64(seed: options.seed ^ 0x7175_6572_6965_7300)
    return tests.shuffled(using: &dice)[..<count].sorted()
  }

  private static func perturbation(
    _ images: [Float], of pictures: [Int], _ set: TrainingSet
  ) -> Perturbation {
    var sum = Perturbation()
    let elements = set.imageElements
    for (number, picture) in pictures.enumerated() {
      set.withImage(picture) { clean in
        var square = 0.0
        for at in 0..<elements {
          let difference = Double(images[number * elements + at] - clean[at])
          square += difference * difference
          sum.largest = max(sum.largest, abs(difference))
        }
        sum.length += square.squareRoot()
        sum.meanSquare += square / Double(elements)
      }
    }
    sum.length /= Double(max(pictures.count, 1))
    sum.meanSquare /= Double(max(pictures.count, 1))
    return sum
  }
}
