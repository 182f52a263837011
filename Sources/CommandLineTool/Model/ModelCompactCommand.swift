import ArgumentParser
import Base
import DeepHash
import HashTraining

struct ModelCompactCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "compact",
    abstract: "Write a model in half precision, half as large, where that leaves its codes alone.",
    discussion: """
      Codes of all pictures of --data are made by both. Where some differ, nothing is written: codes of \
      one are then not those of the other.

      Models of several lengths of codes that were trained together have all but their last layer in common: given \
      together they become one file. --bits takes one length out of such a file, as daemons need it.

      EXAMPLE
        sfmedir model compact run/adversarial-16.safetensors --data tmri/ --out small.safetensors
        sfmedir model compact run/adversarial-*.safetensors --data tmri/ --out all.safetensors
        sfmedir model compact all.safetensors --bits 32 --data tmri/ --out small-32.safetensors

      JSON: one line {"type":"compact"} with models, heads, path, size_bytes, compact_size_bytes, pictures, changed (pictures with another \
      code), largest_output_change, written, remarks (why these pictures may be the wrong ones to compare by).

      Exit codes: 0 written; 1 codes would change; 65 bad pictures or model.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "Model files.", completion: .file(extensions: ["safetensors"]))
  var models: [String]
  @Option(help: ArgumentHelp("The folder of pictures.", valueName: "dir"), completion: .directory)
  var data: String
  @Option(
    help: "Which split of the folder to take: all pictures are compared (default: as trained).")
  var split: SplitProtocol?
  @Option(help: ArgumentHelp("The file to write.", valueName: "file")) var out: String
  @Option(help: ArgumentHelp("Take codes of this length alone.", valueName: "count"))
  var bits: Int?
  @Flag(help: "Write single precision all the same: for joining models and taking them apart.")
  var single = false
  @Option(help: ArgumentHelp("Write it although so many codes change.", valueName: "count"))
  var allow = 0

  func validate() throws {
    guard allow >= 0 else { throw ValidationError("--allow is 0 or more") }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    do {
      return try await Heavy.run { try compact(output) }
    } catch {
      throw CommandFailure(model: error)
    }
  }

  private func compact(_ output: Output) throws -> ExitStatus {
    // A model may be written over: it is read whole before that.
    try OutputPaths.check([out])
    var sizeBytes = 0
    let file = try ModelFile.joined(
      models.map { path in
        let bytes = try Files.contents(of: path, limitBytes: ModelFile.maximumBytes)
        sizeBytes += bytes.count
        let model = try ModelFile.read(bytes: bytes, path)
        let chosen = try bits.map { try model.only(bits: $0, path) } ?? model
        try chosen.head(0).checkMakesCodes()
        return chosen
      })
    let division = split ?? file.split ?? .random
    let folder = try PictureFolder(directory: data, split: division, seed: file.splitSeed)
    let remarks = file.remarks(
      split: division, of: folder, dataset: Files.lastComponent(of: Files.absolute(data)))
    for remark in remarks { output.remark("\(models[0]): \(printable(remark))") }
    let set = try folder.load(side: file.side, isCancelled: { Interruption.happened })
    let compact = try CompactModel(
      file, precision: single ? .single : .half, comparedOn: set, lanes: NetworkThreads.count(),
      isCancelled: { Interruption.happened })
    let isWritten = compact.changed.count <= allow
    if isWritten { try Files.write(compact.bytes, to: out) }
    output.emit([
      "type": "compact", "models": .array(models.map { .string($0) }),
      "heads": .array(file.heads.map { JSONValue($0) }), "path": .string(out),
      "size_bytes": JSONValue(sizeBytes),
      "compact_size_bytes": JSONValue(compact.bytes.count),
      "pictures": JSONValue(compact.pictures), "changed": JSONValue(compact.changed.count),
      "largest_output_change": .number(Double(compact.largestChange)),
      "written": .bool(isWritten), "remarks": .array(remarks.map { .string($0) }),
    ])
    output.print(
      "\(Units.bytes(UInt64(sizeBytes))) became \(Units.bytes(UInt64(compact.bytes.count))); "
        + "of \(Units.count(compact.pictures, "picture")) \(compact.changed.count) have another code, "
        + "no output changed by more than \(Units.fixed(Double(compact.largestChange), digits: 4))")
    guard !isWritten else { return .success }
    for image in compact.changed.prefix(5) {
      output.print("  \(printable(folder.pictures[image].path))")
    }
    throw CommandFailure(
      .someFailed,
      "\(Units.count(compact.changed.count, "code")) would change: nothing was written",
      advice:
        "keep the model in single precision, with --single, or write it nevertheless, with --allow")
  }
}
