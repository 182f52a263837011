/// A dense array of single-precision numbers with a shape, in row-major order.
///
/// A value: copies share storage until one of them is written. The number of elements always equals
/// the product of the shape; a tensor without dimensions holds one number.
public struct Tensor: @unchecked Sendable {
  /// Extent of each dimension, the slowest first.
  public let shape: [Int]
  private var storage: FloatBuffer

  /// Makes a tensor of the given elements; their number must equal the product of the shape.
  public init(shape: [Int], elements: [Float]) {
    self.init(shape: shape, elementCount: elements.count) { destination in
      for (index, element) in elements.enumerated() { destination[index] = element }
    }
  }

  /// Makes a tensor whose every element `fill` must write.
  init(
    shape: [Int], elementCount: Int, fill: (UnsafeMutableBufferPointer<Float>) -> Void
  ) {
    let expected = Tensor.elementCount(of: shape)
    precondition(
      expected == elementCount, "shape \(shape) does not hold \(elementCount) elements")
    self.shape = shape
    self.storage = FloatBuffer(count: elementCount)
    fill(UnsafeMutableBufferPointer(start: storage.pointer, count: elementCount))
  }

  /// Number of elements.
  public var count: Int { storage.count }

  /// All elements in row-major order, copied out.
  public var elements: [Float] { withUnsafeElements { Array($0) } }

  /// Lends the elements, in row-major order, for reading.
  public func withUnsafeElements<Result>(
    _ body: (UnsafeBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    try withExtendedLifetime(storage) {
      try body(UnsafeBufferPointer(start: storage.pointer, count: storage.count))
    }
  }

  /// Lends the elements, in row-major order, for writing; other copies of the tensor keep theirs.
  public mutating func withUnsafeMutableElements<Result>(
    _ body: (UnsafeMutableBufferPointer<Float>) throws -> Result
  ) rethrows -> Result {
    if !isKnownUniquelyReferenced(&storage) { storage = storage.copy() }
    return try withExtendedLifetime(storage) {
      try body(UnsafeMutableBufferPointer(start: storage.pointer, count: storage.count))
    }
  }

  /// The same elements under another shape with the same product.
  public func reshaped(to shape: [Int]) -> Tensor {
    precondition(
      Tensor.elementCount(of: shape) == count, "\(self.shape) cannot be reshaped to \(shape)")
    return Tensor(shape: shape, storage: storage)
  }

  private init(shape: [Int], storage: FloatBuffer) {
    self.shape = shape
    self.storage = storage
  }

  /// Product of a shape's extents, or nil where one is negative or the product overflows.
  static func elementCount(of shape: [Int]) -> Int? {
    var product = 1
    for extent in shape {
      let (next, overflow) = product.multipliedReportingOverflow(by: extent)
      if extent < 0 || overflow { return nil }
      product = next
    }
    return product
  }
}

extension Tensor: Equatable {
  /// Equal shapes and equal elements; as with plain numbers, NaN equals nothing.
  public static func == (left: Tensor, right: Tensor) -> Bool {
    guard left.shape == right.shape else { return false }
    return left.withUnsafeElements { a in
      right.withUnsafeElements { b in a.elementsEqual(b) }
    }
  }
}
