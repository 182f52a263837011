import DeepHash
import Foundation
import Imaging
import Testing

/// The demonstration's premise: the model that comes with the project gives phantoms of different classes different
/// codes, so that a search by similarity has something to find.
@Suite struct PhantomCodesTests {
  private func model() throws -> ConvNeXt {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let file = root.appending(path: "Models/default.safetensors")
    return try ConvNeXt(safetensors: [UInt8](Data(contentsOf: file)))
  }

  @Test(arguments: [UInt64(1), 7]) func nearestCodesAreOfTheSameClass(seed: UInt64) throws {
    let count = 24
    let model = try model()
    let batch = try (0..<count).flatMap { index in
      ModelInput.pixels(
        try ImageDecoder.decode(Phantom.file(seed: seed, index: index, side: 128).bytes).image)
    }
    let codes = try model.hashCodes(
      ofBatch: batch, count: count, height: ModelInput.defaultSide, width: ModelInput.defaultSide)
    let label = { (index: Int) in Phantom.phantomClass(index: index) }
    var score = 0.0
    for query in 0..<count {
      let others = (0..<count).filter { $0 != query }
      let distance = { codes[query].hammingDistance(to: codes[$0]) }
      let nearest = others.filter { distance($0) == others.map(distance).min() }
      // Ties are broken evenly.
      score += Double(nearest.count { label($0) == label(query) }) / Double(nearest.count)
    }
    #expect(score >= Double(count) * 0.8, "seed \(seed): \(score) of \(count)")
    #expect(Set(codes).count >= PhantomClass.allCases.count, "seed \(seed)")
  }
}
