import Foundation
import Testing

@testable import Imaging

@Suite struct DataSetTests {
  /// The index's minimum and maximum are of the stored values of all frames, before rescale.
  @Test func dicomFilesDecodeAsTheIndexSays() throws {
    guard let data = DataFolder.required() else { return }
    let folder = data.appendingPathComponent("dicom")
    let index = table(
      try String(contentsOf: folder.appendingPathComponent("index.csv"), encoding: .utf8))
    var counts: [String: Int] = [:]
    for row in index {
      let name = try #require(row["file"])
      let kind = String(name.prefix { $0 != "/" })
      let expected = try #require(row["decode"]).split(separator: " ")
      let content = try bytes(of: folder.appendingPathComponent(name))
      counts[kind, default: 0] += 1
      if kind == "compressed" {
        let error = #expect(throws: ImageError.self, "\(name)") {
          try ImageDecoder.decode(content)
        }
        guard case .unsupported(let text)? = error, text.contains("transfer syntax") else {
          Issue.record("\(name): \(String(describing: error))")
          continue
        }
      } else if expected.first != "ok" {
        #expect(throws: ImageError.self, "\(name)") { try ImageDecoder.decode(content) }
      } else {
        try check(
          content, row, minimum: Int32(expected[2]), maximum: Int32(expected[4]), name: name)
      }
    }
    #expect(counts == ["native": 11, "mr_t1_series": 41, "compressed": 47, "odd": 17])
  }

  private func check(
    _ content: [UInt8], _ row: [String: String], minimum: Int32?, maximum: Int32?, name: String
  ) throws {
    let file = try DicomFile(content)
    #expect(file.metadata.modality == row["modality"], "\(name)")
    #expect("\(file.metadata.rows)" == row["rows"], "\(name)")
    #expect("\(file.metadata.columns)" == row["cols"], "\(name)")
    #expect("\(file.metadata.frameCount)" == row["frames"], "\(name)")
    #expect(
      "\(file.metadata.bitsStored)/\(file.metadata.bitsAllocated)" == row["bits"], "\(name)")
    #expect(file.metadata.isSigned == (row["signed"] == "1"), "\(name)")
    let frames = try (0..<file.metadata.frameCount).map { try file.storedValues(frame: $0) }
    #expect(frames.joined().min() == minimum, "\(name)")
    #expect(frames.joined().max() == maximum, "\(name)")
    let mapping = try file.valueMapping(frame: 0)
    if let slope = row["slope"].flatMap({ Double($0) }) {
      #expect(abs(mapping.slope - slope) < 1e-6, "\(name)")
    }
    if let intercept = row["intercept"].flatMap({ Double($0) }) {
      #expect(abs(mapping.intercept - intercept) < 1e-6, "\(name)")
    }
    let rescaled = try file.rescaledValues(frame: 0)
    let least = try #require(frames[0].min())
    #expect(
      rescaled.min() == Float(Double(least) * mapping.slope + mapping.intercept), "\(name)")
    let image = try ImageDecoder.decode(content).image
    #expect(Set(image.samples).count > 1, "\(name)")
  }

  @Test func originalsDecode() throws {
    guard let data = DataFolder.required() else { return }
    for set in ["tmri", "amri", "kct"] {
      let folder = data.appendingPathComponent("originals/\(set)")
      let rows = table(
        try String(contentsOf: folder.appendingPathComponent("originals.csv"), encoding: .utf8))
      #expect(rows.count == 40)
      for row in rows {
        let name = try #require(row["file"])
        let decoded = try ImageDecoder.decode(bytes(of: folder.appendingPathComponent(name)))
        #expect("\(decoded.image.width)" == row["width"], "\(set)/\(name)")
        #expect("\(decoded.image.height)" == row["height"], "\(set)/\(name)")
        let pixels = ModelInput.pixels(decoded.image)
        #expect(pixels.count == 64 * 64 && pixels.allSatisfy { (0...1).contains($0) })
      }
    }
  }

  /// The training pictures were made from these very originals: ours must come out the same to the last bit.
  @Test(arguments: ["amri", "kct"]) func canvasesEqualTheTrainingPictures(set: String) throws {
    guard let data = DataFolder.required() else { return }
    let archive = try TarArchive(data.appendingPathComponent("\(set).tar"))
    let manifest = table(
      String(decoding: try #require(archive.file("\(set)/manifest.csv")), as: UTF8.self))
    let paths = Dictionary(
      manifest.compactMap { row in row["source"].flatMap { key in row["path"].map { (key, $0) } } },
      uniquingKeysWith: { first, _ in first })
    let folder = data.appendingPathComponent("originals/\(set)")
    let originals = table(
      try String(contentsOf: folder.appendingPathComponent("originals.csv"), encoding: .utf8))
    var compared = 0
    for row in originals {
      guard let source = row["source"], let path = paths[source], let name = row["file"],
        let trained = archive.file("\(set)/\(path)")
      else { continue }
      let original = try ImageDecoder.decode(bytes(of: folder.appendingPathComponent(name))).image
      let training = try ImageDecoder.decode(trained).image
      #expect(ModelInput.canvas(training) == training, "\(name)")
      #expect(ModelInput.canvas(original) == training, "\(name)")
      compared += 1
    }
    #expect(compared == 40)
  }
}
