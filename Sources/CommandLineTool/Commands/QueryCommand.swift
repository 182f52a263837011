import ArgumentParser
import Base
import Imaging
import Messages
import RPC

struct QueryCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "query",
    abstract: "Find the stored images most like a picture.",
    discussion: """
      The distance is the number of different bits between the hash codes: 0 is the most alike. \
      With --out the originals are written as RANK-dDISTANCE-ID-NAME, byte for byte as their \
      owners stored them, and no other file is ever overwritten. --montage draws the query and \
      what was found on one sheet.

      EXAMPLE
        sfmedir query case.dcm -k 5 --out similar/ --montage similar.png

      JSON: a line {"type":"result"} for each result with rank, distance, image_id, owner, \
      file_name, format, width, height, frames, file_bytes, tags, and with --out path; error \
      where the original did not come; then one {"type":"summary"} with results, problems, \
      montage, seconds.

      Exit codes: 0; 1 some originals did not come; 65 the query is not a picture; see \
      docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var age: AgeOptions

  @Argument(help: "The query: DICOM, PNG or JPEG.") var image: String

  @Option(name: [.customShort("k"), .long], help: "How many results.")
  var count = 5

  @Option(help: ArgumentHelp("Write the originals into this folder.", valueName: "folder"))
  var out: String?

  @Option(help: ArgumentHelp("Draw query and results as a PNG.", valueName: "file"))
  var montage: String?

  func validate() throws {
    guard (1...1000).contains(count) else {
      throw ValidationError("-k is 1 to 1000, not \(count)")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    // A montage needs the query as a picture: better to hear of it before anything is asked.
    let start = SystemClock().monotonicNanoseconds()
    let queryImage = try montage.map { _ in try Montages.picture(ofFile: image) }
    let reader = try FileReader(image)
    let sizeBytes = reader.sizeBytes
    if let out { try Files.createDirectories(out) }
    let cluster = try await connection.connect(output)
    var results: [QueryAnswer] = []
    let query = SimilarityQuery(
      channel: try cluster.imageUser(), timeouts: connection.timeouts, count: count,
      withImages: out != nil || montage != nil, maximumAgeMilliseconds: age.milliseconds)
    try await query.run(path: image, sizeBytes: sizeBytes) {
      result, call async throws -> Void in
      var answer = QueryAnswer(result: result)
      if result.fileBytes > 0 {
        try await receive(&answer, over: call)
      }
      output.emit(answer.line)
      results.append(answer)
    }
    if let montage, let queryImage {
      let bytes = Montages.render(
        query: queryImage, title: Files.lastComponent(of: image), answers: results)
      guard !Files.isSame(montage, image) else {
        throw CommandFailure(.usage, "the montage would replace the query picture \(image)")
      }
      try Files.write(bytes, to: montage)
    }
    let nanoseconds = SystemClock().monotonicNanoseconds() - start
    return report(results, seconds: Double(nanoseconds) / 1e9, to: output)
  }

  /// Takes the original that follows a result: into a file, into the montage, or both.
  private func receive(
    _ answer: inout QueryAnswer, over call: ClientCall<QueryImagesHeader, QueryResult>
  ) async throws {
    let result = answer.result
    let keeps = montage != nil && result.fileBytes <= Montages.maximumFileBytes
    let path = out.map { "\($0)/\(answer.safeName)" }
    let sink = try OriginalSink(
      path.map { .file($0, replacing: false) } ?? .nowhere, tags: result.tags ?? ImageTags(),
      imageID: result.imageID, keepsBytes: keeps)
    try await call.receiveFile(count: result.fileBytes) { try sink.take($0) }
    do {
      try sink.finish()
      answer.path = path
    } catch {
      answer.failure = CommandFailure(error)
    }
    if keeps { answer.picture = Montages.picture(of: sink.bytes) }
  }

  private func report(
    _ results: [QueryAnswer], seconds: Double, to output: Output
  ) -> ExitStatus {
    let problems = results.filter { $0.failure != nil }
    if results.isEmpty {
      output.print("nothing is stored that could be found")
    } else {
      output.print(QueryAnswer.table(results, withPaths: out != nil))
    }
    output.fail(items: problems.compactMap(\.failure))
    if let montage { output.print("montage: \(montage)") }
    var summary: JSONObject = [
      "type": "summary", "results": JSONValue(results.count),
      "problems": JSONValue(problems.count), "seconds": JSONValue(seconds),
    ]
    if let montage { summary["montage"] = .string(montage) }
    output.emit(summary)
    return problems.isEmpty ? .success : .someFailed
  }
}
