import Messages
import RPC
import Testing

@testable import CommandLineTool

/// Programs read these keys: they are added to, never renamed (docs/command-line.md).
@Suite struct OutputKeysTests {
  private func tags() -> ImageTags {
    var tags = ImageTags()
    tags.fileName = "a.dcm"
    tags.format = "dicom"
    tags.width = 512
    tags.height = 256
    tags.frames = 3
    tags.fileBytes = 7
    tags.fileDigest = [0xAB]
    var entry = TagEntry()
    entry.key = "study"
    entry.value = "x"
    tags.tags = [entry]
    return tags
  }

  private let tagKeys = [
    "file_name", "format", "width", "height", "frames", "file_bytes", "file_sha256", "tags",
  ]

  @Test func queryResult() {
    var result = QueryResult()
    result.rank = 1
    result.distance = 2
    result.imageID = [UInt8](repeating: 1, count: 16)
    result.tags = tags()
    var answer = QueryAnswer(result: result)
    #expect(answer.line.keys == ["type", "rank", "distance", "image_id", "owner"] + tagKeys)
    answer.path = "out/x"
    #expect(answer.line.string("path") == "out/x")
    #expect(answer.safeName == "01-d002-01010101-a.dcm")
    #expect(
      QueryAnswer.table([answer], withPaths: false).lines[1]
        == "   1         2  01010101010101010101010101010101  a.dcm         dicom 512x256x3   7 B")
    result.imageStatus = StatusCode.unavailable.rawValue
    result.problem = "2 of 3 shadows"
    let missing = QueryAnswer(result: result)
    #expect(missing.failure?.status == .unavailable)
    #expect(missing.line.string("code") == "UNAVAILABLE")
  }

  @Test func uploadedFile() {
    let item = UploadItem(path: "a.png", sizeBytes: 3)
    func keys(_ result: UploadOutcome.Result) -> [String] {
      UploadReport.line(of: UploadOutcome(item: item, result: result)).keys
    }
    let common = ["type", "path", "status", "bytes"]
    #expect(
      keys(.stored(StoreImageReply())) == common + ["image_id", "sealed_bytes", "shadow_bytes"])
    #expect(keys(.alreadyStored(imageID: [1])) == common + ["image_id"])
    #expect(keys(.duplicate(of: "b")) == common + ["duplicate_of"])
    #expect(keys(.notTried) == common)
    let failure = CommandFailure(
      RPCError(.invalidArgument, "no picture", reason: "UndecodableImage"), during: "storing")
    #expect(failure.isUndecodableImage)
    #expect(keys(.failed(failure)) == common + ["error", "advice", "code", "reason"])
  }

  @Test func listedImage() {
    var image = OwnImage()
    image.tags = tags()
    #expect(
      ListCommand.line(of: image).keys
        == ["type", "image_id", "owner"] + tagKeys + ["sealed_bytes", "stored_at_milliseconds"])
    image.problem = "wrong key"
    #expect(ListCommand.line(of: image).string("error") == "wrong key")
  }

  @Test func clusterStatus() {
    var daemon = ClusterReport.Daemon(role: .imageOwner, address: "h:1")
    daemon.status = NodeStatusReply()
    #expect(
      ClusterReport.line(of: daemon).keys == [
        "type", "role", "address", "state", "node", "master", "model_version",
        "image_key_version", "index_key_version", "certificate_expires_milliseconds", "problem",
      ])
    var slave = SlaveHealth()
    slave.reachable = true
    #expect(
      ClusterReport.line(of: slave).keys == [
        "type", "node", "address", "reachable", "shadows", "stored_bytes", "free_bytes",
        "read_only", "corrupt_shadows", "last_seen_milliseconds", "message",
      ])
    #expect(ClusterReport.state(of: slave) == "ok")
    slave.corruptShadows = 1
    #expect(ClusterReport.state(of: slave) == "corrupt shadows")
    slave.readOnly = true
    #expect(ClusterReport.state(of: slave) == "read-only")
    slave.reachable = false
    #expect(ClusterReport.state(of: slave) == "unreachable")
  }

  @Test func aClusterIsHealthyWhenEverythingIs() {
    var report = ClusterReport(cluster: "c", operatorExpiresMilliseconds: 1)
    report.daemons = [.init(role: .master, address: "h:1")]
    #expect(!report.isHealthy)
    var state = ClusterStatusReply()
    state.slaves = [SlaveHealth()]
    state.slaves[0].reachable = true
    report.state = state
    #expect(report.isHealthy)
    report.state?.slaves[0].reachable = false
    #expect(!report.isHealthy)
    report.state?.slaves[0].reachable = true
    report.daemons[0].problem = "x"
    #expect(!report.isHealthy)
  }

  @Test func endToEndFigures() {
    var figures = EndToEndFigures()
    figures.images = 10
    figures.bytes = 1000
    figures.uploadSeconds = 2
    figures.storedBytes = 2500
    figures.results = 100
    for milliseconds in 1...100 {
      figures.queryTimes.record(UInt64(milliseconds) * 1000)
      figures.firstResultTimes.record(500)
    }
    let line = figures.line
    #expect(
      Array(line.keys.prefix(5)) == [
        "upload_images_per_second", "query_ms_p50", "query_ms_p99", "first_result_ms_p50",
        "stored_bytes_per_byte",
      ])
    for key in ["images", "bytes", "slaves", "sharing", "build", "date", "machine"] {
      #expect(line[key] != nil, "\(key)")
    }
    #expect(line["upload_images_per_second"] == .number(5))
    #expect(line["stored_bytes_per_byte"] == .number(2.5))
    #expect(line["first_result_ms_p50"] == .number(0.5))
    guard case .number(let median)? = line["query_ms_p50"],
      case .number(let tail)? = line["query_ms_p99"]
    else { return #expect(Bool(false), "no quantiles") }
    #expect(abs(median - 50) < 0.1)
    #expect(abs(tail - 99) < 0.2)
  }
}
