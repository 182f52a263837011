import Glibc

/// Where the model for hash codes lies.
enum DefaultModel {
  static let fileExtension = ".safetensors"
  /// Among several models, the one to take.
  private static let defaultName = "default.safetensors"

  /// The option, else SFMEDIR_MODEL, else the model `default`, or the only one, in a folder `Models` beside the program
  /// or above it, where a source tree keeps it.
  static func find(option: String?, executableDirectory: String) throws -> String {
    let named = option ?? getenv("SFMEDIR_MODEL").map { String(cString: $0) }
    if let named, !named.isEmpty {
      guard Files.exists(named) else {
        throw CommandFailure(FileError("open", named, number: ENOENT), during: "the model")
      }
      return Files.absolute(named)
    }
    for folder in folders(executableDirectory: executableDirectory) {
      let names = ((try? Files.names(in: folder)) ?? []).filter { $0.hasSuffix(fileExtension) }
      if names.contains(defaultName) { return Files.absolute("\(folder)/\(defaultName)") }
      if names.count == 1 { return Files.absolute("\(folder)/\(names[0])") }
      if names.count > 1 {
        throw CommandFailure(
          .usage, "\(folder) has several models: \(names.joined(separator: ", "))",
          advice: "say which with --model FILE")
      }
    }
    throw CommandFailure(
      .notFound, "no model was found beside or above \(executableDirectory)",
      advice: "say where it is with --model FILE or SFMEDIR_MODEL")
  }

  static func folders(executableDirectory: String) -> [String] {
    var folders: [String] = []
    var folder = executableDirectory
    for _ in 0..<6 {
      folders.append(folder == "/" ? "/Models" : "\(folder)/Models")
      let parent = Files.parent(of: folder)
      if parent == folder { break }
      folder = parent
    }
    return folders
  }
}
