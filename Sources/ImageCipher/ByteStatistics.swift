import Glibc

/// How evenly spread bytes are, and how alike neighbours in a picture of 8-bit samples.
public struct ByteStatistics: Equatable, Sendable {
  /// How often each of the 256 values occurs.
  public let histogram: [Int]
  /// Shannon entropy in bits a byte, at most 8.
  public let entropy: Double
  /// Pearson's statistic against the uniform distribution, 255 degrees of freedom.
  public let chiSquare: Double
  /// Correlation coefficients of all neighbouring pairs; 1 where all bytes are the same, since
  /// every byte then tells its neighbour.
  public let horizontalCorrelation: Double
  public let verticalCorrelation: Double
  public let diagonalCorrelation: Double

  public var byteCount: Int { histogram.reduce(0, +) }

  /// - Parameters:
  ///   - bytes: whole rows, at least two.
  ///   - rowBytes: bytes a row, at least two.
  public init(of bytes: [UInt8], rowBytes: Int) {
    precondition(
      rowBytes >= 2 && bytes.count >= 2 * rowBytes && bytes.count.isMultiple(of: rowBytes),
      "\(bytes.count) bytes are not two or more whole rows of \(rowBytes)")
    var histogram = [Int](repeating: 0, count: 256)
    for byte in bytes { histogram[Int(byte)] += 1 }
    let total = Double(bytes.count)
    entropy = histogram.reduce(0) { sum, count in
      count == 0 ? sum : sum - Double(count) / total * log2(Double(count) / total)
    }
    let expected = total / 256
    chiSquare = histogram.reduce(0) { sum, count in
      sum + (Double(count) - expected) * (Double(count) - expected) / expected
    }
    self.histogram = histogram
    horizontalCorrelation = Self.correlation(bytes, rowBytes, right: 1, down: 0)
    verticalCorrelation = Self.correlation(bytes, rowBytes, right: 0, down: 1)
    diagonalCorrelation = Self.correlation(bytes, rowBytes, right: 1, down: 1)
  }

  /// Sums are whole numbers, so nothing is lost before the last division.
  private static func correlation(
    _ bytes: [UInt8], _ rowBytes: Int, right: Int, down: Int
  ) -> Double {
    let rows = bytes.count / rowBytes - down
    let columns = rowBytes - right
    let step = down * rowBytes + right
    var (sumX, sumY, sumXX, sumYY, sumXY) = (0, 0, 0, 0, 0)
    for row in 0..<rows {
      for index in row * rowBytes..<row * rowBytes + columns {
        let x = Int(bytes[index])
        let y = Int(bytes[index + step])
        sumX += x
        sumY += y
        sumXX += x * x
        sumYY += y * y
        sumXY += x * y
      }
    }
    let count = Double(rows * columns)
    let meanX = Double(sumX) / count
    let meanY = Double(sumY) / count
    let varianceX = Double(sumXX) / count - meanX * meanX
    let varianceY = Double(sumYY) / count - meanY * meanY
    guard varianceX > 0, varianceY > 0 else { return 1 }
    return (Double(sumXY) / count - meanX * meanY) / (varianceX * varianceY).squareRoot()
  }
}

/// How far apart two cipher texts of one length are (Wu, Noonan, Agaian 2011).
public struct ByteDifference: Equatable, Sendable {
  /// Number of pixels change rate: the share of places that differ, in percent.
  public let changeRatePercent: Double
  /// Unified average changing intensity: the mean distance over 255, in percent.
  public let changeIntensityPercent: Double

  public init(_ first: [UInt8], _ second: [UInt8]) {
    precondition(
      first.count == second.count && !first.isEmpty,
      "\(first.count) and \(second.count) bytes cannot be compared")
    var changed = 0
    var distance = 0
    for (left, right) in zip(first, second) {
      changed += left == right ? 0 : 1
      distance += abs(Int(left) - Int(right))
    }
    changeRatePercent = 100 * Double(changed) / Double(first.count)
    changeIntensityPercent = 100 * Double(distance) / (255 * Double(first.count))
  }
}
