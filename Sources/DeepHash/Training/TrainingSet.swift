internal import Base

/// Pictures and their classes, in memory.
public final class TrainingSet: @unchecked Sendable {
  public let channels: Int
  public let height: Int
  public let width: Int
  /// Of each picture.
  public let labels: [Int]
  /// Names of the classes, by number.
  public let classes: [String]
  private let images: FloatBuffer

  public var count: Int { labels.count }
  public var imageElements: Int { channels * height * width }

  /// - Parameter fill: writes picture number n, planar, from 0 to 1.
  public init<Failure: Error>(
    labels: [Int], classes: [String], channels: Int, height: Int, width: Int,
    fill: (Int, UnsafeMutableBufferPointer<Float>) throws(Failure) -> Void
  ) throws(Failure) {
    precondition(labels.allSatisfy(classes.indices.contains), "a label without a class")
    self.labels = labels
    self.classes = classes
    self.channels = channels
    self.height = height
    self.width = width
    let elements = channels * height * width
    images = FloatBuffer(count: labels.count * elements)
    for number in labels.indices {
      try fill(
        number,
        UnsafeMutableBufferPointer(start: images.pointer + number * elements, count: elements))
    }
  }

  /// SHA-256 of some pictures and their labels.
  public func digest(of numbers: [Int]) -> [UInt8] {
    var bytes: [UInt8] = []
    for number in numbers {
      bytes += withImage(number) { sha256(Array(UnsafeRawBufferPointer($0))) }
      bytes += withUnsafeBytes(of: Int64(labels[number]).littleEndian) { Array($0) }
    }
    return sha256(bytes)
  }

  func image(_ number: Int) -> UnsafePointer<Float> {
    precondition(labels.indices.contains(number), "picture \(number) of \(count)")
    return UnsafePointer(images.pointer + number * imageElements)
  }

  /// Lends a picture: [channels][height][width].
  public func withImage<Result>(_ number: Int, _ body: (UnsafeBufferPointer<Float>) -> Result)
    -> Result
  {
    withExtendedLifetime(self) {
      body(UnsafeBufferPointer(start: image(number), count: imageElements))
    }
  }
}
