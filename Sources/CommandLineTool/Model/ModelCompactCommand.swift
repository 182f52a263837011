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

      EXAMPLE
        sfmedir model compact run/adversarial-16.safetensors --data tmri/ --out Models/tmri-group-16-adversarial.safetensors

      JSON: one line with model, path, size_bytes, compact_size_bytes, pictures, changed (pictures with another \
      code), largest_output_change, written.

      Exit codes: 0 written; 1 codes would change; 65 bad pictures or model.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "A model file.", completion: .file(extensions: ["safetensors"])) var model: String
  @Option(help: ArgumentHelp("The folder of pictures.", valueName: "dir"), completion: .directory)
  var data: String
  @Option(help: ArgumentHelp("The file to write.", valueName: "file")) var out: String
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
    let file = try ModelFile.read(model)
    try file.checkMakesCodes()
    let folder = try PictureFolder(
      directory: data, split: file.split ?? .random, seed: file.splitSeed)
    let compact = try CompactModel(
      file, comparedOn: try folder.load(side: file.side), lanes: ProcessTable.processorCount)
    let isWritten = compact.changed.count <= allow
    if isWritten { try Files.write(compact.bytes, to: out) }
    let sizeBytes = try Files.contents(of: model, limitBytes: ModelFile.maximumBytes).count
    output.emit([
      "model": .string(model), "path": .string(out), "size_bytes": JSONValue(sizeBytes),
      "compact_size_bytes": JSONValue(compact.bytes.count),
      "pictures": JSONValue(compact.pictures), "changed": JSONValue(compact.changed.count),
      "largest_output_change": .number(Double(compact.largestChange)),
      "written": .bool(isWritten),
    ])
    output.print(
      "\(Units.bytes(UInt64(sizeBytes))) became \(Units.bytes(UInt64(compact.bytes.count))); "
        + "of \(Units.count(compact.pictures, "picture")) \(compact.changed.count) have another code, "
        + "no output changed by more than \(Units.fixed(Double(compact.largestChange), digits: 4))")
    guard !isWritten else { return .success }
    for image in compact.changed.prefix(5) { output.print("  \(folder.pictures[image].path)") }
    throw CommandFailure(
      .someFailed,
      "\(Units.count(compact.changed.count, "code")) would change: nothing was written",
      advice: "keep the model as it is, or write it nevertheless with --allow")
  }
}
