import CKernels
import DeepHash
import Foundation
import Testing

/// The network against PyTorch, number by number.
@Suite struct GoldenTests {
  @Test(arguments: GoldenCase.names)
  func everyActivationAgrees(_ name: String) throws {
    let golden = try GoldenCase(name)
    let images = golden.input
    var seen: Set<String> = []
    var deviations: [String: Deviation] = [:]
    let outputs = golden.model.observe(
      batch: images.elements, count: images.shape[0], height: images.shape[2],
      width: images.shape[3]
    ) { name, values, extent in
      guard let expected = try? golden.file.tensor(named: "out.\(name)") else { return }
      seen.insert("out.\(name)")
      let isPlanar = expected.shape.count == 4 && !name.contains("norm") && !name.contains("fc")
      let actual = isPlanar ? Self.planar(values, extent) : Array(values)
      deviations[name] = Deviation(actual, from: expected.elements)
    }
    seen.insert("out.f")
    deviations["f"] = Deviation(outputs, from: try golden.file.tensor(named: "out.f").elements)

    let expectedNames = golden.file.entries.map(\.name).filter { $0.hasPrefix("out.") }
    #expect(seen == Set(expectedNames))
    for (name, deviation) in deviations {
      #expect(deviation.isWithinTolerance, "\(name): \(deviation)")
    }
  }

  @Test(arguments: GoldenCase.names)
  func outputsAndCodesAgree(_ name: String) throws {
    let golden = try GoldenCase(name)
    let expected = try golden.file.tensor(named: "out.f")
    let outputs = try golden.forward(golden.input)
    let tangents = Deviation(
      outputs.map { Float(tanh(Double($0))) },
      from: try golden.file.tensor(named: "h").elements)
    #expect(tangents.isWithinTolerance, "\(tangents)")

    let adversarial = Deviation(
      try golden.forward(golden.file.tensor(named: "xadv")),
      from: try golden.file.tensor(named: "fadv").elements)
    #expect(adversarial.isWithinTolerance, "\(adversarial)")

    let images = golden.input
    let codes = try golden.model.hashCodes(
      ofBatch: images.elements, count: images.shape[0], height: images.shape[2],
      width: images.shape[3])
    let bits = expected.shape[1]
    for (image, code) in codes.enumerated() {
      let signs = expected.elements[image * bits..<(image + 1) * bits].map { $0 >= 0 ? "1" : "0" }
      #expect(code.description == signs.joined())
      #expect(code.length == bits)
    }
  }

  @Test(arguments: GoldenCase.names)
  func configurationComesFromTheShapes(_ name: String) throws {
    let expected = [
      "tiny-1x64x64": try ConvNeXtConfiguration(
        channels: 1, depths: [1, 1, 2, 1], dims: [16, 32, 64, 128], bits: 16),
      "odd-3x33x40": try ConvNeXtConfiguration(
        channels: 3, depths: [1, 1, 2, 1], dims: [8, 16, 24, 40], bits: 8),
      "rgb-3x32x32": try ConvNeXtConfiguration(
        channels: 3, depths: [1, 2, 1, 1], dims: [8, 16, 24, 40], bits: 32),
    ]
    #expect(try GoldenCase(name).model.configuration == expected[name])
  }

  @Test func geluAgrees() throws {
    struct Points: Decodable { let gelu: [[Double]] }
    let points = try JSONDecoder().decode(Points.self, from: Data(Fixture.bytes("gelu.json"))).gelu
    #expect(points.count == 29)
    var values = points.map { Float($0[0]) }
    let zeros = [Float](repeating: 0, count: values.count)
    sfmedir_gelu(values, zeros, &values, 1, values.count)
    for (value, point) in zip(values, points) {
      #expect(abs(Double(value) - point[1]) <= 2e-7 * max(1, abs(point[0])), "at \(point[0])")
    }
    // With its derivative in the same pass, shifted by a bias and scaled.
    var slopes = points.map { Float($0[0] - 0.5) }
    let shift = [Float](repeating: 0.5, count: slopes.count)
    var scaled = slopes
    sfmedir_gelu_with_derivative(&slopes, shift, 2, &scaled, 1, slopes.count)
    for (index, point) in points.enumerated() {
      let tolerance = 1e-6 * max(1, abs(point[0]))
      #expect(abs(Double(scaled[index]) - 2 * point[1]) <= tolerance, "at \(point[0])")
      #expect(abs(Double(slopes[index]) - 2 * point[2]) <= tolerance, "at \(point[0])")
    }
    // The tail keeps its relative accuracy, so gradients through it do too.
    let tail = points.firstIndex { $0[0] == -6 }!
    #expect(abs(Double(scaled[tail]) / (2 * points[tail][1]) - 1) < 1e-5)
    #expect(abs(Double(slopes[tail]) / (2 * points[tail][2]) - 1) < 1e-5)
  }

  /// Between the points too, against the error function of the C library in double precision.
  @Test func geluIsWithinItsBoundEverywhere() {
    var points = stride(from: Float(-14), through: 14, by: 1e-3).map { $0 }
    points += [-3e38, -1e9, -100, -5.5, Float(-5.5).nextUp, Float(-5.5).nextDown, 5.5, 1e9, 3e38]
    let zeros = [Float](repeating: 0, count: points.count)
    var values = points
    sfmedir_gelu(points, zeros, &values, 1, points.count)
    for (x, value) in zip(points.map(Double.init), values) {
      let exact = x / 2 * erfc(-x / 2.0.squareRoot())
      #expect(abs(Double(value) - exact) <= 2e-7 * max(1, abs(x)), "at \(x)")
    }
    var odd: [Float] = [.nan, .infinity, -.infinity]
    sfmedir_gelu(odd, zeros, &odd, 1, odd.count)
    #expect(odd[0].isNaN)
    #expect(odd[1] == .infinity)
    #expect(odd[2] == 0)
  }

  private static func planar(_ values: UnsafeBufferPointer<Float>, _ extent: ImageExtent) -> [Float]
  {
    let pixels = extent.height * extent.width
    var result = [Float](repeating: 0, count: values.count)
    for index in values.indices {
      let (image, inside) = index.quotientAndRemainder(dividingBy: pixels * extent.channels)
      let (pixel, channel) = inside.quotientAndRemainder(dividingBy: extent.channels)
      result[(image * extent.channels + channel) * pixels + pixel] = values[index]
    }
    return result
  }
}
