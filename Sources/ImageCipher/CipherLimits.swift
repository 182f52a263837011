import Glibc

/// Expected values and acceptance limits for `byteCount` bytes that cannot be told from random.
///
/// Change rate and intensity: Wu, Noonan and Agaian (2011) at 5 %. Entropy: the expectation
/// 8 - 255 / (2 N ln 2) less three standard deviations; 7.999 cannot be expected below 184 000
/// bytes. Chi-square: 1 %. Correlation: a little over three standard deviations.
public struct CipherLimits: Equatable, Sendable {
  public let byteCount: Int
  private var count: Double { Double(byteCount) }

  public init(byteCount: Int) {
    precondition(byteCount > 0, "\(byteCount) bytes have no limits")
    self.byteCount = byteCount
  }

  /// Percent.
  public static let expectedChangeRate = 100 * 255.0 / 256
  /// Percent.
  public static let expectedChangeIntensity = 100 * 257.0 / 768

  /// Standard deviation of one draw, percent.
  public var changeRateDeviation: Double { 100 * (255 / count).squareRoot() / 256 }

  /// Standard deviation of one draw, percent.
  public var changeIntensityDeviation: Double {
    100 * (257 * (255.0 * 255 + 2 * 255 + 3) / (18 * 256 * 256 * 255 * count)).squareRoot()
  }

  public var expectedEntropy: Double { 8 - 255 / (2 * count * log(2)) }
  public var entropyDeviation: Double { 127.5.squareRoot() / (count * log(2)) }
  public static let expectedChiSquare = 255.0
  public static let highestChiSquare = 310.5
  public var highestCorrelation: Double { 3.072 / count.squareRoot() }

  func entropy(_ value: Double) -> CipherReport.Figure {
    CipherReport.Figure(
      name: "entropy (bits a byte)", value: value, expected: expectedEntropy,
      accepted: (expectedEntropy - 3 * entropyDeviation)...8)
  }

  func chiSquare(_ value: Double) -> CipherReport.Figure {
    CipherReport.Figure(
      name: "chi-square", value: value, expected: Self.expectedChiSquare,
      accepted: 0...Self.highestChiSquare)
  }

  func correlation(_ name: String, _ value: Double) -> CipherReport.Figure {
    CipherReport.Figure(
      name: name, value: value, expected: 0, accepted: -highestCorrelation...highestCorrelation)
  }

  func changeRate(_ name: String, _ difference: ByteDifference) -> CipherReport.Figure {
    let lowest = Self.expectedChangeRate - 1.6448536 * changeRateDeviation
    return CipherReport.Figure(
      name: name, value: difference.changeRatePercent, expected: Self.expectedChangeRate,
      accepted: lowest...100)
  }

  func changeIntensity(_ name: String, _ difference: ByteDifference) -> CipherReport.Figure {
    let span = 1.9599640 * changeIntensityDeviation
    return CipherReport.Figure(
      name: name, value: difference.changeIntensityPercent,
      expected: Self.expectedChangeIntensity,
      accepted: (Self.expectedChangeIntensity - span)...(Self.expectedChangeIntensity + span))
  }
}
