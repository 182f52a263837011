import Base
import DeepHash
import Foundation

extension TrainingRun {
  /// What a checkpoint says in words.
  private struct Header: Codable {
    var description: String
    var origin: Origin
    var position: Position
    var seconds: Double
    var partial: PartialEpoch
    var gatheredWeight: Double
    /// Of each client's optimizer.
    var steps: [Int]
  }

  private static let headerField = "training"
  /// SHA-256 of the header and of all values, in hexadecimal.
  private static let digestField = "digest"
  /// More than any training has.
  private static let maximumSteps = 1 << 40

  /// Safetensors: flat vectors of parameters and, client by client, of moments, averages, buffers and codes.
  func writeCheckpoint() throws {
    let states = isFinished ? [] : trainers.map(\.state)
    let header = Header(
      description: description, origin: origin, position: position, seconds: seconds,
      partial: partial, gatheredWeight: gatheredWeight, steps: states.map(\.steps))
    let text = String(decoding: try JSONEncoder().encode(header), as: UTF8.self)
    var vectors: [(name: String, values: [Float])] = [
      ("global", global), ("current", network.parameters), ("gathered", gathered),
      ("average", average),
    ]
    for (head, codes) in agreedCodes.enumerated() {
      vectors.append(("codes.\(head)", Array(codes.joined())))
    }
    for (client, state) in states.enumerated() {
      vectors.append(("client.\(client).first", state.firstMoments))
      vectors.append(("client.\(client).second", state.secondMoments))
      vectors.append(("client.\(client).average", state.average))
      for head in state.buffers.indices {
        vectors.append(("client.\(client).buffer.\(head)", state.buffers[head]))
        vectors.append(("client.\(client).codes.\(head)", state.codes[head]))
      }
    }
    var writer = SafetensorsWriter(metadata: [
      Self.headerField: text, Self.digestField: Self.digest(text, vectors),
    ])
    for (name, values) in vectors {
      writer.add(Tensor(shape: [values.count], elements: values), named: name)
    }
    try folder.write(try writer.encoded(), to: "checkpoint.safetensors")
  }

  private static func digest(_ header: String, _ vectors: [(name: String, values: [Float])])
    -> String
  {
    var bytes = Array(header.utf8)
    for (name, values) in vectors.sorted(by: { $0.name < $1.name }) {
      bytes += Array(name.utf8) + [0]
      bytes += sha256(values.withUnsafeBytes { Array($0) })
    }
    return sha256(bytes).hex
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
    if header.origin.pictures != origin.pictures {
      throw RunFolderError.otherOrigin(what: "pictures")
    }
    if header.origin.others != origin.others {
      throw RunFolderError.otherOrigin(what: "test pictures")
    }
    if header.origin.parameters != origin.parameters {
      throw RunFolderError.otherOrigin(what: "parameters to begin with")
    }
    let vectors = try checkpoint.entries.map { entry in
      do {
        return (name: entry.name, values: try checkpoint.tensor(named: entry.name).elements)
      } catch { throw damaged("\(error)") }
    }
    guard checkpoint.metadata[Self.digestField] == Self.digest(text, vectors) else {
      throw damaged("its digest is another")
    }
    try restore(
      header, Dictionary(vectors.map { ($0.name, $0.values) }) { first, _ in first }, damaged)
  }

  private func restore(
    _ header: Header, _ vectors: [String: [Float]], _ damaged: (String) -> RunFolderError
  ) throws {
    func vector(_ name: String, count: Int?) throws -> [Float] {
      guard let values = vectors[name] else { throw damaged("it has no \(name)") }
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
    guard (0..<plan.rounds(stage)).contains(position.round),
      (0..<plan.localEpochs(stage, round: position.round)).contains(position.epoch),
      header.gatheredWeight.isFinite, header.gatheredWeight >= 0,
      header.steps.count == parts.count,
      header.steps.allSatisfy((0...Self.maximumSteps).contains)
    else { throw damaged("its position is none of this training") }
    let clients = plan.selection(stage: position.stage, round: position.round)
    network.setParameters(global)
    // What the trainers begin with is replaced below.
    var equidistant = stage.recipe
    equidistant.classCodes = .equidistant
    trainers = try makeTrainers(
      stage, codes: HashTrainer.initialCodes(network, set, [], equidistant))
    guard clients.indices.contains(position.turn), position.batch >= 0,
      position.batch < trainers[clients[position.turn]].batchesPerEpoch
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
