internal import CKernels
internal import Glibc

/// How parameters follow their gradient.
public struct Optimizer: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), betas 0.9 and 0.999, epsilon 1e-8.
    case adamW = "adamw"
    /// Stochastic gradient descent with momentum 0.9.
    case sgd
  }

  public let kind: Kind
  /// Acts on tensors of two and more dimensions alone: kernels and matrices.
  public let weightDecay: Float
  /// Moments: [parameterCount] each. SGD uses the first one alone.
  public internal(set) var first: [Float]
  public internal(set) var second: [Float]
  /// Steps done.
  public internal(set) var steps = 0

  private static let (beta1, beta2, epsilon, momentum): (Float, Float, Float, Float) = (
    0.9, 0.999, 1e-8, 0.9
  )
  private let ranges: [(range: Range<Int>, decays: Bool)]

  public init(_ kind: Kind, layout: ParameterLayout, weightDecay: Float) {
    self.kind = kind
    self.weightDecay = weightDecay
    first = [Float](repeating: 0, count: layout.parameterCount)
    second = kind == .adamW ? first : []
    ranges = layout.entries.map { ($0.range, $0.shape.count >= 2) }
  }

  /// One step; gradient: [parameterCount].
  mutating func step(
    _ parameters: UnsafeMutablePointer<Float>, gradient: UnsafePointer<Float>, rate: Float,
    lanes: Int
  ) {
    steps += 1
    let (kind, decay, ranges) = (kind, weightDecay, ranges)
    let stepSize = rate / Float(1 - pow(Double(Self.beta1), Double(steps)))
    let root = Float((1 - pow(Double(Self.beta2), Double(steps))).squareRoot())
    first.withUnsafeMutableBufferPointer { first in
      second.withUnsafeMutableBufferPointer { second in
        guard let first = first.baseAddress else { return }
        let memory = Memory(
          parameters: parameters, gradient: gradient, first: first, second: second.baseAddress)
        Lane.inParallel(lanes) { lane in
          // A part of each range: their sizes are too uneven for shares of neighbours.
          for (range, decays) in ranges {
            let share = Lane.share(of: range.count, lane: lane, lanes: lanes)
            let (begin, count) = (range.lowerBound + share.lowerBound, share.count)
            let decay = decays ? decay : 0
            switch kind {
            case .adamW:
              sfmedir_adamw(
                memory.parameters + begin, memory.gradient + begin, memory.first + begin,
                memory.second! + begin, count, rate * decay, Self.beta1, Self.beta2, stepSize, root,
                Self.epsilon)
            case .sgd:
              sfmedir_momentum(
                memory.parameters + begin, memory.gradient + begin, memory.first + begin, count,
                decay, Self.momentum, rate)
            }
          }
        }
      }
    }
  }

  private struct Memory: @unchecked Sendable {
    let parameters: UnsafeMutablePointer<Float>
    let gradient: UnsafePointer<Float>
    let first: UnsafeMutablePointer<Float>
    let second: UnsafeMutablePointer<Float>?
  }
}

/// How the learning rate goes over a stage of training.
public struct LearningRateSchedule: Sendable {
  public enum Shape: String, Sendable, CaseIterable {
    /// Half a cosine from the rate to zero.
    case cosine
    /// The rate, a tenth of it from one half on, a hundredth from three quarters on.
    case steps
    case constant
  }

  public var shape = Shape.cosine
  public var rate = 2e-3
  /// Over which the rate grows in proportion to time.
  public var warmUpEpochs = 1.0

  public init() {}

  /// - Parameters:
  ///   - position: in epochs.
  ///   - epochs: of the stage.
  public func rate(at position: Double, of epochs: Double) -> Double {
    let done = min(1, position / max(epochs, 1e-9))
    let warm = warmUpEpochs > 0 ? min(1, position / warmUpEpochs) : 1
    switch shape {
    case .cosine: return rate * warm * 0.5 * (1 + cos(.pi * done))
    case .steps: return rate * warm * (done < 0.5 ? 1 : done < 0.75 ? 0.1 : 0.01)
    case .constant: return rate * warm
    }
  }
}
