/// The codes of all training images, as the network last gave them, and the sums over them that the losses need.
///
/// Sums stand in double precision and follow each change, so a batch costs its own size and not that of the set. They
/// are all that a client of a federation would have to tell: class sums of l integers, an l x l moment.
public struct CodeBuffer: Sendable {
  public let bits: Int
  public let labels: [Int]
  /// Images of each class.
  public let counts: [Int]
  /// h = tanh f of each image: [image][l].
  public private(set) var values: [Float]
  /// Sum of u_j u_j^T: [l][l].
  private(set) var moment: [Double]
  /// Sum of u_j of each class: [class][l].
  private(set) var sums: [[Double]]
  /// Sum of sign(u_j) of each class: [class][l].
  public private(set) var signSums: [[Int]]

  public init(values: [Float], bits: Int, labels: [Int], classes: Int) {
    precondition(values.count == labels.count * bits, "\(values.count) values")
    self.bits = bits
    self.labels = labels
    self.values = [Float](repeating: 0, count: values.count)
    var counts = [Int](repeating: 0, count: classes)
    for label in labels { counts[label] += 1 }
    self.counts = counts
    moment = [Double](repeating: 0, count: bits * bits)
    sums = [[Double]](repeating: [Double](repeating: 0, count: bits), count: classes)
    signSums = [[Int]](repeating: [Int](repeating: 0, count: bits), count: classes)
    values.withUnsafeBufferPointer { values in
      guard let base = values.baseAddress else { return }
      for image in labels.indices { add(image, base + image * bits) }
    }
  }

  /// The context-aware codes of the classes: [class][l].
  public var mainstay: [[Float]] { ClassCodes.mainstay(sums: signSums, counts: counts) }

  public mutating func replace(_ image: Int, with new: UnsafePointer<Float>) {
    let begin = image * bits
    let label = labels[image]
    for bit in 0..<bits {
      let value = values[begin + bit]
      sums[label][bit] -= Double(value)
      signSums[label][bit] -= value >= 0 ? 1 : -1
      for other in 0..<bits {
        moment[bit * bits + other] -= Double(value) * Double(values[begin + other])
      }
    }
    add(image, new)
  }

  private mutating func add(_ image: Int, _ new: UnsafePointer<Float>) {
    let label = labels[image]
    for bit in 0..<bits {
      let value = new[bit]
      values[image * bits + bit] = value
      sums[label][bit] += Double(value)
      signSums[label][bit] += value >= 0 ? 1 : -1
      for other in 0..<bits { moment[bit * bits + other] += Double(value) * Double(new[other]) }
    }
  }
}
