import ArgumentParser
import Base
import Glibc
import Messages
import RPC

/// The 32 hexadecimal digits by which an image is named.
struct ImageIDArgument: ExpressibleByArgument, Sendable {
  let bytes: [UInt8]

  init?(argument: String) {
    guard let id = ImageID(hex: argument) else { return nil }
    bytes = id.bytes
  }

  static var defaultCompletionKind: CompletionKind { .default }
}

struct GetCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "get",
    abstract: "Fetch an original, byte for byte as it was stored.",
    discussion: """
      The file appears under its name only when it is whole and its SHA-256 is the owner's.

      EXAMPLE
        sfmedir get 0f3a5c...e1 -o scan.dcm

      JSON: one line {"type":"image"} with image_id, owner, path, file_name, format, width, \
      height, frames, file_bytes, file_sha256, tags.

      Exit codes: 0; 66 no such image; 69 too few slaves; 74 the file could not be written or \
      exists; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var age: AgeOptions

  @Argument(help: "The image's id, 32 hexadecimal digits.") var id: ImageIDArgument

  @Option(
    name: [.customShort("o"), .long],
    help: ArgumentHelp("Where to write it; - is standard output.", valueName: "file"))
  var output: String

  @Flag(help: "Replace a file that exists.") var force = false

  /// The size is not known before the answer comes: as much time as a large study would take.
  private static let expectedBytes: UInt64 = 256 << 20

  func validate() throws {
    if output == "-", outputOptions.json {
      throw ValidationError("-o - and --json both want standard output")
    }
  }

  func execute(_ output: Output) async throws -> ExitStatus {
    let path = self.output
    if path != "-", !force, Files.exists(path) {
      throw CommandFailure(FileError("create", path, number: EEXIST))
    }
    let cluster = try await connection.connect(output)
    var request = GetImageRequest()
    request.imageID = id.bytes
    request.maximumAgeMilliseconds = age.milliseconds
    do {
      let call = try await cluster.imageUser().open(
        ImageUserMethods.getImage,
        CallOptions(timeout: connection.timeouts.transfer(sizeBytes: Self.expectedBytes)))
      try await call.sendLast(request)
      guard let header = try await call.receiveMessage() else {
        throw RPCError(.internalError, "the answer is empty")
      }
      try await receive(header, over: call, to: path)
      var line: JSONObject = [
        "type": "image", "image_id": .string(id.bytes.hex), "owner": .string(header.owner),
        "path": .string(path),
      ]
      ImageLine.add(header.tags ?? ImageTags(), to: &line)
      output.emit(line)
      if path != "-" {
        output.print("\(path): \(Units.bytes(header.fileBytes)), identical (sha256)")
      }
      return .success
    } catch let error as RPCError {
      throw CommandFailure(error, during: "fetching \(id.bytes.hex)")
    }
  }

  private func receive(
    _ header: GetImageHeader, over call: ClientCall<GetImageRequest, GetImageHeader>,
    to path: String
  ) async throws {
    let destination: OriginalSink.Destination =
      path == "-" ? .standardOutput : .file(path, replacing: force)
    let sink = try OriginalSink(
      destination, tags: header.tags ?? ImageTags(), imageID: id.bytes)
    try await call.receiveFile(count: header.fileBytes) { try sink.take($0) }
    // The call's good end: only then were all shadows in order.
    guard try await call.receive() == nil else {
      throw RPCError(.internalError, "more came than the file that was announced")
    }
    try sink.finish()
  }
}
