import ArgumentParser
import DeepHash
import HashTraining

/// How parameters follow their gradient.
struct LearningOptions: ParsableArguments, Sendable {
  @Option(help: "Pictures of a step.") var batch = 32
  @Option(help: "adamw or sgd.") var optimizer = Optimizer.Kind.adamW
  @Option(help: "Highest learning rate.") var rate = 2e-3
  @Option(help: "The same against attacks (default: the same).") var adversarialRate: Double?
  @Option(help: "cosine, steps or constant.") var schedule = LearningRateSchedule.Shape.cosine
  @Option(help: ArgumentHelp("Over which the rate grows.", valueName: "epochs")) var warmUp = 1.0
  @Option(help: "Of kernels and matrices.") var weightDecay = 0.05
  @Option(help: "Longest gradient.") var clip = 5.0
  @Option(help: "Chance of the last block to be left out.") var dropPath = 0.05
  @Option(help: "Of the parameters' moving average, a step; 0 for none.") var averageDecay = 0.0
  @Option(help: "What blocks begin with.") var layerScale = 0.5

  func validate() throws {
    guard (2...4096).contains(batch) else { throw ValidationError("--batch is 2 to 4096") }
    guard rate > 0, rate <= 10, (adversarialRate ?? 1) > 0, (adversarialRate ?? 1) <= 10 else {
      throw ValidationError("a learning rate is above 0 and at most 10")
    }
    guard (0...1).contains(weightDecay), (1e-6...1e6).contains(clip), (0..<1).contains(dropPath),
      (0..<1).contains(averageDecay), (0...1e6).contains(warmUp), (1e-9...10).contains(layerScale)
    else {
      throw ValidationError(
        "--weight-decay is 0 to 1, --drop-path and --average-decay below 1, --warm-up 0 to 1000000, --clip and --layer-scale above 0"
      )
    }
  }

  func apply(to recipe: inout TrainingRecipe) {
    recipe.batchSize = batch
    recipe.optimizer = optimizer
    recipe.schedule.rate = rate
    recipe.schedule.shape = schedule
    recipe.schedule.warmUpEpochs = warmUp
    recipe.weightDecay = weightDecay
    recipe.clipNorm = clip
    recipe.dropPath = dropPath
    recipe.averageDecay = averageDecay
  }

  var description: String {
    "--batch \(batch) --optimizer \(optimizer.rawValue) --rate \(rate) "
      + "--adversarial-rate \(adversarialRate ?? rate) --schedule \(schedule.rawValue) "
      + "--warm-up \(warmUp) --weight-decay \(weightDecay) --clip \(clip) --drop-path \(dropPath) "
      + "--average-decay \(averageDecay) --layer-scale \(layerScale)"
  }
}

/// By how much an attack may move pixels, in 255ths.
enum AttackSizes {
  static let accepted = 0.001...255.0
}

/// What is made small, and what attacks do meanwhile.
struct LossOptions: ParsableArguments, Sendable {
  @Option(help: "L_ori: pairwise or central.") var loss = HashLoss.Original.pairwise
  @Option(help: "L_adl: mainstay or central.") var adversarialLoss = HashLoss.Adversarial.mainstay
  @Option(help: "Weight of L_adl.") var lambda = 1.0
  @Option(help: "Weight of L_quant.") var phi = 1e-4
  @Option(help: "Weight of L_bit.") var chi = 0.1
  @Option(help: "Codes of the classes: refreshed, frozen or equidistant.")
  var classCodes = TrainingRecipe.ClassCodeRule.refreshed
  @Option(help: "The same against attacks (default: the same).")
  var adversarialClassCodes: TrainingRecipe.ClassCodeRule?
  @Option(help: ArgumentHelp("First epochs with equidistant codes.", valueName: "epochs"))
  var warmEpochs = 4
  @Option(help: "Steps of an attack in training.") var attackSteps = 3
  @Option(help: ArgumentHelp("Of such a step.", valueName: "255ths")) var attackStepSize = 4.0
  @Option(help: ArgumentHelp("Largest change of a pixel.", valueName: "255ths"))
  var attackRadius = 8.0

  func validate() throws {
    guard [lambda, phi, chi].allSatisfy((0...1e6).contains), (0...1_000_000).contains(warmEpochs)
    else {
      throw ValidationError("--lambda, --phi, --chi and --warm-epochs are 0 or more")
    }
    guard (1...1000).contains(attackSteps), AttackSizes.accepted.contains(attackStepSize),
      AttackSizes.accepted.contains(attackRadius)
    else {
      throw ValidationError(
        "an attack has 1 to 1000 steps, --attack-step-size and --attack-radius are 0.001 to 255")
    }
  }

  var attack: HashAttack {
    var attack = HashAttack()
    attack.steps = attackSteps
    attack.stepSize = Float(attackStepSize / 255)
    attack.radius = Float(attackRadius / 255)
    return attack
  }

  func apply(to recipe: inout TrainingRecipe) {
    recipe.loss.original = loss
    recipe.loss.adversarial = adversarialLoss
    recipe.loss.lambda = lambda
    recipe.loss.phi = phi
    recipe.loss.chi = chi
    recipe.classCodes = classCodes
    recipe.warmEpochs = warmEpochs
  }

  var description: String {
    "--loss \(loss.rawValue) --adversarial-loss \(adversarialLoss.rawValue) --lambda \(lambda) "
      + "--phi \(phi) --chi \(chi) --class-codes \(classCodes.rawValue) "
      + "--adversarial-class-codes \((adversarialClassCodes ?? classCodes).rawValue) "
      + "--warm-epochs \(warmEpochs) --attack-steps \(attackSteps) "
      + "--attack-step-size \(attackStepSize) --attack-radius \(attackRadius)"
  }
}

/// Random views of the pictures.
struct ViewOptions: ParsableArguments, Sendable {
  @Flag(help: "Left and right stay: where anatomy tells them apart, as in the abdomen.")
  var noFlip = false
  @Option(help: ArgumentHelp("Largest rotation.", valueName: "degrees")) var rotation = 12.0
  @Option(help: ArgumentHelp("Largest shift, of the side.", valueName: "share")) var shift = 0.08
  @Option(help: ArgumentHelp("Largest change of size.", valueName: "share")) var zoom = 0.10
  @Option(help: ArgumentHelp("Largest change of contrast.", valueName: "share")) var contrast = 0.20
  @Option(help: ArgumentHelp("Largest change of brightness.", valueName: "share"))
  var brightness = 0.05

  func validate() throws {
    guard (0...180).contains(rotation), (0...1).contains(shift), (0..<1).contains(zoom),
      (0...1).contains(contrast), (0...1).contains(brightness)
    else { throw ValidationError("--rotation is 0 to 180, the other changes 0 to 1") }
  }

  func apply(to recipe: inout TrainingRecipe) {
    recipe.augmentation.flips = !noFlip
    recipe.augmentation.rotationDegrees = rotation
    recipe.augmentation.shift = shift
    recipe.augmentation.scale = zoom
    recipe.augmentation.contrast = contrast
    recipe.augmentation.brightness = brightness
  }

  var description: String {
    "\(noFlip ? "--no-flip " : "")--rotation \(rotation) --shift \(shift) --zoom \(zoom) "
      + "--contrast \(contrast) --brightness \(brightness)"
  }
}

/// Clients that learn apart and are averaged.
struct FederationOptions: ParsableArguments, Sendable {
  @Option(help: "Clients; 1 pools all pictures.") var clients = 1
  @Option(help: ArgumentHelp("Of the clients that a round asks.", valueName: "share"))
  var fraction = 1.0
  @Option(help: ArgumentHelp("Of a client in a round.", valueName: "epochs")) var localEpochs = 1
  @Flag(help: "Clients count alike, and not by their pictures.") var unweighted = false
  @Option(
    help: ArgumentHelp(
      "Classes fall to clients unevenly, the more so the smaller (Dirichlet).", valueName: "alpha"))
  var labelSkew: Double?
  @Option(help: ArgumentHelp("FedProx: pull towards the round's beginning.", valueName: "mu"))
  var proximity = 0.0

  func validate() throws {
    guard (1...1000).contains(clients), fraction > 0, fraction <= 1,
      (1...1000).contains(localEpochs)
    else { throw ValidationError("--clients is 1 to 1000, --fraction above 0 and at most 1") }
    guard (1e-6...1e6).contains(labelSkew ?? 1), (0...1e6).contains(proximity) else {
      throw ValidationError("--label-skew is above 0, --proximity 0 or more")
    }
    let isPlain =
      fraction == 1 && localEpochs == 1 && !unweighted && labelSkew == nil && proximity == 0
    guard clients > 1 || isPlain else {
      throw ValidationError(
        "--fraction, --local-epochs, --unweighted, --label-skew and --proximity are for a federation: say --clients"
      )
    }
  }

  func apply(to plan: inout TrainingPlan) {
    plan.clients = clients
    plan.fraction = fraction
    plan.localEpochs = localEpochs
    plan.weighted = !unweighted
    plan.labelSkew = labelSkew
  }

  var description: String {
    "--clients \(clients) --fraction \(fraction) --local-epochs \(localEpochs)"
      + (unweighted ? " --unweighted" : "") + (labelSkew.map { " --label-skew \($0)" } ?? "")
      + " --proximity \(proximity)"
  }
}
