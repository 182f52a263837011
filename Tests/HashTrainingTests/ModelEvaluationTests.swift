import DeepHash
import Foundation
import HashTraining
import Imaging
import Testing

/// From a folder of pictures to figures, as a person would do it.
@Suite struct ModelEvaluationTests {
  private static let configuration = try! ConvNeXtConfiguration(
    channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 16, 16], bits: 16)

  /// Pictures of three classes, each bright in another third.
  private static func folder(_ scratch: Scratch) throws -> PictureFolder {
    var manifest = "path,class,split\n"
    for number in 0..<60 {
      let samples = (0..<40 * 40).map { at -> UInt16 in
        let isBright = at % 40 * 3 / 40 == number % 3
        return UInt16((isBright ? 170 : 20) + (at &* 31 &+ number &* 17) % 60)
      }
      let image = GrayImage(width: 40, height: 40, bitsPerSample: 8, samples: samples)
      try scratch.write(PngEncoder.encode(image), to: "\(number).png")
      manifest += "\(number).png,class \(number % 3),\(number < 45 ? "train" : "test")\n"
    }
    try scratch.write(manifest, to: "manifest.csv")
    return try PictureFolder(directory: scratch.path, split: .group, seed: 1)
  }

  private static func trained(_ set: TrainingSet, _ folder: PictureFolder) throws -> ModelFile {
    var recipe = TrainingRecipe()
    recipe.batchSize = 9
    recipe.classCodes = .equidistant
    recipe.loss.original = .central
    recipe.augmentation = .none
    recipe.schedule.rate = 5e-3
    let network = try TrainableNetwork(
      configuration: configuration,
      parameters: ConvNeXt.initialParameters(configuration, layerScale: 0.5, seed: 1),
      height: 32, width: 32, lanes: 2)
    let trainer = try HashTrainer(
      network: network, set: set, images: folder.trainingImages, recipe: recipe)
    for epoch in 0..<10 { _ = try trainer.run(epoch: epoch, of: 10) { _, _ in true } }
    return ModelFile(
      configuration: configuration, parameters: network.parameters,
      metadata: [ModelFile.Field.side: "32"])
  }

  @Test func tellsLearningFromChanceAndAttacksFromBoth() throws {
    let scratch = try Scratch()
    let folder = try Self.folder(scratch)
    let set = try folder.load(side: 32)
    let model = try Self.trained(set, folder)
    var options = ModelEvaluation.Options()
    options.ks = [5, 100]
    // Far enough to win against a network that never saw an attack.
    options.attack?.steps = 40
    options.attack?.radius = 0.4
    options.attack?.stepSize = 0.02
    let evaluation = try ModelEvaluation(model, set: set, folder: folder, options: options)
    #expect(evaluation.queries == 15 && evaluation.database == 45)
    let clean = try #require(evaluation.clean.cut(5))
    let targeted = try #require(evaluation.targeted)
    let away = try #require(evaluation.nontargeted?.trueLabel.cut(5))
    #expect(clean.hashing > 0.95 && clean.retrieval > 0.95)
    #expect((evaluation.shuffled.cut(5)?.hashing ?? 1) < 0.8)
    #expect(evaluation.pixels?.accuracy == 1)
    #expect((targeted.trueLabel.cut(5)?.hashing ?? 1) < clean.hashing - 0.2)
    #expect((targeted.wantedLabel?.cut(5)?.hashing ?? 0) > 0.3)
    #expect(away.hashing < clean.hashing - 0.2)
    #expect(targeted.perturbation.largest <= 0.4 + 1e-6 && targeted.perturbation.length > 0)
    #expect(ClassCodes.smallestDistance(evaluation.classCodes) >= 8)

    // The same again, and with fewer queries attacked.
    let again = try ModelEvaluation(model, set: set, folder: folder, options: options)
    #expect(again.targeted?.trueLabel.cut(5)?.hashing == targeted.trueLabel.cut(5)?.hashing)
    options.attackedQueries = 4
    options.attacksAwayToo = false
    let few = try ModelEvaluation(model, set: set, folder: folder, options: options)
    #expect(few.targeted?.queries == 4 && few.nontargeted == nil)
  }

  @Test func canBeBrokenOff() throws {
    let scratch = try Scratch()
    let folder = try Self.folder(scratch)
    let set = try folder.load(side: 32)
    let model = ModelFile(
      configuration: Self.configuration,
      parameters: ConvNeXt.initialParameters(Self.configuration, layerScale: 0.5, seed: 1),
      metadata: [:])
    var options = ModelEvaluation.Options()
    options.isCancelled = { true }
    #expect(throws: CancellationError.self) {
      _ = try ModelEvaluation(model, set: set, folder: folder, options: options)
    }
    options.isCancelled = { false }
    options.attack = nil
    let evaluation = try ModelEvaluation(model, set: set, folder: folder, options: options)
    #expect(evaluation.targeted == nil && evaluation.nontargeted == nil)
  }
}
