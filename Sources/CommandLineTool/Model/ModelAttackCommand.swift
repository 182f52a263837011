import ArgumentParser
import Base
import DeepHash
import HashTraining
import Imaging

struct ModelAttackCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "attack",
    abstract:
      "Change a picture so that a search goes wrong, and show what it finds before and after.",
    discussion: """
      The database is the training pictures of --data. Without --towards the attack leads away from the code \
      of the picture's class: --label, or the one that --data has it in. Where neither says, it leads away from the picture's own code.

      EXAMPLE
        sfmedir model attack case.png --model run/adversarial-16.safetensors --data tmri/ --towards glioma --montage attack.png

      JSON: one line {"type":"attack"} with model, image, towards, code, attacked_code, bits_changed, linf, l2, mse, remarks (why the model and --data may not belong together), before and \
      after, lists of {rank, path, class, distance}.

      Exit codes: 0 done; 65 bad pictures or models.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "The picture that a search begins with.", completion: .file()) var image: String
  @Option(help: ArgumentHelp("The model.", valueName: "file")) var model: String
  @Option(help: ArgumentHelp("The folder of pictures.", valueName: "dir"), completion: .directory)
  var data: String
  @Option(
    help: ArgumentHelp("Length of the codes, where the model makes several.", valueName: "count"))
  var bits: Int?
  @Option(help: ArgumentHelp("A class that the search is to find instead.", valueName: "class"))
  var towards: String?
  @Option(help: ArgumentHelp("The picture's own class.", valueName: "class")) var label: String?
  @Option(
    help: "Which pictures are the database: group or random (default: as the model was trained).")
  var split: SplitProtocol?
  @Option(name: .customShort("k"), help: "Results.") var k = 5
  @Option(help: "Steps of the attack.") var steps = 100
  @Option(help: ArgumentHelp("Largest change of a pixel.", valueName: "255ths")) var radius = 8.0
  @Option(help: ArgumentHelp("Draw results before and after there, as PNG.", valueName: "file"))
  var montage: String?
  @Option(
    help: ArgumentHelp(
      "Write the changed picture there, as PNG of the network's size: rounded to 8 bits, and no longer quite what was attacked.",
      valueName: "file"))
  var out: String?
  @Option(help: "Of the starting point.") var seed: UInt64 = 5

  func validate() throws {
    guard towards == nil || label == nil else {
      throw ValidationError("--label says what to lead away from: not with --towards")
    }
    guard (1...50).contains(k), (1...10_000).contains(steps), AttackSizes.accepted.contains(radius)
    else {
      throw ValidationError("-k is 1 to 50, --steps 1 to 10000, --radius 0.001 to 255")
    }
  }

  private struct Found: Sendable {
    var code: HashCode
    var results: [(picture: Int, distance: Int)]
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    do {
      try await Heavy.run { try attack(output) }
      return .success
    } catch {
      throw CommandFailure(model: error)
    }
  }

  private func attack(_ output: Output) throws {
    try OutputPaths.check([montage, out], inputs: [image, model])
    let file = try ModelFile.read(model, bits: bits)
    try file.checkMakesCodes()
    guard let split = split ?? file.split else {
      throw CommandFailure(
        .badInput, "\(model) does not say its split", advice: "say it with --split")
    }
    let folder = try PictureFolder(directory: data, split: split, seed: file.splitSeed)
    let remarks = file.remarks(
      split: split, of: folder, dataset: Files.lastComponent(of: Files.absolute(data)))
    for remark in remarks { output.remark("\(model): \(printable(remark))") }
    let set = try folder.load(side: file.side, isCancelled: { Interruption.happened })
    let query = try Montages.picture(ofFile: image)
    let pixels = ModelInput.pixels(query, side: file.side)
    let network = try TrainableNetwork(
      configuration: file.configuration, parameters: file.parameters, height: file.side,
      width: file.side, lanes: NetworkThreads.count())
    let trainings = folder.trainingImages
    let bits = file.configuration.bits
    let stored = network.outputs(
      of: set, images: trainings, isCancelled: { Interruption.happened })
    let single = TrainingSet(
      labels: [0], classes: folder.classes, channels: 1, height: file.side, width: file.side
    ) { _, out in _ = out.initialize(from: pixels) }
    let before = try found(network.outputs(of: pixels), stored, trainings, bits)
    let (goal, direction) = try goal(before.code, folder, stored, trainings, bits)
    var attack = HashAttack()
    (attack.steps, attack.radius) = (steps, Float(radius / 255))
    let moved = attack.run(
      against: network, on: single, images: [0], codes: [goal], direction: direction, seed: seed,
      isCancelled: { Interruption.happened })
    if Interruption.happened { throw CancellationError() }
    let after = try found(network.outputs(of: moved), stored, trainings, bits)
    try report(
      before, after, pixels: pixels, moved: moved, folder, query, file.side, remarks, output)
  }

  private func found(
    _ outputs: [Float], _ stored: [Float], _ trainings: [Int], _ bits: Int
  ) throws -> Found {
    try ModelFile.checkAreNumbers(outputs)
    try ModelFile.checkAreNumbers(stored)
    let code = HashCode(outputs: outputs)
    let distances = trainings.indices.map { at in
      (
        picture: trainings[at],
        distance: code.hammingDistance(to: HashCode(outputs: stored[at * bits..<(at + 1) * bits]))
      )
    }
    let nearest = distances.sorted { ($0.distance, $0.picture) < ($1.distance, $1.picture) }
    return Found(code: code, results: Array(nearest.prefix(k)))
  }

  /// The code to come close to or to leave.
  private func goal(
    _ own: HashCode, _ folder: PictureFolder, _ stored: [Float], _ trainings: [Int], _ bits: Int
  ) throws -> ([Float], HashAttack.Direction) {
    func code(of name: String) throws -> [Float] {
      guard let number = folder.classes.firstIndex(of: name) else {
        throw CommandFailure(
          .badInput, "there is no class \(name)",
          advice: "there are " + folder.classes.joined(separator: ", "))
      }
      guard trainings.contains(where: { folder.pictures[$0].label == number }) else {
        throw CommandFailure(
          .badInput, "the database has no picture of the class \(name), and so no code of it")
      }
      return CodeBuffer(
        values: stored.map { min(max($0, -1), 1) }, bits: bits,
        labels: trainings.map { folder.pictures[$0].label }, classes: folder.classes.count
      ).mainstay[number]
    }
    if let towards { return (try code(of: towards), .towards) }
    if let label = label ?? knownClass(folder) { return (try code(of: label), .away) }
    return ((0..<bits).map { own.bits >> UInt64($0) & 1 == 1 ? 1 : -1 }, .away)
  }

  /// The class that the folder has the very same file in.
  private func knownClass(_ folder: PictureFolder) -> String? {
    let name = Files.lastComponent(of: image)
    return folder.pictures.first {
      Files.lastComponent(of: $0.path) == name
        && Files.isSame("\(folder.directory)/\($0.path)", image)
    }.map { folder.classes[$0.label] }
  }

  private func report(
    _ before: Found, _ after: Found, pixels: [Float], moved: [Float], _ folder: PictureFolder,
    _ query: GrayImage, _ side: Int, _ remarks: [String], _ output: Output
  ) throws {
    let differences = zip(moved, pixels).map { Double($0) - Double($1) }
    let square = differences.reduce(0) { $0 + $1 * $1 }
    let largest = differences.reduce(0) { max($0, abs($1)) }
    let changed = before.code.hammingDistance(to: after.code)
    func json(_ found: Found) -> JSONValue {
      .array(
        found.results.enumerated().map { rank, result in
          .object([
            "rank": JSONValue(rank + 1), "path": .string(folder.pictures[result.picture].path),
            "class": .string(folder.classes[folder.pictures[result.picture].label]),
            "distance": JSONValue(result.distance),
          ])
        })
    }
    output.emit([
      "type": "attack", "model": .string(model), "image": .string(image),
      "towards": .string(towards ?? ""),
      "code": .string(before.code.description), "attacked_code": .string(after.code.description),
      "bits_changed": JSONValue(changed), "linf": .number(largest),
      "l2": .number(square.squareRoot()), "mse": .number(square / Double(differences.count)),
      "before": json(before), "after": json(after),
      "remarks": .array(remarks.map { .string($0) }),
    ])
    var table = Table([
      .init("rank", .right), .init("before"), .init("distance", .right), .init("after"),
      .init("distance", .right),
    ])
    func cell(_ found: Found, _ rank: Int) -> [String] {
      guard rank < found.results.count else { return ["", ""] }
      let result = found.results[rank]
      let picture = folder.pictures[result.picture]
      return ["\(folder.classes[picture.label])  \(picture.path)", "\(result.distance)"]
    }
    for rank in 0..<max(before.results.count, after.results.count) {
      table.add(["\(rank + 1)"] + cell(before, rank) + cell(after, rank))
    }
    output.print(table)
    output.print(
      "code \(before.code) became \(after.code): \(Units.count(changed, "bit")) changed; no pixel by more than "
        + "\(Units.fixed(largest * 255, digits: 1)) of 255, mean square \(Units.fixed(square / Double(differences.count) * 255 * 255, digits: 1))"
    )
    let changedPicture = Self.image(moved, side)
    if let out { try Files.write(PngEncoder.encode(changedPicture), to: out) }
    guard let montage else { return }
    try Files.write(
      try sheet(before, after, differences, changedPicture, folder, query, side), to: montage)
  }

  /// The query beside what it finds; then the change, and what the changed picture finds.
  private func sheet(
    _ before: Found, _ after: Found, _ differences: [Double], _ changed: GrayImage,
    _ folder: PictureFolder, _ query: GrayImage, _ side: Int
  ) throws -> [UInt8] {
    typealias Card = (image: GrayImage?, rank: Int, distance: Int, label: String)
    func cards(_ found: Found) -> [Card] {
      found.results.enumerated().map { rank, result in
        let picture = folder.pictures[result.picture]
        let bytes = try? Files.contents(
          of: "\(folder.directory)/\(picture.path)", limitBytes: 256 << 20)
        return (
          bytes.flatMap { Montages.picture(of: $0) }, rank + 1, result.distance,
          folder.classes[picture.label]
        )
      }
    }
    let bits = before.code.hammingDistance(to: after.code)
    let change = Self.image(differences.map { Float(0.5 + $0 * 255 / (2 * radius)) }, side)
    return Montage.comparison(
      [
        .init(
          picture: query, name: "query", detail: "\(query.width) x \(query.height)",
          results: cards(before)),
        .init(
          picture: changed, name: "changed",
          detail: "\(Units.count(bits, "bit")) of \(before.code.length) changed",
          results: cards(after)),
        .init(
          picture: change, name: "the change",
          detail: "white: +\(Units.fixed(radius, digits: 0)) of 255", results: []),
      ], title: "attack on \(Files.lastComponent(of: image))",
      subtitle: towards.map { "towards \($0): what a search finds before and after" }
        ?? "away from its code: what a search finds before and after")
  }

  private static func image(_ values: [Float], _ side: Int) -> GrayImage {
    GrayImage(
      width: side, height: side, bitsPerSample: 8,
      samples: values.map { UInt16((min(max($0, 0), 1) * 255).rounded()) })
  }
}
