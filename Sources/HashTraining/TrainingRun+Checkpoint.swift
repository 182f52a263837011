import DeepHash
import Foundation

extension TrainingRun {
  /// What a checkpoint says in words.
  private struct Header: Codable {
    var description: String
    var position: Position
    var seconds: Double
    var partial: PartialEpoch
    var gatheredWeight: Double
    /// Of each client's optimizer.
    var steps: [Int]
  }

  private static let headerField = "training"

  /// Safetensors: flat vectors of parameters and, client by client, of moments, averages, buffers and codes.
  func writeCheckpoint() throws {
    let header = Header(
      description: description, position: position, seconds: seconds, partial: partial,
      gatheredWeight: gatheredWeight, steps: trainers.map(\.state.steps))
    let text = String(decoding: try JSONEncoder().encode(header), as: UTF8.self)
    var writer = SafetensorsWriter(metadata: [Self.headerField: text])
    func add(_ values: [Float], _ name: String) {
      writer.add(Tensor(shape: [values.count], elements: values), named: name)
    }
    add(global, "global")
    add(network.parameters, "current")
    add(gathered, "gathered")
    add(average, "average")
    if !isFinished {
      for (head, codes) in agreedCodes.enumerated() {
        add(Array(codes.joined()), "codes.\(head)")
      }
      for (client, trainer) in trainers.enumerated() {
        let state = trainer.state
        add(state.firstMoments, "client.\(client).first")
        add(state.secondMoments, "client.\(client).second")
        add(state.average, "client.\(client).average")
        for head in state.buffers.indices {
          add(state.buffers[head], "client.\(client).buffer.\(head)")
          add(state.codes[head], "client.\(client).codes.\(head)")
        }
      }
    }
    try folder.write(try writer.encoded(), to: "checkpoint.safetensors")
  }

  func restore(_ checkpoint: Safetensors) throws {
    func damaged(_ reason: String) -> RunFolderError {
      .damagedCheckpoint(path: folder.checkpointPath, reason: reason)
    }
    guard let text = checkpoint.metadata[Self.headerField],
      let header = try? JSONDecoder().decode(Header.self, from: Data(text.utf8))
    else { throw damaged("it says nothing of a training") }
    if header.description != description {
      throw RunFolderError.otherTraining(theirs: header.description, ours: description)
    }
    func vector(_ name: String, count: Int?) throws -> [Float] {
      let values: [Float]
      do { values = try checkpoint.tensor(named: name).elements } catch {
        throw damaged("\(error)")
      }
      if let count, values.count != count {
        throw damaged("\(name) has \(values.count) values, not \(count)")
      }
      guard values.allSatisfy(\.isFinite) else { throw damaged("\(name) is not finite") }
      return values
    }
    let count = global.count
    let position = header.position
    let stages = plan.stages.count
    guard (0...stages).contains(position.stage), header.partial.terms.count == 5 else {
      throw damaged("stage \(position.stage) of \(stages)")
    }
    global = try vector("global", count: count)
    seconds = header.seconds
    self.position = position
    if position.stage == stages { return }
    let stage = plan.stages[position.stage]
    let clients = plan.selection(stage: position.stage, round: position.round)
    network.setParameters(global)
    trainers = try parts.map {
      try HashTrainer(network: network, set: set, images: $0, recipe: stage.recipe)
    }
    guard (0..<plan.rounds(stage)).contains(position.round), clients.indices.contains(position.turn),
      (0..<plan.localEpochs).contains(position.epoch), position.batch >= 0,
      position.batch < trainers[clients[position.turn]].batchesPerEpoch,
      header.steps.count == trainers.count
    else { throw damaged("its position is none of this training") }
    gathered = try vector("gathered", count: count)
    gatheredWeight = header.gatheredWeight
    average = try vector("average", count: nil)
    guard average.isEmpty || average.count == count else { throw damaged("average") }
    agreedCodes = []
    if plan.clients > 1 {
      for (head, bits) in stage.recipe.heads.enumerated() {
        let values = try vector("codes.\(head)", count: bits * set.classes.count)
        agreedCodes.append(
          set.classes.indices.map { Array(values[$0 * bits..<($0 + 1) * bits]) })
      }
    }
    for (client, trainer) in trainers.enumerated() {
      var state = HashTrainer.State()
      state.steps = header.steps[client]
      state.firstMoments = try vector("client.\(client).first", count: nil)
      state.secondMoments = try vector("client.\(client).second", count: nil)
      state.average = try vector("client.\(client).average", count: nil)
      for head in stage.recipe.heads.indices {
        state.buffers.append(try vector("client.\(client).buffer.\(head)", count: nil))
        state.codes.append(try vector("client.\(client).codes.\(head)", count: nil))
      }
      guard trainer.restore(state) else { throw damaged("client \(client) has other sizes") }
    }
    partial = header.partial
    network.setParameters(try vector("current", count: count))
    // What the trainer keeps close to is what the round began with.
    if position.epoch > 0 || position.batch > 0 {
      trainers[clients[position.turn]].resumeRound(global)
    }
  }
}
