import ArgumentParser

/// What this build is.
enum Build {
  static let version = "0.1.0"

  /// "debug" or "release": measured figures mean nothing without it.
  static var kind: String {
    #if DEBUG
      "debug"
    #else
      "release"
    #endif
  }
}

struct VersionCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "version",
    abstract: "Say which version this is.",
    discussion: """
      EXAMPLE
        sfmedir version --json

      JSON: one line {"type":"version"} with version, build.
      """)

  @OptionGroup var outputOptions: OutputOptions

  func execute(_ output: Output) async throws -> ExitStatus {
    output.emit([
      "type": "version", "version": .string(Build.version), "build": .string(Build.kind),
    ])
    output.print("sfmedir \(Build.version) (\(Build.kind))")
    return .success
  }
}
