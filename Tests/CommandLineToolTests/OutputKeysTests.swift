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
        "read_only", "corrupt_shadows", "last_seen_milliseconds", "message", "state", "condition",
        "replacement", "given_up", "host", "rack", "zone", "reserve_bytes", "bad_shadows",
        "placed_shadows", "garbage_shadows", "distrusted", "last_audit_milliseconds",
        "unknown_shadows", "last_full_scrub_milliseconds", "scrubbed_bytes",
        "scrub_findings",
      ])
    (slave.freeBytes, slave.reserveBytes) = (11, 10)
    #expect(ClusterReport.state(of: slave) == "ok")
    slave.freeBytes = 10
    #expect(ClusterReport.state(of: slave) == "full")
    slave.badShadows = 1
    #expect(ClusterReport.state(of: slave) == "bad shadows")
    slave.distrusted = true
    #expect(ClusterReport.state(of: slave) == "distrusted")
    slave.readOnly = true
    #expect(ClusterReport.state(of: slave) == "read-only")
    slave.condition = .draining
    #expect(ClusterReport.state(of: slave) == "drained")
    slave.placedShadows = 1
    #expect(ClusterReport.state(of: slave) == "draining")
    slave.reachable = false
    #expect(ClusterReport.state(of: slave) == "unreachable")
    slave.givenUp = true
    #expect(ClusterReport.state(of: slave) == "given up")
    slave.condition = .lost
    #expect(ClusterReport.state(of: slave) == "lost")
  }

  @Test func care() {
    var care = CareStatus()
    #expect(
      ClusterReport.line(of: care).keys == [
        "pending_images", "pending_shadows", "pending_bytes", "balancing_shadows",
        "waiting_shadows", "done_shadows", "done_bytes", "failed_attempts", "bytes_per_second",
        "seconds_left", "fewest_losses_survived", "lost_images", "rebuilt_shadows",
        "copied_shadows", "made_bytes", "passes", "off", "last_problem",
      ])
    (care.doneShadows, care.pendingShadows) = (12, 68)
    (care.bytesPerSecond, care.secondsLeft, care.waitingShadows) = (4 << 20, 125, 3)
    #expect(
      CareLine.text(of: care)
        == "12 of 80 shadows, 15%, 4.0 MiB/s, about 2 min 05 s left, 3 wait for a slave")
    (care.doneShadows, care.pendingShadows) = (0, 0)
    #expect(CareLine.text(of: care) == "3 shadows wait for a slave")
  }

  @Test func aClusterIsHealthyWhenEverythingIs() {
    var report = ClusterReport(cluster: "c", operatorExpiresMilliseconds: 1)
    report.daemons = [.init(role: .master, address: "h:1")]
    #expect(!report.isHealthy)
    var state = ClusterStatusReply()
    state.slaves = [SlaveHealth()]
    state.slaves[0].reachable = true
    state.slaves[0].freeBytes = 1
    report.state = state
    #expect(report.isHealthy)
    report.state?.slaves[0].reachable = false
    #expect(!report.isHealthy)
    report.state?.slaves[0].reachable = true
    // What an operator decided is no fault, as long as nothing is lost by it.
    report.state?.slaves[0].condition = .draining
    #expect(report.isHealthy)
    report.state?.slaves[0].condition = .lost
    #expect(report.isHealthy)
    report.state?.slaves[0].placedShadows = 1
    #expect(!report.isHealthy)
    report.state?.slaves[0].placedShadows = 0
    var care = CareStatus()
    care.lostImages = 1
    report.state?.care = care
    #expect(!report.isHealthy)
    report.state?.care = nil
    report.daemons[0].problem = "x"
    #expect(!report.isHealthy)
  }

  @Test func methodsAndTypes() throws {
    var method = MethodDescription()
    (method.service, method.name) = ("s", "M")
    method.serverStreams = true
    method.roles = ["mcs"]
    #expect(
      SchemaText.json(of: method).keys == [
        "type", "method", "request", "reply", "client_streams", "server_streams", "idempotency",
        "roles", "open",
      ])
    #expect(method.shape == "server streaming")
    #expect(method.repeating == "once only")
    method.idempotency = .noSideEffects
    #expect(method.repeating == "changes nothing")
    #expect(SchemaText.json(of: method).string("idempotency") == "no_side_effects")
    #expect(SchemaText.line(of: method) == "rpc s/M() returns (stream );")
    let schema = try CodecTests.exotic()
    let message = try #require(schema.messages["self"])
    #expect(
      SchemaText.json(of: message).line
        == #"{"type":"message","name":"self","fields":[{"name":"one","json_name":"one","number":1,"#
        + #""repeated":false,"field_type":"self"},{"name":"many","json_name":"many","number":2,"#
        + #""repeated":true,"field_type":"self"}]}"#)
    #expect(
      SchemaText.lines(of: message)
        == ["message self {", "  self one = 1;", "  repeated self many = 2;", "}"])
    let enumeration = try #require(schema.enumerations["e"])
    #expect(
      SchemaText.json(of: enumeration).line
        == #"{"type":"enum","name":"e","values":[{"name":"ZERO","number":0},"#
        + #"{"name":"MINUS","number":-1}]}"#)
    #expect(SchemaText.lines(of: enumeration) == ["enum e {", "  ZERO = 0;", "  MINUS = -1;", "}"])
  }

  @Test func methodMetrics() {
    var figures = MethodFigures()
    (figures.method, figures.calls, figures.inFlight) = ("s/M", 5, 1)
    figures.statuses = [(0, 3), (5, 1), (99, 2)].map { (status: UInt32, calls: UInt64) in
      var count = StatusCount()
      (count.status, count.calls) = (status, calls)
      return count
    }
    figures.p50Nanoseconds = 12_345
    figures.maximumNanoseconds = 3_000_000
    #expect(
      RPCMetricsCommand.line(of: figures).line
        == #"{"type":"method_metrics","method":"s/M","calls":5,"in_flight":1,"#
        + #""statuses":{"OK":3,"NOT_FOUND":1,"99":2},"received_bytes":0,"sent_bytes":0,"#
        + #""p50_us":12.345,"p90_us":0.0,"p99_us":0.0,"max_us":3000.0}"#)
    #expect(Units.duration(nanoseconds: 999) == "999 ns")
    #expect(Units.duration(nanoseconds: 12_345) == "12.3 us")
    #expect(Units.duration(nanoseconds: 999_950) == "1.0 ms")
    #expect(Units.duration(nanoseconds: 2_500_000_000) == "2.5 s")
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
