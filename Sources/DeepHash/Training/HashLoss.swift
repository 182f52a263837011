internal import Glibc

/// The losses of a batch (`docs/design/training.md`; paper, Eq. 3 to 6, as `docs/divergence.md` corrects them).
public struct HashLoss: Sendable {
  /// What L_ori is.
  public enum Original: String, Sendable, CaseIterable {
    /// mean over batch and set of (h_i u_j / l - s_ij)^2, the pairwise loss of deep polarized hashing as SAAT has it.
    case pairwise
    /// Binary cross-entropy of 2 f to the class code (Yuan et al., CSQ, 2020): mean of log(1 + exp(-2 f c)).
    case central
  }

  /// What keeps the code of an adversarial image where it belongs.
  public enum Adversarial: String, Sendable, CaseIterable {
    /// -(1/l) M h(x*): paper, Eq. 3.
    case mainstay
    /// As `central` for L_ori; its gradient does not fade where an attack has won.
    case central
  }

  public var original = Original.pairwise
  public var adversarial = Adversarial.mainstay
  /// Weights of L_adl, L_quant and L_bit.
  public var lambda = 1.0
  public var phi = 1e-4
  public var chi = 0.1

  public init() {}

  /// What a batch lost; each term before its weight.
  public struct Terms: Sendable, Equatable {
    public var original = 0.0
    public var adversarial = 0.0
    public var quantization = 0.0
    public var balance = 0.0
    public var total = 0.0

    public init() {}

    public static func += (left: inout Terms, right: Terms) {
      left.original += right.original
      left.adversarial += right.adversarial
      left.quantization += right.quantization
      left.balance += right.balance
      left.total += right.total
    }

    public func divided(by count: Double) -> Terms {
      var terms = self
      terms.original /= count
      terms.adversarial /= count
      terms.quantization /= count
      terms.balance /= count
      terms.total /= count
      return terms
    }
  }

  /// Outputs of one head for a batch, somewhere in rows of all heads' outputs.
  struct Rows {
    let pointer: UnsafeMutablePointer<Float>
    /// From one image to the next.
    let stride: Int
  }

  /// What the losses of a batch are worked out in; serves batch after batch, and grows to the largest.
  final class Memory {
    private var values = UnsafeMutableBufferPointer<Double>.allocate(capacity: 0)

    deinit { values.deallocate() }

    /// At least so many values; their content is whatever it was.
    func reserve(_ count: Int) -> UnsafeMutablePointer<Double> {
      if values.count < count || values.baseAddress == nil {
        values.deallocate()
        values = .allocate(capacity: max(count, 1))
      }
      return values.baseAddress!
    }
  }

  /// The terms of one head, and the gradient of `weight` times the total with regard to its outputs, which is written
  /// to `gradient` and `adversarialGradient`.
  ///
  /// Where there are no adversarial images, L_quant is of the clean ones and L_adl is 0.
  /// - Parameters:
  ///   - outputs: f(x); ``adversarialOutputs``: f(x*), of the same images, or nil.
  ///   - codes: M, the code of each class: [class][l].
  ///   - buffer: u_j with their labels; for L_ori pairwise.
  func evaluate(
    outputs: Rows, adversarialOutputs: Rows?, labels: [Int], codes: [[Float]], buffer: CodeBuffer,
    weight: Double = 1, gradient: Rows, adversarialGradient: Rows?, memory: Memory
  ) -> Terms {
    let (count, bits) = (labels.count, buffer.bits)
    let values = memory.reserve(
      Batch.values(count: count, bits: bits) + Self.pairwiseValues(bits: bits))
    let rest = values + Batch.values(count: count, bits: bits)
    var terms = Terms()
    let batch = Batch(outputs, count: count, bits: bits, values)
    switch original {
    case .pairwise: terms.original = addPairwise(batch, labels, buffer, rest)
    case .central: terms.original = addCentral(batch, labels, codes, factor: 1)
    }
    terms.balance = addBalance(batch)
    if adversarialOutputs == nil { terms.quantization = addQuantization(batch) }
    batch.writeGradient(to: gradient, weight: weight)
    if let adversarialOutputs, let adversarialGradient {
      // In the place of the clean ones.
      let attacked = Batch(adversarialOutputs, count: count, bits: bits, values)
      switch adversarial {
      case .mainstay: terms.adversarial = addMainstay(attacked, labels, codes)
      case .central: terms.adversarial = addCentral(attacked, labels, codes, factor: lambda)
      }
      terms.quantization = addQuantization(attacked)
      attacked.writeGradient(to: adversarialGradient, weight: weight)
    }
    terms.total =
      terms.original + lambda * terms.adversarial + phi * terms.quantization + chi * terms.balance
    return terms
  }

  /// Outputs of a head, and what the terms add up to: [image][l].
  private struct Batch {
    let count: Int
    let bits: Int
    let outputs: UnsafeMutablePointer<Double>
    /// tanh of the outputs, and the slope with regard to it.
    let codes: UnsafeMutablePointer<Double>
    let slopes: UnsafeMutablePointer<Double>
    /// The slope with regard to the outputs themselves.
    let direct: UnsafeMutablePointer<Double>

    /// Of memory that a batch takes.
    static func values(count: Int, bits: Int) -> Int { 4 * count * bits }

    init(_ rows: Rows, count: Int, bits: Int, _ memory: UnsafeMutablePointer<Double>) {
      self.count = count
      self.bits = bits
      let elements = count * bits
      (outputs, codes) = (memory, memory + elements)
      (slopes, direct) = (memory + 2 * elements, memory + 3 * elements)
      for at in 0..<elements {
        outputs[at] = Double(rows.pointer[at / bits * rows.stride + at % bits])
        codes[at] = tanh(outputs[at])
        (slopes[at], direct[at]) = (0, 0)
      }
    }

    var indices: Range<Int> { 0..<count * bits }
    /// One of all images and bits.
    var share: Double { 1 / Double(count * bits) }

    func writeGradient(to rows: Rows, weight: Double) {
      for at in indices {
        rows.pointer[at / bits * rows.stride + at % bits] = Float(
          weight * (slopes[at] * (1 - codes[at] * codes[at]) + direct[at]))
      }
    }
  }

  /// (1/l) sum over bits of (mean over the batch of h)^2
  private func addBalance(_ batch: Batch) -> Double {
    let (count, bits) = (batch.count, batch.bits)
    var loss = 0.0
    for bit in 0..<bits {
      let sum = stride(from: bit, to: count * bits, by: bits).reduce(0) { $0 + batch.codes[$1] }
      let mean = sum / Double(count)
      loss += mean * mean / Double(bits)
      for image in 0..<count {
        batch.slopes[image * bits + bit] += chi * 2 * mean * batch.share
      }
    }
    return loss
  }

  /// mean of (h - sign h)^2, the sign being a constant
  private func addQuantization(_ batch: Batch) -> Double {
    var loss = 0.0
    for at in batch.indices {
      let code = batch.codes[at]
      let distance = code - (code >= 0 ? 1 : -1)
      loss += distance * distance * batch.share
      batch.slopes[at] += phi * 2 * distance * batch.share
    }
    return loss
  }

  /// -mean of (1/l) M h
  private func addMainstay(_ batch: Batch, _ labels: [Int], _ codes: [[Float]]) -> Double {
    var loss = 0.0
    for at in batch.indices {
      let code = Double(codes[labels[at / batch.bits]][at % batch.bits])
      loss -= code * batch.codes[at] * batch.share
      batch.slopes[at] -= lambda * code * batch.share
    }
    return loss
  }

  private static func pairwiseValues(bits: Int) -> Int { bits * bits + bits }

  /// mean over i and j of (h_i u_j / l - s_ij)^2 by way of the buffer's sums:
  /// h^T (sum u u^T) h / l^2 - 2 h (sum s_ij u_j) / l + N, where sum s_ij u_j is twice the class's sum less that of all.
  private func addPairwise(
    _ batch: Batch, _ labels: [Int], _ buffer: CodeBuffer, _ memory: UnsafeMutablePointer<Double>
  ) -> Double {
    let bits = buffer.bits
    let length = Double(bits)
    let share = 1 / (Double(labels.count) * Double(buffer.labels.count))
    let (moments, totals) = (memory, memory + bits * bits)
    for bit in 0..<bits {
      totals[bit] = buffer.counts.indices.reduce(0) { $0 + buffer.sum(of: $1, bit) }
      for other in 0..<bits { moments[bit * bits + other] = buffer.moment(bit, other) }
    }
    var loss = 1.0
    for (image, label) in labels.enumerated() {
      let begin = image * bits
      for bit in 0..<bits {
        var product = 0.0
        for other in 0..<bits {
          product += moments[bit * bits + other] * batch.codes[begin + other]
        }
        let signed = 2 * buffer.sum(of: label, bit) - totals[bit]
        let h = batch.codes[begin + bit]
        loss += share * (h * product / (length * length) - 2 * h * signed / length)
        batch.slopes[begin + bit] += share * 2 * (product / (length * length) - signed / length)
      }
    }
    return loss
  }

  /// mean over images and bits of log(1 + exp(-2 f c)); the gradient times `factor`.
  private func addCentral(
    _ batch: Batch, _ labels: [Int], _ codes: [[Float]], factor: Double
  ) -> Double {
    var loss = 0.0
    for at in batch.indices {
      let code = Double(codes[labels[at / batch.bits]][at % batch.bits])
      let margin = 2 * batch.outputs[at] * code
      // log(1 + exp(-m)) without overflow on either side.
      loss += batch.share * (max(-margin, 0) + log1p(exp(-abs(margin))))
      batch.direct[at] -= factor * batch.share * 2 * code / (1 + exp(margin))
    }
    return loss
  }
}

extension HashLoss {
  /// Replaces an image's outputs by the slope of what an attack in training makes smaller: the mean of h M, or where
  /// the adversarial loss is central minus its cross-entropy, whose slope does not vanish where codes are sure.
  func attackSlope(_ outputs: UnsafeMutablePointer<Float>, code: [Float]) {
    let share = 1 / Float(code.count)
    for (bit, target) in code.enumerated() {
      switch adversarial {
      case .mainstay:
        let h = tanh(outputs[bit])
        outputs[bit] = share * target * (1 - h * h)
      case .central:
        outputs[bit] = share * 2 * target / (1 + exp(2 * outputs[bit] * target))
      }
    }
  }
}
