import Base
import DeepHash
import Glibc

/// What is trained, on whose pictures, in which stages: the paper's Algorithm 1, with all clients in one process.
public struct TrainingPlan: Sendable {
  /// A part of the training with one way to learn.
  public struct Stage: Sendable {
    public var name: String
    /// Times that all pictures of a client are learned from.
    public var epochs: Int
    public var recipe: TrainingRecipe

    public init(name: String, epochs: Int, recipe: TrainingRecipe) {
      self.name = name
      self.epochs = epochs
      self.recipe = recipe
    }
  }

  public var configuration: ConvNeXtConfiguration
  /// Of the network's input, in pixels.
  public var side: Int
  public var stages: [Stage]
  /// 1: pooled data, no federation.
  public var clients = 1
  /// Share of the clients that a round asks, at least one.
  public var fraction = 1.0
  /// Epochs of a client in a round.
  public var localEpochs = 1
  /// Whether clients count by their pictures (FedAvg, McMahan et al., 2017) or alike (the paper's line 27).
  public var weighted = true
  /// Concentration of the Dirichlet distribution by which classes fall to clients; nil spreads them evenly.
  public var labelSkew: Double?
  public var layerScale: Float = 0.5
  public var seed: UInt64 = 1
  /// Threads.
  public var lanes = 2

  public init(configuration: ConvNeXtConfiguration, side: Int, stages: [Stage]) {
    self.configuration = configuration
    self.side = side
    self.stages = stages
  }

  func rounds(_ stage: Stage) -> Int { (stage.epochs + localEpochs - 1) / localEpochs }

  /// Of a client in a round: the last round of a stage may have fewer.
  func localEpochs(_ stage: Stage, round: Int) -> Int {
    min(localEpochs, stage.epochs - round * localEpochs)
  }

  /// How long an epoch of a stage takes, in those of clean pictures: an attack's step is a pass forwards and back without
  /// gradients of parameters.
  func cost(_ stage: Stage) -> Double {
    stage.recipe.attack.map { 2 + Double($0.steps) * 2 / 3 } ?? 1
  }

  /// Of dice that are each client's own: what views and starts of attacks had in common, no mean would level out.
  package func seed(ofClient client: Int, _ stage: Stage) -> UInt64 {
    if clients == 1 { return stage.recipe.seed }
    var dice = SplitMix64(seed: stage.recipe.seed ^ UInt64(client + 1) << 32)
    return dice.next()
  }

  /// Splits pictures between the clients.
  /// - Parameters:
  ///   - images: numbers of pictures.
  ///   - labels: of all pictures of the set.
  package func parts(of images: [Int], labels: [Int]) -> [[Int]] {
    if clients == 1 { return [images] }
    var dice = SplitMix64(seed: seed ^ 0x636C_6965_6E74_7300)
    guard let labelSkew else {
      let order = images.shuffled(using: &dice)
      return (0..<clients).map { client in
        Array(order[order.count * client / clients..<order.count * (client + 1) / clients])
      }
    }
    var parts = [[Int]](repeating: [], count: clients)
    for label in Set(images.map { labels[$0] }).sorted() {
      let members = images.filter { labels[$0] == label }.shuffled(using: &dice)
      // In logarithms: of a small concentration all shares would be too small for a number.
      let logarithms = (0..<clients).map { _ in dice.logGamma(shape: labelSkew) }
      let largest = logarithms.max() ?? 0
      let shares = logarithms.map { exp($0 - largest) }
      let whole = shares.reduce(0, +)
      var (end, sum) = (0, 0.0)
      for client in 0..<clients {
        sum += shares[client]
        let next =
          client == clients - 1
          ? members.count : Int((sum / whole * Double(members.count)).rounded())
        parts[client] += members[end..<max(end, next)]
        end = max(end, next)
      }
    }
    return parts
  }

  /// The clients of a round, in order.
  package func selection(stage: Int, round: Int) -> [Int] {
    let count = min(clients, max(1, Int((fraction * Double(clients)).rounded(.up))))
    if count == clients { return Array(0..<clients) }
    var dice = SplitMix64(
      seed: seed ^ 0x726F_756E_6400_0000 ^ UInt64(stage) << 20 ^ UInt64(round))
    return Array((0..<clients).shuffled(using: &dice)[..<count]).sorted()
  }
}

extension SplitMix64 {
  /// The logarithm of a number of the gamma distribution with scale 1 (Marsaglia and Tsang, 2000).
  mutating func logGamma(shape: Double) -> Double {
    if shape < 1 {
      let unit = Double.random(in: Double.leastNonzeroMagnitude..<1, using: &self)
      return logGamma(shape: shape + 1) + log(unit) / shape
    }
    let d = shape - 1.0 / 3
    let c = 1 / (9 * d).squareRoot()
    while true {
      let x = normal()
      let v = (1 + c * x) * (1 + c * x) * (1 + c * x)
      guard v > 0 else { continue }
      let unit = Double.random(in: Double.leastNonzeroMagnitude..<1, using: &self)
      if log(unit) < 0.5 * x * x + d - d * v + d * log(v) { return log(d * v) }
    }
  }
}
