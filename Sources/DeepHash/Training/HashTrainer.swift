internal import Base
internal import CKernels
internal import Glibc

/// Trains a network on some pictures: FCAT's local training (paper, Algorithm 1, lines 10 to 24).
///
/// The same seed and number of lanes give the same parameters, bit for bit, also where training was interrupted and
/// went on from ``state``.
public final class HashTrainer {
  public let network: TrainableNetwork
  public let recipe: TrainingRecipe
  let set: TrainingSet
  /// Numbers of the training pictures.
  public let images: [Int]

  private var optimizer: Optimizer
  /// Moving average of the parameters; empty where there is none.
  private var average: [Float]
  /// One for each head.
  var buffers: [CodeBuffer]
  /// M of each head: [head][class][l].
  public private(set) var codes: [[[Float]]]

  /// [batch][2][outputs]: clean, then adversarial; and gradients alike.
  let outputs: FloatBuffer
  let gradients: FloatBuffer
  private let lossMemory = HashLoss.Memory()
  /// The batch of the step that runs.
  private var batch: Batch
  /// Parameters that ``TrainingRecipe/proximity`` keeps close to.
  private var origin: [Float] = []

  /// The pictures of a step.
  struct Batch: Sendable {
    /// Positions in ``images``.
    fileprivate(set) var positions: [Int]
    /// Numbers in the set.
    fileprivate(set) var images: [Int]
    fileprivate(set) var labels: [Int]

    init(size: Int) {
      positions = [Int](repeating: 0, count: size)
      (images, labels) = (positions, positions)
    }
  }

  /// What one step came to.
  public struct Step: Sendable {
    public var terms: HashLoss.Terms
    /// Before it was shortened.
    public var gradientNorm: Double
    public var rate: Double
  }

  /// - Parameters:
  ///   - images: numbers of pictures of the set; others are never looked at.
  ///   - codes: M, where a federation has agreed on it: [head][class][l].
  public init(
    network: TrainableNetwork, set: TrainingSet, images: [Int], recipe: TrainingRecipe,
    codes: [[[Float]]]? = nil
  ) throws(TrainingError) {
    precondition(
      network.configuration.bits == recipe.outputCount,
      "\(network.configuration.bits) outputs for heads of \(recipe.heads)")
    network.checkFits(set)
    guard images.count >= recipe.batchSize else {
      throw .tooFewImages(count: images.count, batchSize: recipe.batchSize)
    }
    self.network = network
    self.recipe = recipe
    self.set = set
    self.images = images
    optimizer = Optimizer(
      recipe.optimizer, layout: network.layout, weightDecay: Float(recipe.weightDecay))
    average = recipe.averageDecay > 0 ? network.parameters : []
    let count = 2 * recipe.batchSize * recipe.outputCount
    (outputs, gradients) = (FloatBuffer(count: count), FloatBuffer(count: count))
    batch = Batch(size: recipe.batchSize)
    let labels = images.map { set.labels[$0] }
    let classes = set.classes.count
    if let codes {
      self.codes = codes
    } else {
      self.codes = try Self.initialCodes(network, set, images, recipe)
    }
    buffers = []
    // Where there are no warm epochs, the buffer begins with what the network gives.
    let outputs =
      recipe.classCodes == .refreshed && !recipe.beginsWithEquidistantCodes
      ? network.outputs(of: set, images: images) : []
    var first = 0
    for (head, bits) in recipe.heads.enumerated() {
      let values =
        outputs.isEmpty
        ? labels.flatMap { self.codes[head][$0] }
        : labels.indices.flatMap { image in
          (first..<first + bits).map { tanh(outputs[image * recipe.outputCount + $0]) }
        }
      buffers.append(CodeBuffer(values: values, bits: bits, labels: labels, classes: classes))
      first += bits
    }
    // The first batch is attacked before it refreshes them.
    if !outputs.isEmpty { self.codes = buffers.map(\.mainstay) }
  }

  /// M as a stage begins: [head][class][l].
  /// - Parameter images: all that have a part in it; in a federation those of all clients.
  public static func initialCodes(
    _ network: TrainableNetwork, _ set: TrainingSet, _ images: [Int], _ recipe: TrainingRecipe
  ) throws(TrainingError) -> [[[Float]]] {
    let classes = set.classes.count
    if let bits = recipe.heads.first(where: { $0 < 31 && 1 << $0 < classes }) {
      throw .tooManyClasses(count: classes, bits: bits)
    }
    guard recipe.classCodes == .frozen else {
      return try recipe.heads.map { bits throws(TrainingError) in
        let codes = ClassCodes.equidistant(classes: classes, bits: bits)
        // Of many candidates, not of all codes: there may be too few even where the length has enough.
        guard Set(codes).count == classes else {
          throw .tooManyClasses(count: classes, bits: bits)
        }
        return codes
      }
    }
    let outputs = network.outputs(of: set, images: images)
    let labels = images.map { set.labels[$0] }
    var first = 0
    return recipe.heads.map { bits in
      defer { first += bits }
      return mainstay(
        outputs, head: first..<first + bits, of: recipe.outputCount, labels: labels,
        classes: classes)
    }
  }

  static func mainstay(
    _ outputs: [Float], head: Range<Int>, of width: Int, labels: [Int], classes: Int
  ) -> [[Float]] {
    let values = labels.indices.flatMap { image in head.map { outputs[image * width + $0] } }
    return CodeBuffer(values: values, bits: head.count, labels: labels, classes: classes).mainstay
  }

  public var batchesPerEpoch: Int { images.count / recipe.batchSize }

  /// The moving average of the parameters, or where there is none the parameters.
  public var averagedParameters: [Float] { average.isEmpty ? network.parameters : average }

  /// Sums over the classes' codes, of each head: what a client of a federation tells.
  public var signSums: [[[Int]]] { buffers.map(\.signSums) }
  public var classCounts: [Int] { buffers[0].counts }

  /// Sets the codes of the classes, as a federation agrees on them.
  public func setCodes(_ codes: [[[Float]]]) { self.codes = codes }

  /// Takes the parameters that a round of a federation begins with; moments stay.
  public func beginRound(_ parameters: [Float]) {
    network.setParameters(parameters)
    origin = recipe.proximity > 0 ? parameters : []
  }

  /// Goes on with a round that began with these parameters; those of the network stay.
  public func resumeRound(_ parameters: [Float]) {
    origin = recipe.proximity > 0 ? parameters : []
  }

  // MARK: - Interruption

  /// All that training goes on from, beside the parameters of the network.
  public struct State: Sendable {
    public var steps = 0
    /// Of the optimizer: [parameterCount], or empty where it has none.
    public var firstMoments: [Float] = []
    public var secondMoments: [Float] = []
    /// Of the parameters; empty where there is none.
    public var average: [Float] = []
    /// Of each head: [image][l] and [class][l], one after the other.
    public var buffers: [[Float]] = []
    public var codes: [[Float]] = []

    public init() {}
  }

  public var state: State {
    var state = State()
    state.steps = optimizer.steps
    (state.firstMoments, state.secondMoments) = (optimizer.first, optimizer.second)
    state.average = average
    state.buffers = buffers.map(\.values)
    state.codes = codes.map { Array($0.joined()) }
    return state
  }

  /// - Returns: false where the state is of another training; nothing has changed then.
  public func restore(_ state: State) -> Bool {
    let labels = images.map { set.labels[$0] }
    let classes = set.classes.count
    guard state.firstMoments.count == optimizer.first.count,
      state.secondMoments.count == optimizer.second.count, state.average.count == average.count,
      state.buffers.count == recipe.heads.count, state.codes.count == recipe.heads.count,
      zip(state.buffers, recipe.heads).allSatisfy({ $0.count == $1 * images.count }),
      zip(state.codes, recipe.heads).allSatisfy({ $0.count == $1 * classes })
    else { return false }
    optimizer.steps = state.steps
    (optimizer.first, optimizer.second) = (state.firstMoments, state.secondMoments)
    average = state.average
    for (head, bits) in recipe.heads.enumerated() {
      buffers[head] = CodeBuffer(
        values: state.buffers[head], bits: bits, labels: labels, classes: classes)
      codes[head] = (0..<classes).map { Array(state.codes[head][$0 * bits..<($0 + 1) * bits]) }
    }
    return true
  }

  // MARK: - Steps

  /// The order of an epoch's pictures, as positions in ``images``.
  private func order(epoch: Int) -> [Int] {
    var dice = TrainingDice.dice(recipe.seed, .order, [recipe.stage, epoch])
    return Array(images.indices).shuffled(using: &dice)
  }

  /// Trains on the batches of one epoch.
  /// - Parameters:
  ///   - epochs: of the stage, for the schedule of the rate.
  ///   - first: batch to begin with, where some were done before an interruption.
  ///   - agreesOnCodes: the codes of the classes stay as ``setCodes(_:)`` has set them.
  ///   - observer: gets each step's number and outcome, and says whether to go on.
  /// - Returns: the number of the batch that would be next; ``batchesPerEpoch`` at the end.
  public func run(
    epoch: Int, of epochs: Int, from first: Int = 0, agreesOnCodes: Bool = false,
    observer: (Int, Step) -> Bool
  ) throws(TrainingError) -> Int {
    let order = order(epoch: epoch)
    let batches = batchesPerEpoch
    for batch in first..<batches {
      let position = Double(epoch) + Double(batch) / Double(batches)
      let rate = recipe.schedule.rate(at: position + 1e-3, of: Double(epochs))
      fillBatch(order[batch * recipe.batchSize..<(batch + 1) * recipe.batchSize])
      let step = try step(epoch: epoch, batch: batch, rate: rate, agreesOnCodes: agreesOnCodes)
      if !observer(batch, step) { return batch + 1 }
    }
    return batches
  }

  private func fillBatch(_ positions: ArraySlice<Int>) {
    for (at, position) in positions.enumerated() {
      batch.positions[at] = position
      batch.images[at] = images[position]
      batch.labels[at] = set.labels[images[position]]
    }
  }

  /// Trains on the pictures of ``batch``.
  private func step(
    epoch: Int, batch number: Int, rate: Double, agreesOnCodes: Bool
  ) throws(TrainingError) -> Step {
    forward(batch, number: epoch * batchesPerEpoch + number)
    refreshBuffers(epoch: epoch)
    if recipe.classCodes == .refreshed && !agreesOnCodes {
      for head in buffers.indices { buffers[head].putMainstay(into: &codes[head]) }
    }
    let terms = loss(batch.labels, lossMemory)
    guard terms.total.isFinite else {
      throw .notFinite(what: "loss", epoch: epoch, batch: number)
    }
    backward(recipe.batchSize)
    let gradient = network.collectGradient()
    if !origin.isEmpty { addProximity(gradient) }
    let norm = sfmedir_sum_of_squares(gradient, network.parameterCount).squareRoot()
    guard norm.isFinite else {
      throw .notFinite(what: "gradient", epoch: epoch, batch: number)
    }
    if norm > recipe.clipNorm {
      let factor = Float(recipe.clipNorm / norm)
      for at in 0..<network.parameterCount { gradient[at] *= factor }
    }
    optimizer.step(
      network.network.values.pointer, gradient: gradient, rate: Float(rate),
      lanes: network.laneCount)
    network.network.fold(lanes: network.laneCount)
    if !average.isEmpty {
      // The average of the first steps would otherwise be mostly the parameters that training began with.
      let share = max(1 - recipe.averageDecay, 1 / Double(optimizer.steps + 1))
      average.withUnsafeMutableBufferPointer {
        sfmedir_move_towards(
          network.network.values.pointer, Float(share), $0.baseAddress, network.parameterCount)
      }
    }
    return Step(terms: terms, gradientNorm: norm, rate: rate)
  }

  /// Whether the network still gives numbers, which the step that has changed it last could not see.
  public func checkGivesNumbers(epoch: Int) throws(TrainingError) {
    let outputs = network.outputs(of: set, images: Array(images.prefix(recipe.batchSize)))
    if !outputs.allSatisfy(\.isFinite) {
      throw .notFinite(what: "network's output", epoch: epoch, batch: nil)
    }
  }

  private func addProximity(_ gradient: UnsafeMutablePointer<Float>) {
    let (values, mu) = (network.network.values.pointer, Float(recipe.proximity))
    for at in origin.indices { gradient[at] += mu * (values[at] - origin[at]) }
  }

  /// The buffer takes the codes that the network has just given of the batch.
  private func refreshBuffers(epoch: Int) {
    guard recipe.classCodes == .refreshed,
      !recipe.beginsWithEquidistantCodes || epoch >= recipe.warmEpochs
    else { return }
    let width = recipe.outputCount
    var first = 0
    for head in buffers.indices {
      let bits = buffers[head].bits
      for (at, position) in batch.positions.enumerated() {
        let row = outputs.pointer + at * width + first
        buffers[head].replace(position) { tanh(row[$0]) }
      }
      first += bits
    }
  }
}
