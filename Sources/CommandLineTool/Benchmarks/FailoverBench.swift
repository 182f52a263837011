import Base
import Glibc
import Messages
import RPC

/// What killing and relieving leaders showed.
struct FailoverFigures: Sendable {
  /// In milliseconds, sorted.
  var firstWrites: [Double] = []
  var transfers: [Double] = []
  var acknowledged: UInt64 = 0
  var lost = 0
  var loadSeconds = 0.0
  var electionsUnderLoad: UInt64 = 0
  var writesPerSecondUnderLoad = 0.0

  /// The smallest value that so many percent do not exceed.
  private static func percentile(_ sorted: [Double], _ percent: Double) -> Double {
    guard !sorted.isEmpty else { return 0 }
    let rank = Int((percent / 100 * Double(sorted.count)).rounded(.up))
    return sorted[max(1, rank) - 1]
  }

  var line: JSONObject {
    var line: JSONObject = [
      "first_write_ms_p50": JSONValue(Self.percentile(firstWrites, 50)),
      "first_write_ms_p99": JSONValue(Self.percentile(firstWrites, 99)),
      "first_write_ms_max": JSONValue(firstWrites.last ?? 0),
      "first_write_ms": .array(firstWrites.map { JSONValue($0) }),
      "kills": JSONValue(firstWrites.count),
      "transfer_ms_p50": JSONValue(Self.percentile(transfers, 50)),
      "transfer_ms_max": JSONValue(transfers.last ?? 0), "transfers": JSONValue(transfers.count),
      "acknowledged": JSONValue(acknowledged), "lost": JSONValue(lost),
      "load_seconds": JSONValue(loadSeconds),
      "elections_under_load": JSONValue(electionsUnderLoad),
      "writes_per_s_under_load": JSONValue(writesPerSecondUnderLoad),
    ]
    BenchContext.add(to: &line)
    return line
  }

  func print(to output: Output) {
    var table = Table([.init("figure"), .init("value", .right), .init("unit")])
    func add(_ name: String, _ value: Double, _ unit: String) {
      table.add([name, Units.fixed(value, digits: 0), unit])
    }
    add("first write after a kill, median", Self.percentile(firstWrites, 50), "ms")
    add("first write after a kill, 99 %", Self.percentile(firstWrites, 99), "ms")
    add("pause about a handover, median", Self.percentile(transfers, 50), "ms")
    add("pause about a handover, longest", transfers.last ?? 0, "ms")
    table.add(["elections with every core busy", "\(electionsUnderLoad)", ""])
    add("writes meanwhile", writesPerSecondUnderLoad, "1/s")
    table.add(["writes acknowledged", "\(acknowledged)", ""])
    table.add(["of them lost", "\(lost)", ""])
    output.print(table)
    output.print(
      "\(Units.count(firstWrites.count, "kill")), \(Units.count(transfers.count, "handover")), "
        + "\(Units.fixed(loadSeconds, digits: 0)) s of load, \(Build.kind) build, "
        + "\(BenchContext.machine())")
  }
}

/// Writers that never pause, and what they were acknowledged.
private final class Writers: Sendable {
  struct Seen {
    /// Largest number acknowledged to each writer.
    var acknowledged: [UInt64]
    var count: UInt64 = 0
    /// A write that began after this is looked for.
    var awaitsAfter: UInt64?
    var found: UInt64?
    var lastAcknowledgement: UInt64 = 0
    var longestPause: UInt64 = 0
  }

  private let seen: Locked<Seen>
  private let writes: QuotaWrites
  private let clock = SystemClock()
  let count: Int

  init(_ masters: ServiceClient, count: Int) {
    self.count = count
    writes = QuotaWrites(masters: masters, ownersPerCaller: 1)
    seen = Locked(Seen(acknowledged: [UInt64](repeating: 0, count: count)))
  }

  func run() async {
    await withTaskGroup(of: Void.self) { group in
      for writer in 0..<count {
        group.addTask {
          var number: UInt64 = 0
          while !Task.isCancelled {
            await self.write(writer, number)
            number += 1
          }
        }
      }
    }
  }

  private func write(_ writer: Int, _ number: UInt64) async {
    let began = clock.monotonicNanoseconds()
    // What fails may have been done: the number is not used again, so that the next one is larger in any case.
    do { try await writes.write(writer, number) } catch { return }
    let now = clock.monotonicNanoseconds()
    seen.withLock { seen in
      seen.acknowledged[writer] = number + 1
      seen.count += 1
      if let after = seen.awaitsAfter, began >= after, seen.found == nil { seen.found = now }
      if seen.lastAcknowledgement > 0 {
        seen.longestPause = max(seen.longestPause, now - min(now, seen.lastAcknowledgement))
      }
      seen.lastAcknowledgement = now
    }
  }

  var acknowledgedCount: UInt64 { seen.withLock { $0.count } }
  var acknowledged: [UInt64] { seen.withLock { $0.acknowledged } }

  /// When a write was acknowledged that began after this moment.
  func firstWrite(after moment: UInt64, patienceSeconds: Double) async throws -> UInt64 {
    seen.withLock { ($0.awaitsAfter, $0.found) = (moment, nil) }
    let deadline = moment + UInt64(patienceSeconds * 1e9)
    while clock.monotonicNanoseconds() < deadline {
      if let found = seen.withLock({ $0.found }) { return found }
      try await Task.sleep(for: .milliseconds(2))
    }
    throw CommandFailure(.temporary, "no write was acknowledged for \(Int(patienceSeconds)) s")
  }

  /// The longest time between two acknowledgements while `body` runs, in nanoseconds.
  func longestPause(_ body: () async throws -> Void) async throws -> UInt64 {
    seen.withLock { $0.longestPause = 0 }
    try await body()
    return seen.withLock { $0.longestPause }
  }
}

/// Takes the leadership from masters that are written to, in two ways, and gives nobody a reason to take it.
struct FailoverBench: Sendable {
  let cluster: DevCluster
  let output: Output

  private static let writers = 4
  private static let patienceSeconds = 60.0
  private let clock = SystemClock()

  init(cluster: DevCluster, output: Output) {
    self.cluster = cluster
    self.output = output
  }

  func run(kills: Int, transfers: Int, loadSeconds: Double) async throws -> FailoverFigures {
    let connection = try await cluster.connect()
    let writers = Writers(try connection.master(), count: Self.writers)
    var figures = try await withThrowingTaskGroup(
      of: Void.self, returning: FailoverFigures.self
    ) { group in
      group.addTask { await writers.run() }
      defer { group.cancelAll() }
      var figures = FailoverFigures()
      for number in 1...kills {
        figures.firstWrites.append(try await kill(writers))
        output.remark(
          "kill \(number) of \(kills): "
            + "\(Units.fixed(figures.firstWrites.last ?? 0, digits: 0)) ms")
      }
      for number in 0..<transfers {
        figures.transfers.append(try await transfer(writers))
        output.remark(
          "handover \(number + 1) of \(transfers): "
            + "\(Units.fixed(figures.transfers.last ?? 0, digits: 1)) ms")
      }
      figures.loadSeconds = loadSeconds
      if loadSeconds > 0 {
        output.remark("keeping every core busy for \(Units.fixed(loadSeconds, digits: 0)) s")
        try await load(writers, loadSeconds, &figures)
      }
      return figures
    }
    figures.firstWrites.sort()
    figures.transfers.sort()
    figures.acknowledged = writers.acknowledgedCount
    figures.lost = try await lost(writers.acknowledged, connection)
    return figures
  }

  /// A connection of its own each time: who leads is asked anew.
  private func leader() async throws -> LeaderCalls {
    try await LeaderCalls(try await cluster.connect(), CallTimeouts())
  }

  /// Milliseconds from the kill until a write was acknowledged that began after it.
  private func kill(_ writers: Writers) async throws -> Double {
    try await waitUntilAllFollow()
    let node = try cluster.node(try await leader().status.leader)
    guard let process = cluster.processes.running(node) else {
      throw CommandFailure(.unavailable, "\(node.name) has ended by itself")
    }
    try ProcessTable.signal(process, SIGKILL)
    let killed = clock.monotonicNanoseconds()
    let found = try await writers.firstWrite(
      after: killed, patienceSeconds: Self.patienceSeconds)
    // It is gone; this takes its file away too.
    _ = try cluster.processes.kill(node)
    _ = try cluster.processes.start(node)
    return Double(found - killed) / 1e6
  }

  /// Milliseconds for which nothing was acknowledged while another master took over.
  private func transfer(_ writers: Writers) async throws -> Double {
    try await waitUntilAllFollow()
    let leader = try await leader()
    let pause = try await writers.longestPause {
      _ = try await leader.call(
        ConsensusMethods.transferLeadership, TransferLeadershipRequest(), during: "handing over")
      try await Task.sleep(for: .milliseconds(300))
    }
    return Double(pause) / 1e6
  }

  /// Until all three voters say themselves that they follow one leader, and have its log but for what is on its way; then a
  /// moment longer, so that blows fall at any time between two heartbeats and after the last one is forgotten.
  private func waitUntilAllFollow() async throws {
    let connection = try await cluster.connect()
    let voters = cluster.plan.nodes(.master) + cluster.plan.nodes(.witness)
    let deadline = clock.monotonicNanoseconds() + UInt64(Self.patienceSeconds * 1e9)
    while !(await follow(voters, connection)) {
      guard clock.monotonicNanoseconds() < deadline else {
        throw CommandFailure(.temporary, "a voter has not come back")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
    try await Task.sleep(for: .milliseconds(Double.random(in: 700...1000)))
  }

  private func follow(_ voters: [DevNode], _ connection: ClusterConnection) async -> Bool {
    var answers: [ConsensusStatusReply] = []
    for voter in voters {
      let channel = connection.channel(to: voter.address, role: voter.role, node: voter.name)
      guard
        let answer = try? await channel.unary(
          ConsensusMethods.consensusStatus, Empty(), CallOptions(timeout: .seconds(2)))
      else { return false }
      answers.append(answer)
    }
    guard let leader = answers.first(where: { $0.node == $0.leader }) else { return false }
    return answers.allSatisfy {
      $0.leader == leader.node && $0.term == leader.term && $0.lastIndex + 1000 > leader.lastIndex
    }
  }

  private func load(
    _ writers: Writers, _ seconds: Double, _ figures: inout FailoverFigures
  ) async throws {
    try await waitUntilAllFollow()
    let termBefore = try await leader().status.term
    let before = writers.acknowledgedCount
    let isOver = Locked(false)
    for _ in 0..<max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))) {
      _ = startDetachedThread {
        var number: UInt64 = 1
        while !isOver.withLock({ $0 }) {
          for _ in 0..<100_000 { number = number &* 6_364_136_223_846_793_005 &+ 1 }
          if number == 0 { return }
        }
      }
    }
    defer { isOver.withLock { $0 = true } }
    try await Task.sleep(for: .seconds(seconds))
    figures.writesPerSecondUnderLoad = Double(writers.acknowledgedCount - before) / seconds
    figures.electionsUnderLoad = try await leader().status.term - termBefore
  }

  /// Writers whose last acknowledged number the masters do not have.
  private func lost(_ acknowledged: [UInt64], _ connection: ClusterConnection) async throws -> Int {
    let owners = try await MasterCalls(connection, CallTimeouts()).call(
      MasterCloudMethods.listOwners, Empty(), during: "asking for what was written")
    let there = Dictionary(
      owners.owners.map { ($0.owner, $0.maximumBytes) }, uniquingKeysWith: { first, _ in first })
    return acknowledged.enumerated().count { writer, number in
      there[QuotaWrites.owner(writer, 0), default: 0] < number
    }
  }
}
