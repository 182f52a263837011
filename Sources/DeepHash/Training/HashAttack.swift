internal import Base
internal import CKernels
internal import Glibc

/// Projected gradient descent (Madry et al., 2018) against hash codes.
public struct HashAttack: Sendable, Equatable {
  /// Largest change of a value, of a range of 1.
  public var radius: Float = 8 / 255
  /// Of one step.
  public var stepSize: Float = 1 / 255
  public var steps = 100

  public init() {}

  /// SAAT's attack of the evaluation: 100 steps of 1/255 within 8/255.
  public static var evaluation: HashAttack { HashAttack() }

  public enum Direction: Sendable {
    /// Away from a code.
    case away
    /// Towards a code.
    case towards
  }

  /// tanh(alpha f) stands for the code: alpha is 0.1 for half of the steps, then .2, .3, .5, .7 and 1 for a tenth each.
  package static func alpha(step: Int, of steps: Int) -> Float {
    let half = steps / 2
    guard step >= half else { return 0.1 }
    return [0.2, 0.3, 0.5, 0.7, 1][min(4, (step - half) * 10 / max(steps, 1))]
  }

  /// Adversarial images: [count][channels][height][width].
  ///
  /// The objective is SAAT's: with s = tanh(alpha f) M, times -1 when away, the sum over s < 0.5 of (2 - s) s is made
  /// larger. Bits that are won already have no part in it.
  /// - Parameters:
  ///   - images: numbers of pictures of the set.
  ///   - codes: for each of them, the code to come close to or to leave: [count][l].
  ///   - seed: of the random start.
  ///   - isCancelled: asked before each step; what then comes back was not attacked to the end.
  public func run(
    against network: TrainableNetwork, on set: TrainingSet, images: [Int], codes: [[Float]],
    direction: Direction, seed: UInt64, isCancelled: @escaping @Sendable () -> Bool = { false }
  ) -> [Float] {
    network.checkFits(set)
    precondition(images.count == codes.count, "\(images.count) images, \(codes.count) codes")
    let (elements, bits) = (network.imageElements, network.configuration.bits)
    let sign: Float = direction == .towards ? 1 : -1
    return [Float](unsafeUninitializedCapacity: images.count * elements) { out, written in
      written = images.count * elements
      guard let base = out.baseAddress else { return }
      let adversarial = SharedMemory(base)
      Lane.inParallel(network.laneCount) { laneNumber in
        let lane = network.lanes[laneNumber]
        let share = Lane.share(of: images.count, lane: laneNumber, lanes: network.laneCount)
        for first in stride(from: share.lowerBound, to: share.upperBound, by: Self.passImages) {
          let range = first..<min(first + Self.passImages, share.upperBound)
          let clean = lane.scratch(TrainableNetwork.Scratch.images, count: range.count * elements)
          for (at, image) in range.enumerated() {
            clean.advanced(by: at * elements).update(
              from: set.image(images[image]), count: elements)
          }
          let moved = adversarial.pointer + first * elements
          for (at, image) in range.enumerated() {
            var dice = TrainingDice.dice(seed, .attack, [images[image]])
            Self.start(
              clean + at * elements, moved + at * elements, count: elements, radius: radius,
              dice: &dice)
          }
          for step in 0..<steps where !isCancelled() {
            let alpha = Self.alpha(step: step, of: steps)
            let gradient = lane.scratch(
              TrainableNetwork.Scratch.imageGradient, count: range.count * elements)
            network.imageGradient(
              lane: lane, images: moved, count: range.count, into: gradient
            ) { outputs in
              for (at, image) in range.enumerated() {
                for bit in 0..<bits {
                  outputs[at * bits + bit] = Self.slope(
                    outputs[at * bits + bit], code: sign * codes[image][bit], alpha: alpha)
                }
              }
            }
            sfmedir_projected_step(
              clean, gradient, stepSize, radius, moved, range.count * elements)
          }
        }
      }
    }
  }

  /// The derivative of the objective by one output of the network.
  /// - Parameter code: what the output is to become the sign of: +1 or -1.
  package static func slope(_ output: Float, code: Float, alpha: Float) -> Float {
    let value = tanh(alpha * output)
    let s = value * code
    return s < 0.5 ? (2 - 2 * s) * code * alpha * (1 - value * value) : 0
  }

  /// Images of one pass.
  private static let passImages = 16

  /// How often ``run(against:on:images:codes:direction:seed:isCancelled:)`` goes through its steps: for some images at a
  /// time.
  public func passes(of images: Int, lanes: Int) -> Int {
    (0..<lanes).reduce(0) { sum, lane in
      let share = Lane.share(of: images, lane: lane, lanes: lanes).count
      return sum + (share + Self.passImages - 1) / Self.passImages
    }
  }

  /// A point anywhere within the radius.
  static func start(
    _ clean: UnsafePointer<Float>, _ out: UnsafeMutablePointer<Float>, count: Int, radius: Float,
    dice: inout SplitMix64
  ) {
    for at in 0..<count {
      let unit = Float(dice.next() >> 40) / Float(1 << 24)
      out[at] = min(max(clean[at] + (2 * unit - 1) * radius, 0), 1)
    }
  }
}
