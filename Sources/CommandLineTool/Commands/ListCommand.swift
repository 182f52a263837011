import ArgumentParser
import Base
import Messages
import RPC

struct ListCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "ls",
    abstract: "List stored images: this owner's, or all.",
    discussion: """
      EXAMPLE
        sfmedir ls --all --json

      JSON: a line {"type":"image"} for each with image_id, owner, file_name, format, width, height, \
      frames, file_bytes, file_sha256, tags, sealed_bytes, stored_at_milliseconds, and error where \
      the tags cannot be opened; then one {"type":"summary"} with images, bytes.

      Exit codes: 0; 1 some tags could not be opened; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions
  @OptionGroup var age: AgeOptions

  @Flag(help: "Images of every owner, as the image user sees them.") var all = false

  private static let pageImages: UInt32 = 500

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try await connection.connect(output)
    let channel = try all ? cluster.imageUser() : cluster.imageOwner()
    let method = all ? ImageUserMethods.listImages : ImageOwnerMethods.listOwnImages
    var images: [OwnImage] = []
    var request = ListOwnImagesRequest()
    request.limit = Self.pageImages
    request.maximumAgeMilliseconds = age.milliseconds
    while true {
      let reply: ListOwnImagesReply
      do {
        reply = try await channel.unary(
          method, request, CallOptions(timeout: connection.timeouts.small))
      } catch {
        throw CommandFailure(error, during: "listing the images")
      }
      for image in reply.images { output.emit(Self.line(of: image)) }
      images += reply.images
      // An answer that says "more" and brings nothing would be asked for again and again.
      guard reply.more, let last = reply.images.last else { break }
      request.after = last.imageID
    }
    let bytes = images.reduce(0) { $0 + ($1.tags?.fileBytes ?? 0) }
    output.emit([
      "type": "summary", "images": JSONValue(images.count), "bytes": JSONValue(bytes),
    ])
    if !images.isEmpty { output.print(Self.table(images)) }
    output.print("\(Units.count(images.count, "image")), \(Units.bytes(bytes))")
    let problems = images.filter { !$0.problem.isEmpty }
    output.fail(
      items: problems.map { image in
        CommandFailure(
          .someFailed, "the tags of \(image.imageID.hex) cannot be opened: \(image.problem)",
          advice: "a key version that this daemon lacks comes with its next start")
      })
    return problems.isEmpty ? .success : .someFailed
  }

  static func line(of image: OwnImage) -> JSONObject {
    var line: JSONObject = [
      "type": "image", "image_id": .string(image.imageID.hex), "owner": .string(image.owner),
    ]
    ImageLine.add(image.tags ?? ImageTags(), to: &line)
    line["sealed_bytes"] = JSONValue(image.sealedBytes)
    line["stored_at_milliseconds"] = JSONValue(image.storedAtMilliseconds)
    if !image.problem.isEmpty { line["error"] = .string(image.problem) }
    return line
  }

  static func table(_ images: [OwnImage]) -> Table {
    var table = Table([
      .init("id"), .init("file"), .init("owner"), .init("picture", .right), .init("size", .right),
      .init("stored"), .init("tags"),
    ])
    for image in images {
      let tags = image.tags ?? ImageTags()
      let pairs = tags.tags.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
      table.add([
        image.imageID.hex, shortened(tags.fileName, to: 40), image.owner, ImageLine.picture(tags),
        Units.bytes(tags.fileBytes), Units.time(milliseconds: image.storedAtMilliseconds),
        shortened(pairs, to: 40),
      ])
    }
    return table
  }
}
