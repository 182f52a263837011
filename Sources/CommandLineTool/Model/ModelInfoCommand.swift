import ArgumentParser
import Base
import DeepHash
import HashTraining

struct ModelInfoCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "Say what a model is, and what it was made of.",
    discussion: """
      EXAMPLE
        sfmedir model info Models/default.safetensors

      JSON: one line {"type":"model_info"} with path, sha256 (the model's version), size_bytes, channels, side, depths, dims, bits (outputs), \
      heads (lengths of codes), parameters, mega_multiply_adds (of a picture), dataset, protocol, stage, classes, training, metadata.

      Exit codes: 0 it is a model; 65 it is none.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @Argument(help: "A model file.", completion: .file(extensions: ["safetensors"])) var model: String

  func execute(_ output: Output) async throws -> ExitStatus {
    let bytes = try Files.contents(of: model, limitBytes: ModelFile.maximumBytes)
    let file = try ModelFile.read(bytes: bytes, model)
    let configuration = file.configuration
    let operations = configuration.multiplyAdds(height: file.side, width: file.side)
    let field = ModelFile.Field.self
    var metadata: JSONObject = [:]
    for (name, value) in file.metadata.sorted(by: { $0.key < $1.key }) {
      metadata[name] = .string(value)
    }
    output.emit([
      "type": "model_info", "path": .string(model), "sha256": .string(sha256(bytes).hex),
      "size_bytes": JSONValue(bytes.count), "channels": JSONValue(configuration.channels),
      "side": JSONValue(file.side), "depths": .array(configuration.depths.map { JSONValue($0) }),
      "dims": .array(configuration.dims.map { JSONValue($0) }),
      "bits": JSONValue(configuration.bits),
      "heads": .array(file.heads.map { JSONValue($0) }),
      "parameters": JSONValue(file.parameters.count),
      "mega_multiply_adds": JSONValue(Double(operations) / 1e6),
      "dataset": .string(file.metadata[field.dataset] ?? ""),
      "protocol": .string(file.metadata[field.split] ?? ""),
      "stage": .string(file.metadata[field.stage] ?? ""),
      "classes": .array(file.classes.map { .string($0) }),
      "training": .string(file.metadata[field.training] ?? ""),
      "metadata": .object(metadata),
    ])
    var table = Table([.init("what"), .init("value")])
    table.add(["version", sha256(bytes).hex])
    table.add(["file", Units.bytes(UInt64(bytes.count))])
    table.add([
      "network",
      "\(configuration.channels) channel\(configuration.channels == 1 ? "" : "s"), depths "
        + configuration.depths.map { "\($0)" }.joined(separator: ",") + ", dims "
        + configuration.dims.map { "\($0)" }.joined(separator: ","),
    ])
    table.add(["input", "\(file.side) x \(file.side) pixels"])
    table.add(["codes", file.lengths])
    table.add(["parameters", "\(file.parameters.count)"])
    table.add([
      "multiply-adds", "\(Units.fixed(Double(operations) / 1e6, digits: 1)) million a picture",
    ])
    for (name, value) in [
      ("pictures", file.metadata[field.dataset]), ("split", file.metadata[field.split]),
      ("trained on", file.metadata[field.stage].map { $0 + " pictures" }),
      ("classes", file.classes.isEmpty ? nil : file.classes.joined(separator: ", ")),
    ] { if let value { table.add([name, value]) } }
    output.print(table)
    if let training = file.metadata[field.training] {
      output.print()
      output.print("sfmedir model train \(printable(training))")
    }
    return .success
  }
}
