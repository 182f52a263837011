import ArgumentParser
import Base
import Messages
import RPC

struct WhyCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "why",
    abstract:
      "Explain how an image is kept: where its shadows are, how they are, what happens next.",
    discussion: """
      EXAMPLE
        sfmedir why 0f3a5c...e1 --verify

      JSON: a line {"type":"shadow"} for each with index, slave, zone, rack, host, state (good, away, \
      leaving, lost, bad, unread), moving_to, remark; then one {"type":"image"} with image_id, owner, scheme, \
      epoch, sealed_bytes, stored_at_milliseconds, shadows, good, losses_survived, missing, \
      most_on_a_host, most_in_a_rack, most_in_a_zone, plan, last_problem, verified.

      Exit codes: 0 all shadows are good; 1 some are not; 66 no such image; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Flag(help: "Read every shadow now and compare it with its digest.") var verify = false

  @Argument(help: "The image's id, 32 hexadecimal digits.") var id: ImageIDArgument

  func execute(_ output: Output) async throws -> ExitStatus {
    let calls = MasterCalls(try await connection.connect(output), connection.timeouts)
    var request = ExplainImageRequest()
    request.imageID = id.bytes
    request.verify = verify
    let reply = try await calls.call(
      MasterCloudMethods.explainImage, request, during: "asking about \(id.bytes.hex)",
      timeout: verify ? connection.timeouts.transfer(sizeBytes: 0) : nil)
    for shadow in reply.shadows { output.emit(Self.line(of: shadow)) }
    output.emit(Self.line(of: reply))
    print(reply, output)
    return reply.shadows.allSatisfy { $0.state == .good } ? .success : .someFailed
  }

  private func print(_ reply: ExplainImageReply, _ output: Output) {
    let record = reply.record ?? ImageRecord()
    output.print("image \(record.imageID.hex) of \(record.owner)")
    output.print(
      "stored \(Units.time(milliseconds: record.storedAtMilliseconds)),"
        + " \(Units.bytes(record.sealedBytes)) encrypted, shared by '\(reply.scheme)'")
    output.print()
    var table = Table([
      .init("shadow", .right), .init("slave"), .init("zone"), .init("rack"), .init("host"),
      .init("state"), .init("remark"),
    ])
    for shadow in reply.shadows {
      let remark =
        shadow.movingTo.isEmpty ? shadow.remark : "being made anew on \(shadow.movingTo)"
      table.add([
        "\(shadow.index)", shadow.slave, SlaveText.domain(shadow.zone, unless: shadow.rack),
        SlaveText.domain(shadow.rack, unless: shadow.host),
        SlaveText.domain(shadow.host, unless: shadow.slave),
        SlaveText.name(of: shadow.state), remark,
      ])
    }
    output.print(table)
    output.print()
    let good = "\(reply.good) of \(Units.count(reply.shadows.count, "shadow")) are good"
    if reply.missing > 0 {
      output.print(
        output.styled(
          "\(good): \(reply.missing) too few, the image cannot be rebuilt now", .red))
    } else {
      output.print(
        "\(good): it survives \(Units.count(Int(reply.lossesSurvived), "further loss", "further losses"))"
      )
      for (what, most) in [
        ("host", reply.mostOnAHost), ("rack", reply.mostInARack), ("zone", reply.mostInAZone),
      ] where most > reply.lossesSurvived && most > 1 {
        output.print(
          output.styled("the loss of one \(what) may take \(most) of them at once", .yellow))
      }
    }
    if reply.verified { output.print("every shadow was read for this answer") }
    if !reply.plan.isEmpty { output.print("next: \(printable(reply.plan))") }
    if !reply.lastProblem.isEmpty {
      output.print("last attempt: \(printable(reply.lastProblem))")
    }
  }

  static func line(of shadow: ExplainedShadow) -> JSONObject {
    [
      "type": "shadow", "index": JSONValue(shadow.index), "slave": .string(shadow.slave),
      "zone": .string(shadow.zone), "rack": .string(shadow.rack), "host": .string(shadow.host),
      "state": .string(SlaveText.name(of: shadow.state)), "moving_to": .string(shadow.movingTo),
      "remark": .string(shadow.remark),
    ]
  }

  static func line(of reply: ExplainImageReply) -> JSONObject {
    let record = reply.record ?? ImageRecord()
    return [
      "type": "image", "image_id": .string(record.imageID.hex), "owner": .string(record.owner),
      "scheme": .string(reply.scheme), "epoch": JSONValue(reply.epoch),
      "sealed_bytes": JSONValue(record.sealedBytes),
      "stored_at_milliseconds": JSONValue(record.storedAtMilliseconds),
      "shadows": JSONValue(reply.shadows.count), "good": JSONValue(reply.good),
      "losses_survived": JSONValue(reply.lossesSurvived), "missing": JSONValue(reply.missing),
      "most_on_a_host": JSONValue(reply.mostOnAHost),
      "most_in_a_rack": JSONValue(reply.mostInARack),
      "most_in_a_zone": JSONValue(reply.mostInAZone), "plan": .string(reply.plan),
      "last_problem": .string(reply.lastProblem), "verified": .bool(reply.verified),
    ]
  }
}

struct EndangeredCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "endangered",
    abstract: "List every image that has not all of its shadows, the lost ones by id.",
    discussion: """
      EXAMPLE
        sfmedir endangered --lost

      JSON: a line {"type":"image"} for each with image_id, owner, shadows, good, losses_survived, \
      missing, problem; then one {"type":"summary"} with images, lost.

      Exit codes: 0 there are none; 1 there are some; see docs/command-line.md.
      """)

  @OptionGroup var outputOptions: OutputOptions
  @OptionGroup var connection: ConnectionOptions

  @Flag(help: "Only those that cannot be rebuilt now.") var lost = false

  func execute(_ output: Output) async throws -> ExitStatus {
    let calls = MasterCalls(try await connection.connect(output), connection.timeouts)
    var request = ListEndangeredRequest()
    request.lostOnly = lost
    var images: [EndangeredImage] = []
    while true {
      let reply = try await calls.call(
        MasterCloudMethods.listEndangered, request, during: "listing endangered images")
      images += reply.images
      // An answer that says "more" and gets no further would be asked for again and again.
      guard reply.more, reply.lookedThrough != request.after else { break }
      request.after = reply.lookedThrough
      try Task.checkCancellation()
    }
    images.sort { ($0.missing, $1.lossesSurvived) > ($1.missing, $0.lossesSurvived) }
    var table = Table([
      .init("image"), .init("owner"), .init("shadows", .right), .init("good", .right),
      .init("survives"),
    ])
    for image in images {
      output.emit([
        "type": "image", "image_id": .string(image.imageID.hex), "owner": .string(image.owner),
        "shadows": JSONValue(image.shadows), "good": JSONValue(image.good),
        "losses_survived": JSONValue(image.lossesSurvived), "missing": JSONValue(image.missing),
        "problem": .string(image.problem),
      ])
      table.add([
        image.imageID.hex, image.owner, "\(image.shadows)", "\(image.good)",
        !image.problem.isEmpty
          ? image.problem
          : image.missing > 0
            ? "lost: \(image.missing) too few"
            : Units.count(Int(image.lossesSurvived), "loss", "losses"),
      ])
    }
    let lostCount = images.filter { $0.missing > 0 || !$0.problem.isEmpty }.count
    output.emit([
      "type": "summary", "images": JSONValue(images.count), "lost": JSONValue(lostCount),
    ])
    if images.isEmpty {
      output.print(lost ? "no image is lost" : "every image has all of its shadows")
      return .success
    }
    output.print(table)
    output.print("\(Units.count(images.count, "image")), \(lostCount) of them lost")
    return .someFailed
  }
}
