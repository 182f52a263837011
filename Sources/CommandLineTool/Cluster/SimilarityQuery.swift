import Base
import Imaging
import Messages
import RPC

/// One search over the image user's daemon.
struct SimilarityQuery {
  let channel: Channel
  let timeouts: CallTimeouts
  let count: Int
  let withImages: Bool
  /// 0: as of now.
  var maximumAgeMilliseconds: UInt64 = 0

  typealias Call = ClientCall<QueryImagesHeader, QueryResult>

  /// Sends the picture and hands on each result in order; the handler takes the original that
  /// follows a result with `fileBytes` above 0.
  func run(
    path: String, sizeBytes: UInt64,
    _ handle: (QueryResult, Call) async throws -> Void
  ) async throws {
    do {
      // The originals' sizes are not known yet: as much time as a big one of each would take.
      let expected = sizeBytes + (withImages ? UInt64(count) << 24 : 0)
      let call = try await channel.open(
        ImageUserMethods.queryImages,
        CallOptions(timeout: timeouts.transfer(sizeBytes: expected)))
      var header = QueryImagesHeader()
      header.count = UInt32(count)
      header.withImages = withImages
      header.fileBytes = sizeBytes
      header.maximumAgeMilliseconds = maximumAgeMilliseconds
      try await call.send(header)
      try await call.sendFile(path, sizeBytes: sizeBytes)
      while let result = try await call.receiveMessage() { try await handle(result, call) }
    } catch let error as RPCError {
      throw CommandFailure(error, during: "querying with \(path)")
    }
  }
}

/// What a query took whose originals are received, checked and thrown away.
struct TimedQuery {
  private(set) var results = 0
  /// Until the first original was there, and until the last was.
  private(set) var firstNanoseconds: UInt64 = 0
  private(set) var nanoseconds: UInt64 = 0

  /// Throws where nothing was found, or an original did not come.
  init(_ item: UploadItem, over channel: Channel, count: Int) async throws {
    let clock = SystemClock()
    let query = SimilarityQuery(
      channel: channel, timeouts: CallTimeouts(), count: count, withImages: true)
    let start = clock.monotonicNanoseconds()
    try await query.run(path: item.path, sizeBytes: item.sizeBytes) { result, call in
      guard result.imageStatus == 0, result.fileBytes > 0 else {
        throw CommandFailure(.unavailable, "an original did not come: \(result.problem)")
      }
      let sink = try OriginalSink(
        .nowhere, tags: result.tags ?? ImageTags(), imageID: result.imageID)
      try await call.receiveFile(count: result.fileBytes) { try sink.take($0) }
      try sink.finish()
      if results == 0 { firstNanoseconds = clock.monotonicNanoseconds() - start }
      results += 1
    }
    nanoseconds = clock.monotonicNanoseconds() - start
    guard results > 0 else {
      throw CommandFailure(.internalError, "a query with \(item.path) found nothing")
    }
  }
}

/// A result of a query, and what became of its original.
struct QueryAnswer {
  let result: QueryResult
  var path: String?
  var picture: GrayImage?
  var failure: CommandFailure?

  init(result: QueryResult) {
    self.result = result
    if result.imageStatus != 0 {
      let code = StatusCode(rawValue: result.imageStatus) ?? .unknown
      failure = CommandFailure(
        RPCError(code, result.problem), during: "the original of \(result.imageID.hex)")
    }
  }

  private var tags: ImageTags { result.tags ?? ImageTags() }

  var safeName: String {
    SafeName.result(
      rank: Int(result.rank), distance: Int(result.distance), imageID: result.imageID.hex,
      fileName: tags.fileName)
  }

  var line: JSONObject {
    var line: JSONObject = [
      "type": "result", "rank": JSONValue(result.rank), "distance": JSONValue(result.distance),
      "image_id": .string(result.imageID.hex), "owner": .string(result.owner),
    ]
    ImageLine.add(tags, to: &line)
    if let path { line["path"] = .string(path) }
    if let failure {
      failure.add(to: &line)
    } else if !result.problem.isEmpty {
      line["error"] = .string(result.problem)
    }
    return line
  }

  static func table(_ answers: [QueryAnswer], withPaths: Bool) -> Table {
    var columns = [
      Table.Column("rank", .right), .init("distance", .right), .init("id"), .init("file"),
      .init("owner"), .init("picture", .right), .init("size", .right),
    ]
    if withPaths { columns.append(.init("written to")) }
    var table = Table(columns)
    for answer in answers {
      let tags = answer.tags
      var row = [
        "\(answer.result.rank)", "\(answer.result.distance)", answer.result.imageID.hex,
        shortened(tags.fileName, to: 40), answer.result.owner, ImageLine.picture(tags),
        Units.bytes(tags.fileBytes),
      ]
      if withPaths { row.append(answer.path ?? "-") }
      table.add(row)
    }
    return table
  }
}

/// How an image's tags look in tables and JSON.
enum ImageLine {
  static func add(_ tags: ImageTags, to line: inout JSONObject) {
    line["file_name"] = .string(tags.fileName)
    line["format"] = .string(tags.format)
    line["width"] = JSONValue(tags.width)
    line["height"] = JSONValue(tags.height)
    line["frames"] = JSONValue(tags.frames)
    line["file_bytes"] = JSONValue(tags.fileBytes)
    line["file_sha256"] = .string(tags.fileDigest.hex)
    var pairs = JSONObject()
    for entry in tags.tags { pairs[entry.key] = .string(entry.value) }
    line["tags"] = .object(pairs)
  }

  /// "dicom 512x512", with several frames "dicom 512x512x20".
  static func picture(_ tags: ImageTags) -> String {
    guard tags.width > 0 else { return "-" }
    let frames = tags.frames > 1 ? "x\(tags.frames)" : ""
    return "\(tags.format) \(tags.width)x\(tags.height)\(frames)"
  }
}
