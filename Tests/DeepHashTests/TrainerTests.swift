import CAllocationCount
import DeepHash
import Glibc
import Testing

/// Training as a whole: that it learns, that it is the same every time, and that it can be broken off.
@Suite struct TrainerTests {
  /// Pictures of three classes: bright in another third each, with noise.
  static func pictures(_ count: Int, side: Int = 32, seed: UInt64 = 5) -> TrainingSet {
    TrainingSet(
      labels: (0..<count).map { $0 % 3 }, classes: ["left", "middle", "right"], channels: 1,
      height: side, width: side
    ) { number, out in
      var generator = SeededGenerator(seed: seed &+ UInt64(number))
      let noise = generator.pixels(side * side)
      for at in 0..<side * side {
        let isBright = at % side * 3 / side == number % 3
        out[at] = (isBright ? 0.6 : 0.1) + 0.3 * noise[at]
      }
    }
  }

  static let configuration = try! ConvNeXtConfiguration(
    channels: 1, depths: [1, 1, 1, 1], dims: [8, 8, 16, 16], bits: 12)

  static func recipe(attacked: Bool = false) -> TrainingRecipe {
    var recipe = TrainingRecipe()
    recipe.heads = [8, 4]
    recipe.batchSize = 8
    recipe.averageDecay = 0.9
    recipe.warmEpochs = 1
    recipe.dropPath = 0.2
    recipe.schedule.rate = 5e-3
    recipe.augmentation.flips = false
    if attacked {
      var attack = HashAttack()
      (attack.steps, attack.stepSize) = (2, 4.0 / 255)
      recipe.attack = attack
    }
    return recipe
  }

  static func trainer(
    _ recipe: TrainingRecipe, set: TrainingSet, lanes: Int = 2
  ) throws -> HashTrainer {
    let network = try TrainableNetwork(
      configuration: configuration,
      parameters: ConvNeXt.initialParameters(configuration, layerScale: 0.5, seed: 1),
      height: set.height, width: set.width, lanes: lanes)
    return try HashTrainer(
      network: network, set: set, images: Array(0..<set.count), recipe: recipe)
  }

  /// Mean average precision of the first head's codes among the pictures themselves.
  private static func score(_ network: TrainableNetwork, _ set: TrainingSet) -> Double {
    let outputs = network.outputs(of: set, images: Array(0..<set.count))
    let width = network.configuration.bits
    let codes = LabelledCodes(
      codes: (0..<set.count).map { HashCode(outputs: outputs[$0 * width..<$0 * width + 8]) },
      labels: set.labels)
    return RetrievalScores(queries: codes, database: codes, ks: [10]).cut(10)!.hashing
  }

  @Test(arguments: TrainingRecipe.ClassCodeRule.allCases)
  func learnsToTellClassesApart(_ rule: TrainingRecipe.ClassCodeRule) throws {
    let set = Self.pictures(48)
    var recipe = Self.recipe()
    recipe.classCodes = rule
    let trainer = try Self.trainer(recipe, set: set)
    var losses: [Double] = []
    for epoch in 0..<12 {
      var sum = 0.0
      let next = try trainer.run(epoch: epoch, of: 12) { _, step in
        sum += step.terms.total
        return true
      }
      #expect(next == 6)
      losses.append(sum)
    }
    // Codes that random parameters happen to give may be kept apart badly, and are learned all the same.
    #expect(losses[11] < 0.8 * losses[0], "\(losses)")
    if rule != .frozen { #expect(Self.score(trainer.network, set) > 0.9) }
  }

  @Test func isTheSameEveryTimeAndOverEveryInterruption() throws {
    let set = Self.pictures(20)
    for isAttacked in [false, true] {
      let recipe = Self.recipe(attacked: isAttacked)
      let whole = try Self.trainer(recipe, set: set)
      for epoch in 0..<3 { _ = try whole.run(epoch: epoch, of: 3) { _, _ in true } }

      // Broken off after every batch, and gone on in another trainer each time.
      var state: HashTrainer.State?
      var parameters: [Float]?
      var (epoch, batch) = (0, 0)
      while epoch < 3 {
        let part = try Self.trainer(recipe, set: set)
        if let state, let parameters {
          part.network.setParameters(parameters)
          #expect(part.restore(state))
        }
        batch = try part.run(epoch: epoch, of: 3, from: batch) { _, _ in false }
        (state, parameters) = (part.state, part.network.parameters)
        if batch == part.batchesPerEpoch { (epoch, batch) = (epoch + 1, 0) }
      }
      #expect(parameters == whole.network.parameters)
      #expect(state?.average == whole.averagedParameters)
      #expect(whole.averagedParameters != whole.network.parameters)
    }
  }

  @Test func lanesAddUpTheSameGradientInAnotherOrder() throws {
    let set = Self.pictures(16)
    let runs = try [1, 2, 3].map { lanes in
      let trainer = try Self.trainer(Self.recipe(attacked: true), set: set, lanes: lanes)
      var norms: [Double] = []
      _ = try trainer.run(epoch: 0, of: 1) { _, step in
        norms.append(step.gradientNorm)
        return true
      }
      return norms
    }
    for norms in runs.dropFirst() {
      #expect(abs(norms[0] / runs[0][0] - 1) < 1e-4)
    }
  }

  @Test func otherSeedsTrainOtherwise() throws {
    let set = Self.pictures(16)
    let parameters = try [UInt64(1), 2].map { seed in
      var recipe = Self.recipe()
      recipe.seed = seed
      let trainer = try Self.trainer(recipe, set: set)
      _ = try trainer.run(epoch: 0, of: 1) { _, _ in true }
      return trainer.network.parameters
    }
    #expect(parameters[0] != parameters[1])
  }

  @Test func aStateOfAnotherTrainingIsRefused() throws {
    let set = Self.pictures(16)
    let trainer = try Self.trainer(Self.recipe(), set: set)
    let before = trainer.state
    var other = before
    other.buffers[1].removeLast()
    #expect(!trainer.restore(other))
    other = before
    other.average = []
    #expect(!trainer.restore(other))
    other = before
    other.codes.removeLast()
    #expect(!trainer.restore(other))
    #expect(trainer.restore(before))
  }

  @Test func aLossThatIsNoNumberStopsTraining() throws {
    let set = Self.pictures(16)
    let trainer = try Self.trainer(Self.recipe(), set: set)
    var broken = trainer.network.parameters
    broken[broken.count - 1] = .nan
    trainer.network.setParameters(broken)
    #expect(throws: TrainingError.notFinite(what: "loss", epoch: 0, batch: 0)) {
      try trainer.run(epoch: 0, of: 1) { _, _ in true }
    }
    #expect(throws: TrainingError.tooFewImages(count: 16, batchSize: 17)) {
      var recipe = Self.recipe()
      recipe.batchSize = 17
      _ = try Self.trainer(recipe, set: set)
    }
  }

  @Test func attacksStayWithinTheirRadiusAndReachTheirGoal() throws {
    let set = Self.pictures(48)
    var recipe = Self.recipe()
    recipe.classCodes = .equidistant
    recipe.heads = [12]
    let trainer = try Self.trainer(recipe, set: set)
    for epoch in 0..<8 { _ = try trainer.run(epoch: epoch, of: 8) { _, _ in true } }
    let codes = trainer.codes[0]
    let images = Array(0..<24)
    var attack = HashAttack()
    (attack.steps, attack.radius, attack.stepSize) = (20, 0.3, 0.05)
    func agreement(_ outputs: [Float], _ goals: [[Float]]) -> Double {
      let values = zip(outputs, goals.joined()).map { Double($0 * $1 > 0 ? 1 : -1) }
      return values.reduce(0, +) / Double(values.count)
    }
    let own = images.map { codes[set.labels[$0]] }
    let wanted = images.map { codes[(set.labels[$0] + 1) % 3] }
    let network = trainer.network
    let clean = network.outputs(of: set, images: images)
    for (direction, goals) in [(HashAttack.Direction.towards, wanted), (.away, own)] {
      let moved = attack.run(
        against: network, on: set, images: images, codes: goals, direction: direction, seed: 3)
      for image in images {
        set.withImage(image) { pixels in
          for (at, pixel) in pixels.enumerated() {
            let value = moved[image * pixels.count + at]
            if abs(value - pixel) > 0.3 + 1e-6 || !(0...1).contains(value) {
              Issue.record("image \(image), pixel \(at): \(pixel) became \(value)")
            }
          }
        }
      }
      let (before, after) = (
        agreement(clean, goals), agreement(network.outputs(of: moved), goals)
      )
      if direction == .towards {
        #expect(after > before + 0.2, "\(before), \(after)")
      } else {
        #expect(after < before - 0.2, "\(before), \(after)")
      }
      let again = attack.run(
        against: network, on: set, images: images, codes: goals, direction: direction, seed: 3)
      #expect(again == moved)
    }
  }

  @Test func equidistantCodesAreAsFarApartAsCodesCanBe() {
    for (classes, bits, distance) in [(4, 8, 5), (4, 16, 10), (4, 32, 21), (4, 64, 42), (2, 8, 8)] {
      let codes = ClassCodes.equidistant(classes: classes, bits: bits)
      #expect(codes.count == classes && codes.allSatisfy { $0.count == bits })
      #expect(ClassCodes.smallestDistance(codes) == distance, "\(classes) classes, \(bits) bits")
    }
    #expect(ClassCodes.smallestDistance(ClassCodes.equidistant(classes: 40, bits: 64)) >= 28)
    // More classes than bits: no longer equally far, and never the same.
    for (classes, bits, distance) in [
      (9, 8, 4), (16, 8, 4), (17, 8, 2), (128, 8, 2), (17, 16, 6), (40, 16, 4),
    ] {
      let codes = ClassCodes.equidistant(classes: classes, bits: bits)
      #expect(codes.count == classes && codes.allSatisfy { $0.count == bits })
      #expect(
        ClassCodes.smallestDistance(codes) >= distance,
        "\(classes) classes, \(bits) bits: \(ClassCodes.smallestDistance(codes))")
    }
  }

  @Test func plainDescentAgreesWithItsFormula() throws {
    let network = try TrainableNetwork(
      configuration: Self.configuration,
      parameters: ConvNeXt.initialParameters(Self.configuration, layerScale: 0.5, seed: 1),
      height: 32, width: 32, lanes: 2)
    var optimizer = Optimizer(.sgd, layout: network.layout, weightDecay: 0.1)
    var expected = network.parameters.map(Double.init)
    var velocity = [Double](repeating: 0, count: expected.count)
    var decays = [Bool](repeating: false, count: expected.count)
    for entry in network.layout.entries where entry.shape.count >= 2 {
      for at in entry.range { decays[at] = true }
    }
    for step in 0..<3 {
      let gradient = expected.indices.map { Float(($0 * 37 + step) % 11) / 11 - 0.5 }
      network.step(&optimizer, gradient: gradient, rate: 0.05)
      for at in expected.indices {
        velocity[at] =
          0.9 * velocity[at] + Double(gradient[at]) + (decays[at] ? 0.1 * expected[at] : 0)
        expected[at] -= 0.05 * velocity[at]
      }
    }
    let deviation = Deviation(network.parameters, from: expected.map { Float($0) })
    #expect(deviation.relative < 1e-6, "\(deviation)")
  }

  @Test func longGradientsAreShortenedAndClientsKeepClose() throws {
    let set = Self.pictures(16)
    func change(clip: Double, proximity: Double, away: Float) throws -> [Float] {
      var recipe = Self.recipe()
      recipe.optimizer = .sgd
      recipe.schedule.shape = .constant
      recipe.schedule.warmUpEpochs = 0
      recipe.schedule.rate = 1
      recipe.weightDecay = 0
      recipe.clipNorm = clip
      recipe.proximity = proximity
      let trainer = try Self.trainer(recipe, set: set)
      let before = trainer.network.parameters
      // As if the round had begun somewhere else.
      trainer.resumeRound(before.map { $0 + away })
      _ = try trainer.run(epoch: 0, of: 1) { _, _ in false }
      return zip(trainer.network.parameters, before).map { $0 - $1 }
    }
    func length(_ values: [Float]) -> Double {
      values.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    }
    let free = try change(clip: 1e6, proximity: 0, away: 0.1)
    #expect(length(free) > 1e-3)
    let clipped = try change(clip: 1e-3, proximity: 0, away: 0.1)
    #expect(abs(length(clipped) - 1e-3) < 1e-5)
    // The pull is mu times the distance, in every parameter.
    let pulled = try change(clip: 1e6, proximity: 0.5, away: 0.1)
    for (with, without) in zip(pulled, free) { #expect(abs(with - without - 0.05) < 1e-4) }
  }

  /// The objective as ALGORITHMS has it, in double precision, against the slope that attacks follow.
  @Test func anAttackFollowsTheSlopeOfItsObjective() {
    func objective(_ output: Double, _ code: Double, _ alpha: Double) -> Double {
      let s = tanh(alpha * output) * code
      return (2 - s) * s
    }
    for alpha in [0.1, 0.5, 1] {
      for code in [1.0, -1] {
        for output in stride(from: -6.0, through: 6, by: 0.37) {
          let slope = Double(
            HashAttack.slope(Float(output), code: Float(code), alpha: Float(alpha)))
          if tanh(alpha * output) * code >= 0.5 {
            #expect(slope == 0, "won already: \(output), \(code), \(alpha)")
            continue
          }
          let difference =
            (objective(output + 1e-5, code, alpha) - objective(output - 1e-5, code, alpha)) / 2e-5
          #expect(abs(slope - difference) < 1e-5, "\(output), \(code), \(alpha)")
          #expect(slope * code > 0)
        }
      }
    }
  }

  /// The first batch of a stage against attacks is attacked by them, before it refreshes them.
  @Test func refreshedCodesBeginAsTheNetworkHasThem() throws {
    let set = Self.pictures(16)
    let recipe = Self.recipe(attacked: true)
    let trainer = try Self.trainer(recipe, set: set)
    var frozen = recipe
    frozen.classCodes = .frozen
    let expected = try HashTrainer.initialCodes(
      trainer.network, set, Array(0..<set.count), frozen)
    #expect(trainer.codes == expected)
    var warm = recipe
    warm.classCodes = .equidistant
    #expect(
      try HashTrainer.initialCodes(trainer.network, set, [], warm) != expected,
      "pictures that do not tell the two apart")
  }

  /// Of 13 bits 4,096 codes are tried: there are 8,192, and still none for the last class.
  @Test func classesWithoutACodeOfTheirOwnAreRefused() throws {
    let trainer = try Self.trainer(Self.recipe(), set: Self.pictures(16))
    var recipe = TrainingRecipe()
    (recipe.heads, recipe.classCodes) = ([13], .equidistant)
    let set = TrainingSet(
      labels: [0, 1], classes: (0..<4097).map { "\($0)" }, channels: 1, height: 32, width: 32
    ) { _, out in out.initialize(repeating: 0) }
    #expect(throws: TrainingError.tooManyClasses(count: 4097, bits: 13)) {
      try HashTrainer.initialCodes(trainer.network, set, [], recipe)
    }
  }

  @Test func attacksSharpenStepByStep() {
    let alphas = (0..<100).map { HashAttack.alpha(step: $0, of: 100) }
    #expect(alphas[..<50].allSatisfy { $0 == 0.1 })
    #expect([50, 59, 60, 70, 80, 90, 99].map { alphas[$0] } == [0.2, 0.2, 0.3, 0.5, 0.7, 1, 1])
    #expect((0..<3).map { HashAttack.alpha(step: $0, of: 3) } == [0.1, 0.2, 0.7])
  }

  @Test func schedulesGoWhereTheyShould() {
    var schedule = LearningRateSchedule()
    (schedule.rate, schedule.warmUpEpochs) = (1, 2)
    #expect(schedule.rate(at: 0, of: 10) == 0)
    #expect(abs(schedule.rate(at: 1, of: 10) - 0.5 * 0.5 * (1 + 0.951056516)) < 1e-6)
    #expect(abs(schedule.rate(at: 5, of: 10) - 0.5) < 1e-12)
    #expect(schedule.rate(at: 10, of: 10) == 0)
    schedule.shape = .steps
    #expect(
      [2.0, 4.9, 5, 7.4, 7.5].map { schedule.rate(at: $0, of: 10) } == [1, 1, 0.1, 0.1, 0.01])
    schedule.shape = .constant
    #expect(schedule.rate(at: 9, of: 10) == 1)
  }

  @Test func viewsKeepToTheirBounds() {
    let set = Self.pictures(3)
    let trainer = try? Self.trainer(Self.recipe(), set: Self.pictures(8))
    #expect(trainer != nil)
    var augmentation = Augmentation()
    augmentation.rotationDegrees = 30
    for image in 0..<3 {
      let view = augmentation.view(of: set, image: image, seed: UInt64(image))
      #expect(view.allSatisfy { (0...1).contains($0) })
      #expect(view == augmentation.view(of: set, image: image, seed: UInt64(image)))
      #expect(view != augmentation.view(of: set, image: image, seed: 77))
      set.withImage(image) { pixels in
        #expect(Augmentation.none.view(of: set, image: image, seed: 1) == Array(pixels))
      }
    }
    // A flip alone is a mirror image.
    augmentation = .none
    augmentation.flips = true
    let views = (0..<16).map { augmentation.view(of: set, image: 0, seed: $0) }
    let plain = Augmentation.none.view(of: set, image: 0, seed: 1)
    let mirrored = (0..<32).flatMap { y in (0..<32).reversed().map { plain[y * 32 + $0] } }
    func isClose(_ left: [Float], _ right: [Float]) -> Bool {
      zip(left, right).allSatisfy { abs($0 - $1) < 1e-5 }
    }
    #expect(views.allSatisfy { isClose($0, plain) || isClose($0, mirrored) })
    #expect(views.contains { isClose($0, mirrored) } && views.contains { isClose($0, plain) })
  }

  /// One test and not one for each case: counting is switched for the whole process.
  @Test func stepsAllocateNothing() throws {
    func allocations(
      _ rule: TrainingRecipe.ClassCodeRule, attacked: Bool, pictures: Int
    ) throws -> UInt64 {
      var recipe = Self.recipe(attacked: attacked)
      recipe.classCodes = rule
      recipe.warmEpochs = 0
      recipe.augmentation = Augmentation()
      recipe.averageDecay = 0.9
      // One lane: all that it does, it does on this thread.
      let trainer = try Self.trainer(recipe, set: Self.pictures(pictures), lanes: 1)
      func epoch(_ number: Int) throws {
        _ = try trainer.run(epoch: number, of: 9) { _, _ in true }
      }
      try epoch(0)
      let before = sfm_allocations_of_this_thread()
      sfm_allocation_counting(1)
      defer { sfm_allocation_counting(0) }
      try epoch(1)
      return sfm_allocations_of_this_thread() - before
    }
    for rule in TrainingRecipe.ClassCodeRule.allCases {
      for attacked in [false, true] {
        let few = try allocations(rule, attacked: attacked, pictures: 16)
        let many = try allocations(rule, attacked: attacked, pictures: 160)
        // What an epoch needs: its order of pictures.
        #expect(few > 0, "nothing was counted")
        #expect(few == many, "\(rule), attacked \(attacked): ten times the steps")
      }
    }
  }
}
