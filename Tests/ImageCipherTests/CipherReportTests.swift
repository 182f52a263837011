import Base
import ImageCipher
import Testing

struct CipherReportTests {
  /// Means over 30 draws against three standard deviations of the mean: single draws leave their
  /// 5 % limits one time in twenty by design.
  @Test func changeRatesHaveTheExpectedMeans() {
    let seed: UInt64 = 30
    let draws = 30
    let entropy = SeededEntropy(seed: seed)
    let reports = (0..<draws).map { draw in
      CipherReport(
        pixels: draw.isMultiple(of: 2) ? Self.blackPicture(256) : Self.disc(256), rowBytes: 256,
        key: SecretBytes(randomCount: 32, entropy: entropy), entropy: entropy)
    }
    let limits = CipherLimits(byteCount: 256 * 256)
    let root = Double(draws).squareRoot()
    for layer in [\CipherReport.chaos, \.sealed] {
      for change in [\CipherReport.Layer.pixelChange, \.keyChange] {
        let differences = reports.map { $0[keyPath: layer][keyPath: change] }
        let rate = differences.map(\.changeRatePercent).reduce(0, +) / Double(draws)
        let intensity = differences.map(\.changeIntensityPercent).reduce(0, +) / Double(draws)
        #expect(
          abs(rate - CipherLimits.expectedChangeRate) < 3 * limits.changeRateDeviation / root,
          "seed \(seed): mean NPCR \(rate)")
        #expect(
          abs(intensity - CipherLimits.expectedChangeIntensity)
            < 3 * limits.changeIntensityDeviation / root,
          "seed \(seed): mean UACI \(intensity)")
      }
      let entropies = reports.map { $0[keyPath: layer].statistics.entropy }
      #expect(
        abs(entropies.reduce(0, +) / Double(draws) - limits.expectedEntropy)
          < 3 * limits.entropyDeviation / root, "seed \(seed)")
      let chiSquares = reports.map { $0[keyPath: layer].statistics.chiSquare }
      #expect(
        abs(chiSquares.reduce(0, +) / Double(draws) - 255) < 3 * 510.0.squareRoot() / root,
        "seed \(seed)")
    }
    #expect(reports.allSatisfy { $0.wrongKeyIsRejected })
  }

  @Test func aLargePictureIsAcceptedThroughout() {
    let seed: UInt64 = 7
    let entropy = SeededEntropy(seed: seed)
    let report = CipherReport(
      pixels: Self.disc(512), rowBytes: 512,
      key: SecretBytes(randomCount: 32, entropy: entropy), entropy: entropy)
    for figure in report.chaos.figures + report.sealed.figures {
      #expect(figure.isAccepted, "seed \(seed): \(figure)")
    }
    #expect(report.chaos.figures.count == 9)
    #expect(report.plain.horizontalCorrelation > 0.9)
    #expect(report.plain.entropy < 7.5)
    #expect(report.plain.byteCount == 512 * 512)
    #expect(report.chaos.statistics != report.sealed.statistics)
  }

  @Test func aPictureThatIsNoWholeNumberOfBlocksIsMeasured() {
    let entropy = SeededEntropy(seed: 5)
    let report = CipherReport(
      pixels: Vector.parabola(31 * 17), rowBytes: 31, key: Vector.key, entropy: entropy)
    #expect(report.sealed.statistics.byteCount == 31 * 17)
    #expect(report.chaos.statistics.byteCount == 31 * 17)
  }

  /// Bad figures must be refused, or the report could not fail.
  @Test func patternsAreRefused() {
    let black = Self.blackPicture(256)
    let ramp = (0..<256 * 256).map { UInt8(truncatingIfNeeded: $0) }
    let unchanged = ByteDifference(ramp, ramp)
    let layer = CipherReport.Layer(
      statistics: ByteStatistics(of: black, rowBytes: 256), pixelChange: unchanged,
      keyChange: unchanged)
    #expect(layer.figures.allSatisfy { !$0.isAccepted })
    let flat = ByteStatistics(of: ramp, rowBytes: 256)
    #expect(flat.entropy == 8)
    #expect(flat.chiSquare == 0)
    #expect(flat.verticalCorrelation == 1)
  }

  /// numpy's numbers for 30 x 20 bytes (i * i + 3 i) mod 251 against (5 i) mod 251.
  @Test func statisticsAsNumpy() {
    let first = (0..<600).map { UInt8(($0 * $0 + 3 * $0) % 251) }
    let second = (0..<600).map { UInt8($0 * 5 % 251) }
    let statistics = ByteStatistics(of: first, rowBytes: 30)
    #expect(abs(statistics.entropy - 6.969244079671201) < 1e-12)
    #expect(abs(statistics.chiSquare - 631.36) < 1e-9)
    #expect(abs(statistics.horizontalCorrelation - 0.014655752474685813) < 1e-12)
    #expect(abs(statistics.verticalCorrelation + 0.04990685138586784) < 1e-12)
    #expect(abs(statistics.diagonalCorrelation - 0.16281450441836867) < 1e-12)
    let difference = ByteDifference(first, second)
    #expect(abs(difference.changeRatePercent - 99.0) < 1e-12)
    #expect(abs(difference.changeIntensityPercent - 32.75751633986928) < 1e-12)
  }

  struct PublishedLimits: Sendable {
    let side: Int
    let lowestChangeRate: Double
    let changeIntensity: ClosedRange<Double>
    let lowestEntropy: Double
    let highestCorrelation: Double
  }

  /// The limits that the literature prints for the usual sizes.
  @Test(arguments: [
    PublishedLimits(
      side: 256, lowestChangeRate: 99.5693, changeIntensity: 33.2824...33.6447,
      lowestEntropy: 7.9964, highestCorrelation: 0.012),
    PublishedLimits(
      side: 512, lowestChangeRate: 99.5893, changeIntensity: 33.3730...33.5541,
      lowestEntropy: 7.9991, highestCorrelation: 0.006),
  ])
  func limitsAsPublished(_ published: PublishedLimits) throws {
    let zeroes = Self.blackPicture(published.side)
    let same = ByteDifference(zeroes, zeroes)
    let layer = CipherReport.Layer(
      statistics: ByteStatistics(of: zeroes, rowBytes: published.side), pixelChange: same,
      keyChange: same)
    let figures = Dictionary(uniqueKeysWithValues: layer.figures.map { ($0.name, $0.accepted) })
    let rate = try #require(figures["NPCR, pixel change (%)"])
    #expect(abs(rate.lowerBound - published.lowestChangeRate) < 1e-4)
    let intensity = try #require(figures["UACI, key change (%)"])
    #expect(abs(intensity.lowerBound - published.changeIntensity.lowerBound) < 1e-4)
    #expect(abs(intensity.upperBound - published.changeIntensity.upperBound) < 1e-4)
    let entropy = try #require(figures["entropy (bits a byte)"])
    #expect(abs(entropy.lowerBound - published.lowestEntropy) < 1e-4)
    let correlation = try #require(figures["diagonal correlation"])
    #expect(abs(correlation.upperBound - published.highestCorrelation) < 1e-9)
    #expect(figures["chi-square"] == 0...310.5)
  }

  private static func blackPicture(_ side: Int) -> [UInt8] {
    [UInt8](repeating: 0, count: side * side)
  }

  /// A bright disc with a soft rim on black.
  private static func disc(_ side: Int) -> [UInt8] {
    (0..<side * side).map { index in
      let x = index % side - side / 2
      let y = index / side - side / 2
      return UInt8(max(0, 250 - 1000 * (x * x + y * y) / (side * side)))
    }
  }
}
