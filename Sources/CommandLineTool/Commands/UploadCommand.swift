import ArgumentParser
import Base
import Messages

struct UploadCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "upload",
    abstract: "Store image files (DICOM, PNG, JPEG) in the cluster.",
    discussion: """
      Folders give the files in them, with --recursive also those in their sub-folders. What is \
      stored already is not sent again, so an upload that was interrupted is simply repeated.

      EXAMPLE
        sfmedir upload scans/ --recursive --tag study=2026-11 --tag site=north

      JSON: a line {"type":"file"} for each file with path, status (stored, already_stored, \
      duplicate, failed, not_tried), bytes, image_id, sealed_bytes, shadow_bytes, error, advice, \
      code, reason; then one {"type":"summary"} with files, stored, already_stored, duplicates, failed, \
      not_tried, bytes, seconds.

      Exit codes: 0 all stored; 1 some files failed; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "Files and folders.") var paths: [String]

  @Flag(name: [.customShort("r"), .long], help: "Also the sub-folders of folders.")
  var recursive = false

  @Option(
    name: .customLong("tag"),
    help: ArgumentHelp("Something to remember with every file; repeatable.", valueName: "key=value")
  )
  var tagTexts: [String] = []

  @Option(name: [.customShort("j"), .long], help: "Files sent at once.")
  var parallel = 4

  func validate() throws {
    guard !paths.isEmpty else { throw ValidationError("give files or folders to upload") }
    guard (1...64).contains(parallel) else {
      throw ValidationError("--parallel is 1 to 64, not \(parallel)")
    }
    _ = try Self.tags(tagTexts)
  }

  /// - Throws: `ValidationError` where a text is not key=value.
  static func tags(_ texts: [String]) throws -> [TagEntry] {
    try texts.map { text in
      guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
        throw ValidationError("--tag takes key=value, not '\(text)'")
      }
      var entry = TagEntry()
      entry.key = String(text[..<equals])
      entry.value = String(text[text.index(after: equals)...])
      guard entry.key.utf8.count <= 128, entry.value.utf8.count <= 4096,
        !text.unicodeScalars.contains("\0")
      else { throw ValidationError("--tag: keys have at most 128 bytes, values 4096") }
      return entry
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    let tags = try Self.tags(tagTexts)
    var collector = FileCollector(recursive: recursive)
    for path in paths { collector.add(path) }
    if collector.skippedFolders > 0 {
      let folders = Units.count(collector.skippedFolders, "sub-folder")
      output.remark("\(folders) left out; --recursive takes them too")
    }
    guard !collector.items.isEmpty || !collector.failures.isEmpty else {
      throw CommandFailure(
        .notFound, "there are no files in \(paths.joined(separator: ", "))",
        advice: recursive ? "check the paths" : "check the paths, or give --recursive")
    }
    let cluster = try await connection.connect(output)
    let progress = ProgressReporter(output: output)
    progress.start()
    let uploader = Uploader(
      target: ImageOwnerTarget(
        channel: try cluster.imageOwner(), timeouts: connection.timeouts),
      concurrency: parallel, tags: tags, progress: { progress.update($0) })
    let outcomes = await uploader.run(collector.items) { output.emit(UploadReport.line(of: $0)) }
    await progress.finish()
    let report = UploadReport(
      outcomes: outcomes, unreadable: collector.failures,
      seconds: progress.current.elapsedSeconds)
    report.print(to: output)
    return report.allStored ? .success : report.onlyFailure?.status ?? .someFailed
  }
}
