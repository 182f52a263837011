import ArgumentParser
import Base
import Messages
import RPC

struct RemoveCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "rm",
    abstract: "Delete images of this owner.",
    discussion: """
      The image's key is deleted at once, so that what is left of it on any disk cannot be opened; \
      its shadows follow.

      EXAMPLE
        sfmedir rm 0f3a5c...e1

      JSON: a line {"type":"image"} for each id with image_id, status (removed, not_found, failed), \
      error, code; then one {"type":"summary"} with removed, failed.

      Exit codes: 0 all removed; 1 some were not there or failed; 66 the only one was not there; \
      see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Argument(help: "Ids, 32 hexadecimal digits each.") var ids: [ImageIDArgument]

  func execute(_ output: Output) async throws -> ExitStatus {
    let cluster = try await connection.connect(output)
    let owner = try cluster.imageOwner()
    var failures: [CommandFailure] = []
    for id in ids {
      var line: JSONObject = ["type": "image", "image_id": .string(id.bytes.hex)]
      if let failure = await remove(id, from: owner) {
        failures.append(failure)
        line["status"] = failure.status == .notFound ? "not_found" : "failed"
        line["error"] = .string(failure.message)
        line["code"] = .string(failure.code)
      } else {
        line["status"] = "removed"
      }
      output.emit(line)
      try Task.checkCancellation()
    }
    output.fail(items: failures)
    let removed = ids.count - failures.count
    output.emit([
      "type": "summary", "removed": JSONValue(removed), "failed": JSONValue(failures.count),
    ])
    if removed > 0 { output.print("\(Units.count(removed, "image")) removed") }
    if failures.isEmpty { return .success }
    return ids.count == 1 ? failures[0].status : .someFailed
  }

  private func remove(_ id: ImageIDArgument, from owner: Channel) async -> CommandFailure? {
    var request = RemoveImageRequest()
    request.imageID = id.bytes
    do {
      let reply = try await owner.unary(
        ImageOwnerMethods.removeImage, request, CallOptions(timeout: connection.timeouts.small))
      if reply.existed { return nil }
      return CommandFailure(
        RPCError(.notFound, "this owner has no such image"), during: "removing \(id.bytes.hex)")
    } catch {
      return CommandFailure(error, during: "removing \(id.bytes.hex)")
    }
  }
}
