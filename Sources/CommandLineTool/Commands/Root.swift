import ArgumentParser

/// `sfmedir`
public struct SFMedIR: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "sfmedir",
    abstract: "Store medical images on clouds that nobody has to trust, and find the most alike.",
    discussion: """
      EXAMPLE
        sfmedir dev up                                  a cluster on this machine
        sfmedir upload scans/ --recursive
        sfmedir query case.dcm -k 5 --montage similar.png
        sfmedir dev down

      Every command has --json and --help. Exit codes: 0 done; 1 some items failed; 64 usage; \
      65 bad input; 66 not found; 69 unavailable; 70 internal error; 74 input or output; \
      75 try again; 77 not permitted; 78 configuration; 130 interrupted.
      """,
    version: "sfmedir \(Build.version) (\(Build.kind))",
    subcommands: [
      UploadCommand.self, QueryCommand.self, GetCommand.self, RemoveCommand.self,
      ListCommand.self, StatusCommand.self, WhyCommand.self, EndangeredCommand.self,
      NodeCommand.self, QuotaCommand.self, KeysCommand.self, RPCCommand.self, DevCommand.self,
      SegmentsCommand.self, ModelCommand.self, BenchCommand.self, PhantomCommand.self,
      VersionCommand.self,
    ])

  public init() {}
}

extension SFMedIR {
  /// Runs the command that the process's arguments name, and ends the process with its exit code.
  public static func start() async { await main(nil) }
}
