import Base
import Histogram
import Messages
import RPC

/// What a run over a whole cluster measured.
struct EndToEndFigures: Sendable {
  var images = 0
  /// Files of the folder that are no images, and so were not stored.
  var notImages = 0
  var bytes: UInt64 = 0
  var uploadSeconds = 0.0
  /// In microseconds.
  var queryTimes = Histogram<UInt64>(highestTrackableValue: 3_600_000_000)
  var firstResultTimes = Histogram<UInt64>(highestTrackableValue: 3_600_000_000)
  var results = 0
  var storedBytes: UInt64 = 0
  var diskBytes: UInt64 = 0
  var slaves = 0
  var sharing = ""

  var queries: Int { Int(queryTimes.totalCount) }

  private func milliseconds(_ times: Histogram<UInt64>, _ percentile: Double) -> Double {
    Double(times.valueAtPercentile(percentile)) / 1000
  }

  var line: JSONObject {
    var line: JSONObject = [
      "upload_images_per_second": JSONValue(Double(images) / uploadSeconds),
      "query_ms_p50": JSONValue(milliseconds(queryTimes, 50)),
      "query_ms_p99": JSONValue(milliseconds(queryTimes, 99)),
      "first_result_ms_p50": JSONValue(milliseconds(firstResultTimes, 50)),
      "stored_bytes_per_byte": JSONValue(Double(storedBytes) / Double(bytes)),
      "disk_bytes_per_byte": JSONValue(Double(diskBytes) / Double(bytes)),
      "images": JSONValue(images), "not_images": JSONValue(notImages), "bytes": JSONValue(bytes),
      "queries": JSONValue(queries),
      "results_per_query": JSONValue(Double(results) / Double(max(1, queries))),
      "slaves": JSONValue(slaves), "sharing": .string(sharing),
    ]
    BenchContext.add(to: &line)
    return line
  }

  func print(to output: Output) {
    var table = Table([.init("figure"), .init("value", .right), .init("unit")])
    table.add(["uploads", Units.fixed(Double(images) / uploadSeconds, digits: 1), "images/s"])
    table.add(["query, median", Units.fixed(milliseconds(queryTimes, 50), digits: 1), "ms"])
    table.add(["query, 99 %", Units.fixed(milliseconds(queryTimes, 99), digits: 1), "ms"])
    table.add([
      "first result, median", Units.fixed(milliseconds(firstResultTimes, 50), digits: 1), "ms",
    ])
    table.add([
      "stored", Units.fixed(Double(storedBytes) / Double(bytes), digits: 3), "bytes per byte",
    ])
    output.print(table)
    output.print(
      "\(Units.count(images, "image")), \(Units.bytes(bytes)), "
        + "\(Units.count(queries, "query", "queries")), \(Units.count(slaves, "slave")), "
        + "shadows \(sharing), \(Build.kind) build, \(BenchContext.machine())")
  }
}

/// Stores every image of a set in a cluster and queries with each.
struct EndToEndBench: Sendable {
  let cluster: DevCluster
  let items: [UploadItem]
  let output: Output

  private static let concurrency = 4
  private static let maximumQueries = 200
  private static let resultCount = 5

  func run() async throws -> EndToEndFigures {
    let connection = try await cluster.connect()
    var figures = EndToEndFigures()
    figures.slaves = cluster.plan.nodes(.slave).count
    figures.sharing = cluster.plan.sharing.description
    let stored = try await upload(over: connection, &figures)
    output.remark("querying with \(min(stored.count, Self.maximumQueries)) of them")
    for item in stored.prefix(Self.maximumQueries) {
      try await query(item, over: try connection.imageUser(), &figures)
    }
    for slave in cluster.plan.nodes(.slave) {
      let status = try await connection.channel(to: slave.address, role: .slave).unary(
        SlaveCloudMethods.slaveStatus, Empty(), CallOptions(timeout: .seconds(30)))
      figures.storedBytes += status.storedBytes
      figures.diskBytes += status.diskBytes
    }
    return figures
  }

  private func upload(
    over connection: ClusterConnection, _ figures: inout EndToEndFigures
  ) async throws -> [UploadItem] {
    output.remark("uploading \(Units.count(items.count, "image"))")
    let uploader = Uploader(
      target: ImageOwnerTarget(
        channel: try connection.imageOwner(), timeouts: CallTimeouts()),
      concurrency: Self.concurrency, retryPauses: [])
    let start = SystemClock().monotonicNanoseconds()
    let outcomes = await uploader.run(items)
    figures.uploadSeconds = Double(SystemClock().monotonicNanoseconds() - start) / 1e9
    var stored: [UploadItem] = []
    for outcome in outcomes {
      switch outcome.result {
      case .stored:
        stored.append(outcome.item)
        figures.bytes += outcome.item.sizeBytes
      case .failed(let failure):
        // A folder of images may hold a list of them.
        guard failure.isUndecodableImage else { throw failure }
        figures.notImages += 1
      case .notTried: throw CancellationError()
      // The same picture twice is stored once and counted once.
      case .duplicate, .alreadyStored: break
      }
    }
    figures.images = stored.count
    guard !stored.isEmpty else {
      throw CommandFailure(.badInput, "none of the \(items.count) files is an image")
    }
    return stored
  }

  private func query(
    _ item: UploadItem, over channel: Channel, _ figures: inout EndToEndFigures
  ) async throws {
    let query = try await TimedQuery(item, over: channel, count: Self.resultCount)
    figures.queryTimes.record(query.nanoseconds / 1000)
    figures.firstResultTimes.record(query.firstNanoseconds / 1000)
    figures.results += query.results
  }
}
