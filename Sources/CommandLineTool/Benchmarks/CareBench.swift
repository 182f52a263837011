import Base
import Glibc
import Histogram
import Imaging
import Messages
import RPC

/// What breaking a cluster and letting it heal showed.
struct CareFigures: Sendable {
  struct Queries: Sendable {
    /// In microseconds.
    var times = Histogram<UInt64>(highestTrackableValue: 3_600_000_000)
    var failed = 0

    func milliseconds(_ percentile: Double) -> Double {
      Double(times.valueAtPercentile(percentile)) / 1000
    }
  }

  var images = 0
  var slaves = 0
  var sharing = ""
  var quiet = Queries()
  var repair = Queries()
  var detectionSeconds = 0.0
  var repairSeconds = 0.0
  var care = CareStatus()
  var notWhole = 0
  var lost = 0

  var isWhole: Bool { notWhole == 0 && lost == 0 && quiet.failed == 0 && repair.failed == 0 }
  private var ratio: Double { repair.milliseconds(99) / quiet.milliseconds(99) }
  private var megabytesPerSecond: Double {
    Double(care.doneBytes) / 1e6 / max(0.001, repairSeconds - detectionSeconds)
  }

  var line: JSONObject {
    var line: JSONObject = [
      "images": JSONValue(images), "slaves": JSONValue(slaves), "sharing": .string(sharing),
      "repair_seconds": JSONValue(repairSeconds), "detection_seconds": JSONValue(detectionSeconds),
      "repaired_shadows": JSONValue(care.doneShadows),
      "rebuilt_shadows": JSONValue(care.rebuiltShadows),
      "copied_shadows": JSONValue(care.copiedShadows),
      "repaired_bytes": JSONValue(care.doneBytes), "repair_mbps": JSONValue(megabytesPerSecond),
      "query_ms_p50_quiet": JSONValue(quiet.milliseconds(50)),
      "query_ms_p99_quiet": JSONValue(quiet.milliseconds(99)),
      "query_ms_p50_repair": JSONValue(repair.milliseconds(50)),
      "query_ms_p99_repair": JSONValue(repair.milliseconds(99)), "p99_ratio": JSONValue(ratio),
      "queries_quiet": JSONValue(quiet.times.totalCount),
      "queries_repair": JSONValue(repair.times.totalCount),
      "queries_failed": JSONValue(quiet.failed + repair.failed),
      "images_not_whole": JSONValue(notWhole), "images_lost": JSONValue(lost),
    ]
    BenchContext.add(to: &line)
    return line
  }

  func print(to output: Output) {
    var table = Table([.init("figure"), .init("value", .right), .init("unit")])
    func add(_ name: String, _ value: Double, digits: Int, _ unit: String) {
      table.add([name, Units.fixed(value, digits: digits), unit])
    }
    add("until all was whole", repairSeconds, digits: 1, "s")
    add("of that, until slaves were given up", detectionSeconds, digits: 1, "s")
    table.add(["shadows made anew", "\(care.doneShadows)", ""])
    table.add(["  rebuilt from others", "\(care.rebuiltShadows)", ""])
    table.add(["  copied", "\(care.copiedShadows)", ""])
    add("rate", megabytesPerSecond, digits: 1, "MB/s")
    add("query, median, in quiet", quiet.milliseconds(50), digits: 1, "ms")
    add("query, median, during repair", repair.milliseconds(50), digits: 1, "ms")
    add("query, 99 %, in quiet", quiet.milliseconds(99), digits: 1, "ms")
    add("query, 99 %, during repair", repair.milliseconds(99), digits: 1, "ms")
    add("ratio of the last two", ratio, digits: 2, "")
    table.add(["queries that failed", "\(quiet.failed + repair.failed)", ""])
    table.add(["images not whole", "\(notWhole)", ""])
    table.add(["images lost", "\(lost)", ""])
    output.print(table)
    output.print(
      "\(Units.count(images, "image")), \(Units.count(slaves, "slave")), shadows \(sharing), "
        + "\(quiet.times.totalCount) and \(repair.times.totalCount) queries, \(Build.kind) build, "
        + "\(BenchContext.machine())")
  }
}

/// Stores images, queries without pause, and breaks four slaves in four ways.
struct CareBench: Sendable {
  let cluster: DevCluster
  let items: [UploadItem]
  let quietQueries: Int
  let output: Output

  static let repairAfterSeconds = 5
  private static let concurrency = 4
  private static let resultCount = 5
  /// Not worth waiting for any longer.
  private static let patienceSeconds = 3600.0
  private let clock = SystemClock()

  init(cluster: DevCluster, items: [UploadItem], quietQueries: Int, output: Output) {
    self.cluster = cluster
    self.items = items
    self.quietQueries = quietQueries
    self.output = output
  }

  /// Synthetic pictures in a folder.
  static func pictures(_ count: Int, seed: UInt64, in folder: String) throws -> [UploadItem] {
    try Files.createDirectories(folder)
    return try (0..<count).map { index in
      let (name, file) = Phantom.file(seed: seed, index: index, side: Phantom.defaultSide)
      let path = "\(folder)/\(name)"
      try Files.write(file, to: path)
      return UploadItem(path: path, sizeBytes: UInt64(file.count))
    }
  }

  func run() async throws -> CareFigures {
    let connection = try await cluster.connect()
    let master = MasterCalls(connection, CallTimeouts())
    var figures = CareFigures()
    figures.slaves = cluster.plan.nodes(.slave).count
    figures.sharing = "random per image, s - r at least 3, s at most \(figures.slaves - 4)"
    let ids = try await upload(over: connection)
    figures.images = ids.count
    let before = try await shadowCounts(ids, master, verify: false)
    output.remark("querying in quiet")
    let user = try connection.imageUser()
    for number in 0..<quietQueries {
      await query(items[number % items.count], over: user, &figures.quiet)
    }

    output.remark("breaking four slaves")
    let start = clock.monotonicNanoseconds()
    func seconds() -> Double { Double(clock.monotonicNanoseconds() - start) / 1e9 }
    let (detection, end) = try await withThrowingTaskGroup(
      of: CareFigures.Queries.self, returning: (Double, Double).self
    ) { group in
      group.addTask { [items] in
        var queries = CareFigures.Queries()
        var number = 0
        while !Task.isCancelled {
          await query(items[number % items.count], over: user, &queries)
          number += 1
        }
        return queries
      }
      try await breakSlaves(connection, master)
      var detection = 0.0
      while true {
        let status = try await master.status()
        if detection == 0,
          status.slaves.prefix(2).allSatisfy({ $0.givenUp })
        {
          detection = seconds()
        }
        if detection > 0, try await isDone(status, connection) { break }
        guard seconds() < Self.patienceSeconds else {
          throw CommandFailure(
            .temporary,
            "not whole after \(Int(Self.patienceSeconds)) s: "
              + CareLine.text(of: status.care ?? CareStatus()))
        }
        output.remark("repair: " + CareLine.text(of: status.care ?? CareStatus()))
        try await Task.sleep(for: .seconds(1))
      }
      let end = seconds()
      group.cancelAll()
      for try await queries in group { figures.repair = queries }
      return (detection, end)
    }
    figures.detectionSeconds = detection
    figures.repairSeconds = end
    let status = try await master.status()
    figures.care = status.care ?? CareStatus()
    // Not only those of the last bout: a change on the way begins the count anew.
    figures.care.doneShadows = figures.care.rebuiltShadows + figures.care.copiedShadows
    figures.care.doneBytes = figures.care.madeBytes
    figures.lost = Int(figures.care.lostImages)

    output.remark("reading every shadow and every original")
    let after = try await shadowCounts(ids, master, verify: true)
    figures.notWhole = ids.filter { after[$0] != before[$0] }.count
    for id in ids where try await !isThere(id, user) { figures.lost += 1 }
    return figures
  }

  private func upload(over connection: ClusterConnection) async throws -> [[UInt8]] {
    output.remark("uploading \(Units.count(items.count, "image"))")
    let uploader = Uploader(
      target: ImageOwnerTarget(channel: try connection.imageOwner(), timeouts: CallTimeouts()),
      concurrency: Self.concurrency)
    var ids: [[UInt8]] = []
    for outcome in await uploader.run(items) {
      switch outcome.result {
      case .stored(let reply): ids.append(reply.imageID)
      case .alreadyStored, .duplicate: break
      case .failed(let failure): throw failure
      case .notTried: throw CancellationError()
      }
    }
    return ids
  }

  // MARK: breaking

  /// Kills the first two, damages the third, drains the fourth.
  private func breakSlaves(_ connection: ClusterConnection, _ master: MasterCalls) async throws {
    let slaves = cluster.plan.nodes(.slave)
    for slave in slaves[0...1] {
      _ = try cluster.processes.kill(slave)
      try Files.removeTree(cluster.folder.state(slave.name))
    }
    try Self.damage(cluster.folder.state(slaves[2].name) + "/segments")
    try await master.set(slaves[3].name, .draining, replacement: "")
    _ = try await connection.channel(to: slaves[2].address, role: .slave).unary(
      SlaveCloudMethods.startScrub, Empty(), CallOptions(timeout: .seconds(30)))
  }

  /// Flips a bit every 2 KiB of every segment, behind the back of the daemon that has it open.
  private static func damage(_ folder: String) throws {
    for name in try Files.names(in: folder) where name.hasSuffix(".segment") {
      let path = "\(folder)/\(name)"
      let descriptor = open(path, O_RDWR | O_CLOEXEC)
      guard descriptor >= 0 else { throw FileError("open", path) }
      defer { close(descriptor) }
      let end = lseek(descriptor, 0, SEEK_END)
      for offset in stride(from: 3000, to: Int(end) - 64, by: 2048) {
        var byte: UInt8 = 0
        guard pread(descriptor, &byte, 1, offset) == 1 else { throw FileError("read", path) }
        byte ^= 0x10
        guard pwrite(descriptor, &byte, 1, offset) == 1 else { throw FileError("write", path) }
      }
    }
  }

  /// Nothing is left on the slaves that are given up or drained, and the damaged one has read everything and been mended.
  private func isDone(
    _ status: ClusterStatusReply, _ connection: ClusterConnection
  ) async throws -> Bool {
    guard let care = status.care, care.pendingShadows == 0, care.waitingShadows == 0,
      status.slaves[3].placedShadows == 0,
      status.slaves.allSatisfy({ $0.badShadows == 0 }),
      status.slaves[2].scrubbedBytes == 0, care.rebuiltShadows > 0
    else { return false }
    // The list of what is endangered is the last word.
    return try await endangered(connection) == 0
  }

  private func endangered(_ connection: ClusterConnection) async throws -> Int {
    let reply = try await connection.master().unary(
      MasterCloudMethods.listEndangered, ListEndangeredRequest(),
      CallOptions(timeout: .seconds(60)))
    return reply.images.count
  }

  // MARK: looking

  /// Good shadows of each image.
  private func shadowCounts(
    _ ids: [[UInt8]], _ master: MasterCalls, verify: Bool
  ) async throws -> [[UInt8]: UInt32] {
    var counts: [[UInt8]: UInt32] = [:]
    for id in ids {
      var request = ExplainImageRequest()
      (request.imageID, request.verify) = (id, verify)
      let reply = try await master.call(
        MasterCloudMethods.explainImage, request, during: "explaining an image",
        timeout: .seconds(120))
      counts[id] = UInt32(reply.shadows.count { $0.state == .good })
    }
    return counts
  }

  private func isThere(_ id: [UInt8], _ user: Channel) async throws -> Bool {
    var request = GetImageRequest()
    request.imageID = id
    do throws(RPCError) {
      let call = try await user.open(
        ImageUserMethods.getImage, CallOptions(timeout: .seconds(120)))
      try await call.sendLast(request)
      guard let header = try await call.receiveMessage() else { return false }
      return try await call.receiveBulk(count: header.fileBytes, maximum: 1 << 30).count > 0
    } catch {
      return false
    }
  }

  private func query(
    _ item: UploadItem, over channel: Channel, _ queries: inout CareFigures.Queries
  ) async {
    do {
      let query = try await TimedQuery(item, over: channel, count: Self.resultCount)
      queries.times.record(query.nanoseconds / 1000)
    } catch {
      // The one that the end of the measurement cuts short has not failed.
      if Task.isCancelled { return }
      queries.failed += 1
      output.remark("a query failed: \(error)")
    }
  }
}
