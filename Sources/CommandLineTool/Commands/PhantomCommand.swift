import ArgumentParser
import Imaging

struct PhantomCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "phantom",
    abstract: "Make synthetic brain-like slices of four classes, for trying things out.",
    discussion: """
      8-bit PNG and 16-bit DICOM take turns. The same seed gives the same files, byte for byte.

      EXAMPLE
        sfmedir phantom --out phantoms/ --count 24 --seed 1

      JSON: a line {"type":"file"} for each with path, class, format, bytes.
      """)

  @OptionGroup var outputOptions: OutputOptions

  @Option(help: ArgumentHelp("The folder to write into; made where it is missing.", valueName: "folder"))
  var out: String

  @Option(help: "How many.") var count = 24

  @Option(help: "Another seed gives other pictures.") var seed: UInt64 = 1

  @Option(help: ArgumentHelp("Width and height.", valueName: "pixels"))
  var side = Phantom.defaultSide

  func validate() throws {
    guard (1...100_000).contains(count) else {
      throw ValidationError("--count is 1 to 100000, not \(count)")
    }
    guard (16...4096).contains(side) else {
      throw ValidationError("--side is 16 to 4096 pixels, not \(side)")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    try Files.createDirectories(out)
    var bytes: UInt64 = 0
    for index in 0..<count {
      try Task.checkCancellation()
      let (name, file) = Phantom.file(seed: seed, index: index, side: side)
      let path = "\(out)/\(name)"
      try Files.write(file, to: path)
      bytes += UInt64(file.count)
      output.emit([
        "type": "file", "path": .string(path),
        "class": .string(Phantom.phantomClass(index: index).rawValue),
        "format": .string(Phantom.format(index: index).rawValue), "bytes": JSONValue(file.count),
      ])
    }
    output.print("\(out): \(Units.count(count, "picture")), \(Units.bytes(bytes)), seed \(seed)")
    return .success
  }
}
