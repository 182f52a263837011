internal import Base
internal import CKernels

/// A step's passes through the network, lane by lane.
extension HashTrainer {
  private var lanes: Int { network.laneCount }

  /// - Parameter number: of the step, from which its dice follow.
  func forward(_ batch: Batch, number: Int) {
    let work = Work(
      batch: batch, number: number, codes: codes, outputs: outputs.pointer,
      adversarialOutputs: outputs.pointer + recipe.batchSize * recipe.outputCount)
    let (network, set, recipe) = (network, set, recipe)
    Lane.inParallel(lanes) { lane in
      Self.forward(work, lane: lane, network: network, set: set, recipe: recipe)
    }
  }

  private struct Work: @unchecked Sendable {
    let batch: Batch
    let number: Int
    let codes: [[[Float]]]
    let outputs: UnsafeMutablePointer<Float>
    let adversarialOutputs: UnsafeMutablePointer<Float>
  }

  private static func forward(
    _ work: Work, lane laneNumber: Int, network: TrainableNetwork, set: TrainingSet,
    recipe: TrainingRecipe
  ) {
    let lane = network.lanes[laneNumber]
    let share = Lane.share(of: work.batch.images.count, lane: laneNumber, lanes: network.laneCount)
    guard !share.isEmpty else { return }
    let (elements, width) = (network.imageElements, recipe.outputCount)
    let copies = recipe.attack == nil ? 1 : 2
    let count = copies * share.count
    let clean = lane.scratch(TrainableNetwork.Scratch.images, count: count * elements)
    let extent = network.extent(1)
    for (at, member) in share.enumerated() {
      var dice = TrainingDice.dice(recipe.seed, .view, [recipe.stage, work.number, member])
      recipe.augmentation.view(
        of: set.image(work.batch.images[member]), into: clean + at * elements, extent: extent,
        dice: &dice)
    }
    if let attack = recipe.attack {
      perturb(
        clean, into: clean + share.count * elements, share, work, attack, lane: lane,
        network: network, recipe: recipe)
    }
    let outputs = lane.scratch(TrainableNetwork.Scratch.outputs, count: count * width)
    network.forward(
      lane: lane, images: clean, count: count, outputs: outputs,
      branchFactors: branchFactors(
        share, copies: copies, work, lane: lane, network: network, recipe))
    (work.outputs + share.lowerBound * width).update(from: outputs, count: share.count * width)
    if copies == 2 {
      (work.adversarialOutputs + share.lowerBound * width).update(
        from: outputs + share.count * width, count: share.count * width)
    }
  }

  /// PGD away from the images' own codes, on the network without stochastic depth.
  private static func perturb(
    _ clean: UnsafeMutablePointer<Float>, into moved: UnsafeMutablePointer<Float>,
    _ share: Range<Int>, _ work: Work, _ attack: HashAttack, lane: Lane, network: TrainableNetwork,
    recipe: TrainingRecipe
  ) {
    let (elements, width) = (network.imageElements, recipe.outputCount)
    for (at, member) in share.enumerated() {
      var dice = TrainingDice.dice(recipe.seed, .start, [recipe.stage, work.number, member])
      HashAttack.start(
        clean + at * elements, moved + at * elements, count: elements, radius: attack.radius,
        dice: &dice)
    }
    let gradient = lane.scratch(
      TrainableNetwork.Scratch.imageGradient, count: share.count * elements)
    for _ in 0..<attack.steps {
      network.imageGradient(lane: lane, images: moved, count: share.count, into: gradient) {
        outputs in
        for (at, member) in share.enumerated() {
          var first = 0
          for (head, bits) in recipe.heads.enumerated() {
            recipe.loss.attackSlope(
              outputs + at * width + first, code: work.codes[head][work.batch.labels[member]])
            first += bits
          }
        }
      }
      sfmedir_projected_step(
        clean, gradient, -attack.stepSize, attack.radius, moved, share.count * elements)
    }
  }

  /// [block][image], in the lane's scratch; nil where nothing is left out.
  private static func branchFactors(
    _ share: Range<Int>, copies: Int, _ work: Work, lane: Lane, network: TrainableNetwork,
    _ recipe: TrainingRecipe
  ) -> UnsafePointer<Float>? {
    guard recipe.dropPath > 0 else { return nil }
    let (blocks, count) = (network.blockCount, copies * share.count)
    let factors = lane.scratch(TrainableNetwork.Scratch.factors, count: blocks * count)
    for copy in 0..<copies {
      for (at, member) in share.enumerated() {
        var dice = TrainingDice.dice(
          recipe.seed, .depth, [recipe.stage, work.number, member, copy])
        for block in 0..<blocks {
          let chance = recipe.dropPath * Double(block) / Double(max(blocks - 1, 1))
          let isLeftOut = Double.random(in: 0..<1, using: &dice) < chance
          factors[block * count + copy * share.count + at] = isLeftOut ? 0 : Float(1 / (1 - chance))
        }
      }
    }
    return UnsafePointer(factors)
  }

  func loss(_ labels: [Int], _ memory: HashLoss.Memory) -> HashLoss.Terms {
    let (count, width) = (labels.count, recipe.outputCount)
    var sum = HashLoss.Terms()
    var first = 0
    let share = 1 / Double(recipe.heads.count)
    for (head, bits) in recipe.heads.enumerated() {
      func rows(_ buffer: FloatBuffer, adversarial: Bool) -> HashLoss.Rows {
        HashLoss.Rows(
          pointer: buffer.pointer + (adversarial ? count * width : 0) + first, stride: width)
      }
      let isAttacked = recipe.attack != nil
      sum += recipe.loss.evaluate(
        outputs: rows(outputs, adversarial: false),
        adversarialOutputs: isAttacked ? rows(outputs, adversarial: true) : nil, labels: labels,
        codes: codes[head], buffer: buffers[head], weight: share,
        gradient: rows(gradients, adversarial: false),
        adversarialGradient: isAttacked ? rows(gradients, adversarial: true) : nil, memory: memory)
      first += bits
    }
    return sum.divided(by: Double(recipe.heads.count))
  }

  func backward(_ count: Int) {
    let (network, recipe) = (network, recipe)
    let width = recipe.outputCount
    let clean = SharedMemory(gradients.pointer)
    network.clearGradients()
    Lane.inParallel(lanes) { laneNumber in
      let lane = network.lanes[laneNumber]
      let share = Lane.share(of: count, lane: laneNumber, lanes: network.laneCount)
      guard !share.isEmpty else { return }
      let copies = recipe.attack == nil ? 1 : 2
      let images = copies * share.count
      let rows = lane.scratch(TrainableNetwork.Scratch.outputs, count: images * width)
      rows.update(from: clean.pointer + share.lowerBound * width, count: share.count * width)
      if copies == 2 {
        (rows + share.count * width).update(
          from: clean.pointer + (count + share.lowerBound) * width, count: share.count * width)
      }
      // What the forward pass was given is still in its place.
      let factors =
        recipe.dropPath > 0
        ? lane.scratch(TrainableNetwork.Scratch.factors, count: network.blockCount * images) : nil
      network.backward(
        lane: lane, outputGradient: rows, count: images,
        branchFactors: factors.map { UnsafePointer($0) })
    }
  }
}
