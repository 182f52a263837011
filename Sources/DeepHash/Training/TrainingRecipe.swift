/// How a network is trained.
public struct TrainingRecipe: Sendable {
  /// Where the codes of the classes come from, M and with it u.
  public enum ClassCodeRule: String, Sendable, CaseIterable {
    /// From the codes that the network gives, after every batch: paper, Algorithm 1. Warm epochs begin with equidistant
    /// ones.
    case refreshed
    /// From the codes that the network gave when the stage began, and no others: u_j is the code of its class.
    case frozen
    /// As far apart as codes can be, from the beginning; see ``ClassCodes/equidistant(classes:bits:)``.
    case equidistant
  }

  /// Lengths of the codes that are trained together, over one trunk.
  public var heads = [16]
  public var batchSize = 32
  public var optimizer = Optimizer.Kind.adamW
  public var weightDecay = 0.05
  public var schedule = LearningRateSchedule()
  /// Longest gradient; a longer one is shortened to it.
  public var clipNorm = 5.0
  /// Chance of the last block to be left out, of the others in proportion (stochastic depth, Huang et al., 2016).
  public var dropPath = 0.05
  /// Of the moving average of the parameters, for each step; 0 for none.
  public var averageDecay = 0.0
  public var augmentation = Augmentation()
  public var loss = HashLoss()
  /// What makes adversarial images of the batch; nil trains on clean ones.
  public var attack: HashAttack?
  public var classCodes = ClassCodeRule.refreshed
  /// First epochs of a stage in which the buffer keeps equidistant codes, where they are refreshed.
  public var warmEpochs = 4
  /// Weight of the distance to the parameters that a client of a federation began with: (mu / 2) |theta - theta_0|^2
  /// (FedProx, Li et al., 2020).
  public var proximity = 0.0
  public var seed: UInt64 = 1
  /// Number of this stage of training: its dice are others than those of the stages before.
  public var stage = 0

  public init() {}

  /// Whether there are warm epochs: on clean pictures alone, since attacks follow them.
  var beginsWithEquidistantCodes: Bool { attack == nil && warmEpochs > 0 }

  /// Outputs of the network: of all heads, one after the other.
  public var outputCount: Int { heads.reduce(0, +) }
}

/// Why training cannot go on.
public enum TrainingError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A loss, a gradient or an output is not a number, or infinite.
  case notFinite(what: String, epoch: Int, batch: Int?)
  case tooFewImages(count: Int, batchSize: Int)
  case clientWithTooFewImages(client: Int, count: Int, batchSize: Int)
  case classWithoutImages(String)
  case oneClass
  /// There are not so many codes of that length.
  case tooManyClasses(count: Int, bits: Int)

  public var description: String {
    switch self {
    case .notFinite(let what, let epoch, let batch):
      "the \(what) is not a finite number at epoch \(epoch + 1)\(batch.map { ", batch \($0 + 1)" } ?? ""): "
        + "a smaller learning rate may help"
    case .tooFewImages(let count, let batchSize):
      "\(count) training pictures do not fill one batch of \(batchSize)"
    case .clientWithTooFewImages(let client, let count, let batchSize):
      "the \(count) training pictures of client \(client + 1) do not fill one batch of \(batchSize): "
        + "fewer clients, smaller batches or less label skew may help"
    case .classWithoutImages(let name): "there is no training picture of the class \(name)"
    case .tooManyClasses(let count, let bits):
      "codes of \(bits) bits cannot tell \(count) classes apart"
    case .oneClass: "all training pictures are of one class: there is nothing to tell apart"
    }
  }
}
