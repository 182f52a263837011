/// The codes of all training images, as the network last gave them, and the sums over them that the losses need.
///
/// Sums follow each change, so a batch costs its own size and not that of the set. They are whole numbers, so that it
/// does not matter in which order the changes came; and they are all that a client of a federation would have to tell.
public struct CodeBuffer: Sendable {
  public let bits: Int
  public let labels: [Int]
  /// Images of each class.
  public let counts: [Int]
  /// h = tanh f of each image in units of 2^-21: [image][l].
  private var units: [Int32]
  /// Sum of u_j u_j^T in units of 2^-42: [l][l].
  private var momentUnits: [Int64]
  /// Sum of u_j of each class in units of 2^-21: [class][l].
  private var sumUnits: [[Int64]]
  /// Sum of sign(u_j) of each class: [class][l].
  public private(set) var signSums: [[Int]]

  private static let unit = 1.0 / Double(1 << 21)
  /// Beyond this the moment could leave 64 bits.
  static let maximumImages = 1 << 20

  /// - Parameter values: h of each image, from -1 to 1: [image][l].
  public init(values: [Float], bits: Int, labels: [Int], classes: Int) {
    precondition(values.count == labels.count * bits, "\(values.count) values")
    precondition(labels.count <= Self.maximumImages, "\(labels.count) images")
    self.bits = bits
    self.labels = labels
    units = [Int32](repeating: 0, count: values.count)
    var counts = [Int](repeating: 0, count: classes)
    for label in labels { counts[label] += 1 }
    self.counts = counts
    momentUnits = [Int64](repeating: 0, count: bits * bits)
    sumUnits = [[Int64]](repeating: [Int64](repeating: 0, count: bits), count: classes)
    signSums = [[Int]](repeating: [Int](repeating: 0, count: bits), count: classes)
    for image in labels.indices {
      for bit in 0..<bits { put(values[image * bits + bit], image, bit) }
      count(image, 1)
    }
  }

  /// h of each image, rounded to the units: [image][l].
  public var values: [Float] { units.map { Float(Double($0) * Self.unit) } }

  /// The context-aware codes of the classes: [class][l].
  public var mainstay: [[Float]] { ClassCodes.mainstay(sums: signSums, counts: counts) }

  func putMainstay(into codes: inout [[Float]]) {
    ClassCodes.putMainstay(sums: signSums, counts: counts, into: &codes)
  }

  /// Sum over all images of u_bit u_other.
  func moment(_ bit: Int, _ other: Int) -> Double {
    Double(momentUnits[bit * bits + other]) * (Self.unit * Self.unit)
  }

  /// Sum over the images of a class of u.
  func sum(of label: Int, _ bit: Int) -> Double { Double(sumUnits[label][bit]) * Self.unit }

  public mutating func replace(_ image: Int, with values: [Float]) {
    precondition(values.count == bits, "\(values.count) values for a code of \(bits)")
    replace(image) { values[$0] }
  }

  /// - Parameter value: h of a bit.
  mutating func replace(_ image: Int, value: (Int) -> Float) {
    count(image, -1)
    for bit in 0..<bits { put(value(bit), image, bit) }
    count(image, 1)
  }

  private mutating func put(_ value: Float, _ image: Int, _ bit: Int) {
    // What is not a number is refused where the loss is looked at; here it must not stop the program.
    let bounded = value.isFinite ? min(max(Double(value), -1), 1) : 0
    let rounded = Int32((bounded / Self.unit).rounded())
    // The sign stays, however small the value is.
    units[image * bits + bit] = rounded == 0 && bounded < 0 ? -1 : rounded
  }

  /// Adds an image to the sums, or takes it away.
  private mutating func count(_ image: Int, _ sign: Int64) {
    let label = labels[image]
    let begin = image * bits
    for bit in 0..<bits {
      let value = Int64(units[begin + bit])
      sumUnits[label][bit] += sign * value
      signSums[label][bit] += Int(sign) * (value >= 0 ? 1 : -1)
      for other in 0..<bits {
        momentUnits[bit * bits + other] += sign * value * Int64(units[begin + other])
      }
    }
  }
}
